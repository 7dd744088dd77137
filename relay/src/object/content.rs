//! A whole object: every data symbol of it, for sending and for minting parity.
//!
//! In: the host's bytes, or what an assembly put together. Out: symbols. The payload is not copied: a symbol is a slice of
//! it, except the first, which starts with the head, and the last, which is padded.

use super::head::{Form, HEAD_LEN, Head, hash_leaves, hash_object};
use super::shape::Shape;
use crate::wire::Class;
use sigbatch::Hasher;
use std::sync::Arc;

/// The symbols of a whole object.
#[derive(Debug)]
pub struct Content {
    shape: Shape,
    first: Vec<u8>,
    payload: Arc<[u8]>,
    /// Where the object's part of `payload` starts.
    start: usize,
    last: Vec<u8>,
}

impl Content {
    /// Cuts what stands in `payload` from `start` on into symbols and hashes them. Also gives the hash.
    ///
    /// Cost: one SHA-256 of the payload, sixteen symbols side by side.
    pub fn cut(
        class: Class,
        form: Form,
        raw_len: u32,
        payload: Arc<[u8]>,
        start: usize,
        proved: bool,
        hasher: &Hasher,
    ) -> (Self, [u8; 32]) {
        let shape = Shape::of((HEAD_LEN + payload.len() - start) as u32, proved);
        let head = Head { hash: [0; 32], form, raw_len };
        let mut content = Self::with_head(shape, head, payload, start);
        let mut leaves = vec![[0; 32]; shape.symbols()];
        hash_leaves(hasher, |i| (i, content.symbol(i)), &mut leaves);
        let hash = hash_object(class, &shape, &leaves);
        content.first[..32].copy_from_slice(&hash);
        (content, hash)
    }

    /// The symbols of an object whose hash is known to be right.
    pub fn with_head(shape: Shape, head: Head, payload: Arc<[u8]>, start: usize) -> Self {
        let own = &payload[start..];
        let symbol = shape.symbol_len();
        let mut first = Vec::with_capacity(symbol);
        first.extend_from_slice(&head.write());
        first.extend_from_slice(&own[..own.len().min(symbol - HEAD_LEN)]);
        first.resize(symbol, 0);
        let mut last = Vec::new();
        if shape.symbols() > 1 {
            last.extend_from_slice(&own[(shape.symbols() - 1) * symbol - HEAD_LEN..]);
            last.resize(symbol, 0);
        }
        Self { shape, first, payload, start, last }
    }

    /// How it is cut.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The payload as it travels, and where it starts in the bytes.
    pub fn payload(&self) -> (Arc<[u8]>, usize) {
        (self.payload.clone(), self.start)
    }

    /// Data symbol `index`.
    pub fn symbol(&self, index: usize) -> &[u8] {
        let len = self.shape.symbol_len();
        if index == 0 {
            &self.first
        } else if index + 1 == self.shape.symbols() {
            &self.last
        } else {
            &self.payload[self.start + index * len - HEAD_LEN..][..len]
        }
    }
}
