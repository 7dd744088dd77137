//! What the sig of a frag on `chain_bfr` or `bfr_chain` says: what the frag is, and whom it is for or from.
//!
//! ```text
//!  0     8                24
//!  | what | peer + 1, or 0 |  zero ...
//! ```
//!
//! `what` is a class, or [`PEER_UP`]: a frag without a payload that says that a link came up.

use crate::{Class, PeerId};

/// `what` of a frag that says that a link came up.
const PEER_UP: u64 = 0xff;

/// What a frag is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// An object of this class: for a peer, or from one; for all where there is none.
    Object {
        /// What it is.
        class: Class,
        /// Whose.
        peer: Option<PeerId>,
    },
    /// The link to this peer carries objects now.
    PeerUp {
        /// Whose.
        peer: PeerId,
    },
}

fn place(peer: Option<PeerId>) -> u64 {
    peer.map_or(0, |peer| (u64::from(peer.0) + 1) << 8)
}

impl Note {
    /// The sig that says so.
    pub fn sig(self) -> u64 {
        match self {
            Self::Object { class, peer } => class as u64 | place(peer),
            Self::PeerUp { peer } => PEER_UP | place(Some(peer)),
        }
    }

    /// What a sig says; `None` if no writer of ours made it.
    pub fn of(sig: u64) -> Option<Self> {
        let peer = match sig >> 8 {
            0 => None,
            above => Some(PeerId(u16::try_from(above - 1).ok()?)),
        };
        if sig & 0xff == PEER_UP {
            return peer.map(|peer| Self::PeerUp { peer });
        }
        let class = [Class::Header, Class::Block, Class::Subtree, Class::Bundle, Class::Opaque]
            .into_iter()
            .find(|class| *class as u64 == sig & 0xff)?;
        Some(Self::Object { class, peer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_comes_back_and_nothing_else_is_one() {
        for peer in [None, Some(PeerId(0)), Some(PeerId(u16::MAX))] {
            for class in [Class::Header, Class::Block, Class::Subtree, Class::Opaque] {
                let note = Note::Object { class, peer };
                assert_eq!(Note::of(note.sig()), Some(note));
            }
        }
        let up = Note::PeerUp { peer: PeerId(7) };
        assert_eq!(Note::of(up.sig()), Some(up));
        assert_eq!(Note::of(Class::Block as u64).map(Note::sig), Some(Class::Block as u64));
        for wrong in [PEER_UP, 9, u64::MAX, 1 << 30] {
            assert_eq!(Note::of(wrong), None, "{wrong:#x}");
        }
    }
}
