//! What pack says of each released subtree (`pack_store`; consumers store, relay): a head, then its leaves in pieces.
//!
//! The pieces of one subtree follow each other; `Dropped` ends one whose transactions changed under it. Together they are the
//! content of a Teranode `.subtree` file, and the head's root is its name.

use super::pack_control::{Record, Records};
use super::wire::{In, Out};
use consensus::hash::TxId;

/// One leaf of a subtree. The coinbase's place is 32 times 0xff without fee and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubtreeLeaf {
    /// Its id.
    pub txid: TxId,
    /// Its fee, satoshi.
    pub fee_sat: u64,
    /// Its raw size.
    pub size_bytes: u64,
}

impl Record for SubtreeLeaf {
    const LEN: usize = 48;

    fn write(&self, out: &mut [u8]) {
        let mut w = Out::new(out);
        w.txid(&self.txid);
        w.u64(self.fee_sat);
        w.u64(self.size_bytes);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        Some(Self { txid: r.txid()?, fee_sat: r.u64()?, size_bytes: r.u64()? })
    }
}

/// On `pack_store`; the frag's sig is the tag.
#[derive(Clone, Copy, Debug)]
pub enum SubtreeFrag<'a> {
    /// A subtree begins.
    Head {
        /// Counts released subtrees, from 1.
        number: u64,
        /// Its place in the block being made.
        index: u32,
        /// Number of leaves; below the others' only for the last, short one.
        leaves: u32,
        /// Bitcoin merkle root of its leaves, the placeholder taken as a leaf.
        root: TxId,
        /// Sum of the fees.
        fees_sat: u64,
        /// Sum of the sizes.
        size_bytes: u64,
    },
    /// The next of its leaves.
    Leaves {
        /// Of which subtree.
        number: u64,
        /// The leaves.
        leaves: Records<'a, SubtreeLeaf>,
    },
    /// Forget the subtree that was begun.
    Dropped {
        /// Which.
        number: u64,
    },
}

impl SubtreeFrag<'_> {
    /// The tag, also the frag's sig.
    pub fn tag(&self) -> u8 {
        match self {
            Self::Head { .. } => 1,
            Self::Leaves { .. } => 2,
            Self::Dropped { .. } => 3,
        }
    }

    /// Writes the frag; `None` when it does not fit.
    pub fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        w.u8(self.tag());
        match self {
            Self::Head { number, index, leaves, root, fees_sat, size_bytes } => {
                w.u64(*number);
                w.u32(*index);
                w.u32(*leaves);
                w.txid(root);
                w.u64(*fees_sat);
                w.u64(*size_bytes);
            }
            Self::Leaves { number, leaves } => {
                w.u64(*number);
                leaves.put(&mut w);
            }
            Self::Dropped { number } => w.u64(*number),
        }
        w.fits().then_some(w.len())
    }
}

impl<'a> SubtreeFrag<'a> {
    /// Reads a frag.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let frag = match r.u8()? {
            1 => Self::Head {
                number: r.u64()?,
                index: r.u32()?,
                leaves: r.u32()?,
                root: r.txid()?,
                fees_sat: r.u64()?,
                size_bytes: r.u64()?,
            },
            2 => Self::Leaves { number: r.u64()?, leaves: Records::take(&mut r)? },
            3 => Self::Dropped { number: r.u64()? },
            _ => return None,
        };
        r.is_empty().then_some(frag)
    }
}
