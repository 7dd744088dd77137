//! Names of sessions: which link a packet's `key_id` belongs to.
//!
//! In: a link that needs a name. Out: sixteen random bits that no other session here has. One array of 65,536 places, made
//! once: looking up a packet from anywhere costs one load.

use super::entropy::Entropy;
use crate::peer::PeerId;

const NONE: u16 = u16::MAX;

/// The table.
#[derive(Debug)]
pub struct KeyTable {
    links: Box<[u16]>,
    used: usize,
}

impl Default for KeyTable {
    fn default() -> Self {
        Self { links: vec![NONE; 1 << 16].into(), used: 0 }
    }
}

impl KeyTable {
    /// A name for a session of `peer`.
    pub fn take(&mut self, peer: PeerId, entropy: &mut Entropy) -> u16 {
        assert!(self.used < 1 << 15, "{} sessions: more than half the names", self.used);
        loop {
            let key_id = entropy.word() as u16;
            let slot = &mut self.links[usize::from(key_id)];
            if *slot == NONE {
                *slot = peer.0;
                self.used += 1;
                return key_id;
            }
        }
    }

    /// The name may be used again.
    pub fn free(&mut self, key_id: u16) {
        let slot = &mut self.links[usize::from(key_id)];
        assert!(*slot != NONE, "session {key_id} freed twice");
        *slot = NONE;
        self.used -= 1;
    }

    /// Whose session it is.
    pub fn peer(&self, key_id: u16) -> Option<PeerId> {
        let peer = self.links[usize::from(key_id)];
        (peer != NONE).then_some(PeerId(peer))
    }

    /// Sessions there are.
    pub fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_until_they_are_given_back() {
        let mut table = KeyTable::default();
        let mut entropy = Entropy::new(&[6; 32], b"names");
        let names: Vec<u16> = (0..500).map(|at| table.take(PeerId(at), &mut entropy)).collect();
        for (at, &name) in names.iter().enumerate() {
            assert_eq!(table.peer(name), Some(PeerId(at as u16)));
        }
        names.iter().for_each(|&name| table.free(name));
        assert_eq!((table.used(), table.peer(names[0])), (0, None));
    }
}
