//! The eight bytes at the front of Teranode's files.
//!
//! ASCII, padded with spaces; old seed files have a zero byte where a space belongs. Source: Teranode `pkg/fileformat`.

use crate::wire::{ParseError, ParseErrorKind};

macro_rules! file_kinds {
    ($($(#[$doc:meta])* $name:ident = $magic:literal, $extension:literal;)*) => {
        /// What a file holds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FileKind {
            $($(#[$doc])* $name,)*
        }

        impl FileKind {
            /// Every kind.
            pub const ALL: &'static [FileKind] = &[$(FileKind::$name),*];

            /// The bytes at the front.
            pub const fn magic(self) -> &'static [u8; 8] {
                match self {
                    $(Self::$name => $magic,)*
                }
            }

            /// The end of the file's name, without its dot.
            pub const fn extension(self) -> &'static str {
                match self {
                    $(Self::$name => $extension,)*
                }
            }
        }
    };
}

file_kinds! {
    /// Outputs a block added.
    UtxoAdditions = b"U-A-1.0 ", "utxo-additions";
    /// Outputs a block spent.
    UtxoDeletions = b"U-D-1.0 ", "utxo-deletions";
    /// Headers of a seed.
    UtxoHeaders = b"U-H-1.0 ", "utxo-headers";
    /// All unspent outputs.
    UtxoSet = b"U-S-1.0 ", "utxo-set";
    /// A block.
    Block = b"B-1.0   ", "block";
    /// A validated subtree.
    Subtree = b"S-1.0   ", "subtree";
    /// A subtree that is still to be validated.
    SubtreeToCheck = b"SC-1.0  ", "subtreeToCheck";
    /// The transactions of a subtree.
    SubtreeData = b"SD-1.0  ", "subtreeData";
    /// The parents of a subtree's transactions.
    SubtreeMeta = b"SM-1.0  ", "subtreeMeta";
    /// A transaction.
    Tx = b"T-1.0   ", "tx";
    /// The outputs of a large transaction.
    Outputs = b"O-1.0   ", "outputs";
    /// A bloom filter.
    BloomFilter = b"BF-1.0  ", "bloomfilter";
    /// A block as the P2P network carries it.
    MsgBlock = b"MB-1.0  ", "msgBlock";
    /// Small state.
    Dat = b"DAT-1.0 ", "dat";
    /// Many small files in one.
    BatchData = b"BD-1.0  ", "batch-data";
    /// The names of the files in a batch.
    BatchKeys = b"BK-1.0  ", "batch-keys";
    /// Until when a file is kept.
    PreserveUntil = b"PU-1.0  ", "preserveUntil";
}

impl FileKind {
    /// Splits a file into its kind and what follows; `None` for bytes that begin with no known magic.
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let spaced = magic.map(|b| if b == 0 { b' ' } else { b });
        let kind = Self::ALL.iter().find(|kind| *kind.magic() == spaced)?;
        Some((*kind, rest))
    }

    /// What follows the magic of this kind; an error for another kind or none.
    pub fn expect(self, bytes: &[u8]) -> Result<&[u8], ParseError> {
        match Self::split(bytes) {
            Some((kind, rest)) if kind == self => Ok(rest),
            _ => {
                let mut got = [0; 8];
                let n = bytes.len().min(8);
                got[..n].copy_from_slice(&bytes[..n]);
                let got = u64::from_be_bytes(got);
                Err(ParseError { offset: 0, kind: ParseErrorKind::UnknownMarker { got } })
            }
        }
    }
}
