//! Headers for a relay without a node: work above a floor is what it asks for.
//!
//! A relay of its own has no chain and cannot compute what a header's target must be. The operator names a floor; whatever
//! meets it is worth relaying, and costs whoever wants to fill our memory that much work a block. Parents are known when their
//! header came through here; trusted peers may start anywhere.

use crate::lookup::HeaderView;
use std::collections::{HashSet, VecDeque};

/// Headers that are remembered.
pub const HEADERS_MAX: usize = 65_536;

/// The newest headers.
#[derive(Debug)]
pub struct HeaderStore {
    floor_bits: u32,
    known: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl HeaderStore {
    /// No headers; each must meet the target of `floor_bits`.
    pub fn new(floor_bits: u32) -> Self {
        Self { floor_bits, known: HashSet::new(), order: VecDeque::new() }
    }
}

impl HeaderView for HeaderStore {
    fn parent_known(&self, hash: &[u8; 32]) -> bool {
        self.known.contains(hash)
    }

    fn required_bits(&self, _parent: &[u8; 32], _time_s: u32) -> Option<u32> {
        Some(self.floor_bits)
    }

    fn accepted(&mut self, header: &[u8; 80]) {
        let hash = consensus::hash::sha256d(header);
        if !self.known.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > HEADERS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_makes_its_children_welcome_until_it_is_forgotten() {
        let mut store = HeaderStore::new(0x1d00_ffff);
        let header = |number: u32| {
            let mut header = [0; 80];
            header[76..].copy_from_slice(&number.to_le_bytes());
            header
        };
        let hash = |number| consensus::hash::sha256d(&header(number));
        assert!(!store.parent_known(&hash(0)));
        store.accepted(&header(0));
        store.accepted(&header(0));
        assert!(store.parent_known(&hash(0)));
        (1..=HEADERS_MAX as u32).for_each(|number| store.accepted(&header(number)));
        assert!(!store.parent_known(&hash(0)));
        assert!(store.parent_known(&hash(1)));
    }
}
