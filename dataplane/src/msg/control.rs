//! What control-plane tells every coordinator: link `control_validate`, one message a frag.
//!
//! A coordinator knows no chain. It is told against what to judge: the pool's context (tip + 1) whenever the tip moves, and the
//! context of each foreign block while that block is open. Frags of `block_validate` name a block that was opened before;
//! `CloseBlock` comes once the last frag of the block was sent: what was sent is still judged, then the block is forgotten.
//! With several coordinators a transaction may wait for a parent that another one has not taken yet; control-plane, which
//! counts verdicts, says `CloseBlock` again when no more come, and whatever still waits ends as `MissingInput`.
//!
//! ```text
//! 0     1       4       8        12    16      20
//! | tag | flags | block | height | mtp | rules |
//! ```

use super::Context;
use super::wire::{In, Out};

/// One frag on `control_validate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidateControl {
    /// The pool is judged against this from now on (`block` is 0).
    SetPool {
        /// Tip + 1.
        context: Context,
    },
    /// Transactions of `context.block` follow on `block_validate`.
    OpenBlock {
        /// The block's number (not 0), height, median time past of its parent, flags.
        context: Context,
        /// Only scripts and values are judged, over coins imported for each input: no finality, no linkage, nothing is spent.
        inputs_only: bool,
    },
    /// Nothing more of this block will come. Said again: what still waits for a parent ends as `MissingInput`.
    CloseBlock {
        /// The block's number.
        block: u32,
    },
    /// Put a `Request::Barrier` behind everything that was written for each shard. When a shard has read one of each coordinator,
    /// nothing that was judged before this message is on its way any more.
    Barrier {
        /// Its number; they only grow.
        number: u32,
    },
}

const SET_POOL: u8 = 1;
const OPEN_BLOCK: u8 = 2;
const CLOSE_BLOCK: u8 = 3;
const BARRIER: u8 = 4;

impl ValidateControl {
    /// Bytes of a frag.
    pub const LEN: usize = 20;

    /// Writes the frag.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let (tag, flags, context) = match self {
            Self::SetPool { context } => (SET_POOL, 0, *context),
            Self::OpenBlock { context, inputs_only } => {
                (OPEN_BLOCK, u8::from(*inputs_only), *context)
            }
            Self::CloseBlock { block } => {
                (CLOSE_BLOCK, 0, Context { block: *block, ..Context::default() })
            }
            Self::Barrier { number } => {
                (BARRIER, 0, Context { block: *number, ..Context::default() })
            }
        };
        let mut bytes = [0; Self::LEN];
        let mut w = Out::new(&mut bytes);
        w.u8(tag);
        w.u8(flags);
        w.u16(0);
        w.u32(context.block);
        w.u32(context.height);
        w.u32(context.median_time_past);
        w.u32(context.rule_set);
        bytes
    }

    /// Reads a frag.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let tag = r.u8()?;
        let flags = r.u8()?;
        r.u16()?;
        let context = Context {
            block: r.u32()?,
            height: r.u32()?,
            median_time_past: r.u32()?,
            rule_set: r.u32()?,
        };
        let message = match (tag, flags) {
            (SET_POOL, 0) if context.block == 0 => Self::SetPool { context },
            (OPEN_BLOCK, 0 | 1) if context.block != 0 => {
                Self::OpenBlock { context, inputs_only: flags == 1 }
            }
            (CLOSE_BLOCK, 0) if context.block != 0 => Self::CloseBlock { block: context.block },
            (BARRIER, 0) => Self::Barrier { number: context.block },
            _ => return None,
        };
        r.is_empty().then_some(message)
    }
}
