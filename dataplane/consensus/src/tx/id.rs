//! Transaction ids in pieces.
//!
//! Hashing a 1 GB transaction takes about a second, far longer than a turn may last. [`TxIdState`] remembers where hashing
//! stopped and holds no borrow, so a tile can keep it between turns; [`TxIdHasher`] is the same with its view inside.

use super::TxView;
use crate::hash::{Sha256d, TxId};

/// How far the hashing of one transaction has come.
#[derive(Clone, Debug, Default)]
pub struct TxIdState {
    hash: Sha256d,
    chunk: usize,
    offset: usize,
}

impl TxIdState {
    /// Starts at the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes at most `max_bytes` more of `view`, which must be the same transaction at every call.
    ///
    /// Returns the id when the last byte is hashed, and starts anew after that.
    pub fn advance(&mut self, view: TxView<'_>, max_bytes: u64) -> Option<TxId> {
        let mut left = max_bytes;
        let chunks = view.chunk_count();
        while self.chunk < chunks {
            let rest = &view.chunk(self.chunk)[self.offset..];
            let n = (rest.len() as u64).min(left) as usize;
            self.hash.update(&rest[..n]);
            left -= n as u64;
            if n < rest.len() {
                self.offset += n;
                return None;
            }
            self.chunk += 1;
            self.offset = 0;
        }
        Some(TxId(std::mem::take(self).hash.finish()))
    }
}

/// Hashes one transaction in pieces.
#[derive(Clone, Debug)]
pub struct TxIdHasher<'a> {
    view: TxView<'a>,
    state: TxIdState,
}

impl<'a> TxIdHasher<'a> {
    /// Starts at the first byte of `view`.
    pub fn new(view: TxView<'a>) -> Self {
        Self { view, state: TxIdState::new() }
    }

    /// Hashes at most `max_bytes` more; the id once all are hashed.
    pub fn advance(&mut self, max_bytes: u64) -> Option<TxId> {
        self.state.advance(self.view, max_bytes)
    }
}
