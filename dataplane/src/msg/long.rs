//! What a coordinator hands to the slow lane (`validate_long`) and hears back (`long_validate`).
//!
//! A transaction goes over once (`Begin`), then its inputs one by one as their coins become known, then `End`. Each input is
//! answered once. The order on the link is the order of effect; a frag holds one message, large ones travel as large frags.

use super::wire::{In, Out};
use super::{Context, Ticket};
use consensus::hash::TxId;

/// One frag on `validate_long`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongRequest<'a> {
    /// Here is a transaction; inputs of it follow.
    Begin {
        /// Whose.
        ticket: Ticket,
        /// Its id.
        txid: TxId,
        /// Against what it is judged; block contexts have no cost bound.
        context: Context,
        /// As it came, raw or extended.
        tx: &'a [u8],
    },
    /// Run the scripts of one input over this coin.
    Input {
        /// Whose.
        ticket: Ticket,
        /// Index of the input.
        vin: u32,
        /// Value of the coin.
        value_sat: u64,
        /// Height of the coin.
        coin_height: u32,
        /// Its locking script.
        locking_script: &'a [u8],
    },
    /// Forget the transaction; stop what runs of it.
    End {
        /// Whose.
        ticket: Ticket,
    },
    /// Verify a signature again that the kernel accepted. No answer: a disagreement turns the kernel off for the process.
    Audit {
        /// As `sigbatch::Audit` writes it.
        audit: &'a [u8],
    },
}

/// How the scripts of one input ended on the slow lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongOutcome {
    /// They succeeded.
    Passed,
    /// They failed with this `consensus::script::ScriptError`.
    Failed {
        /// Its number.
        error: u8,
    },
    /// They cost more than the pool allows.
    TooCostly,
    /// The lane is full; nothing was run.
    Overloaded,
}

/// One frag on `long_validate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongReply {
    /// Whose.
    pub ticket: Ticket,
    /// Index of the input.
    pub vin: u32,
    /// How it ended.
    pub outcome: LongOutcome,
}

const LONG_HEAD_LEN: usize = 9 + 32 + 16;
const BEGIN: u8 = 1;
const INPUT: u8 = 2;
const END: u8 = 3;
const AUDIT: u8 = 4;
/// An audit belongs to no transaction.
const NOBODY: Ticket = Ticket { slot: 0, attempt: 0 };

impl<'a> LongRequest<'a> {
    /// Bytes of the longest `Begin` or `Input` without its transaction or script.
    pub const HEAD_LEN: usize = LONG_HEAD_LEN;

    /// Bytes the frag takes.
    pub fn encoded_len(&self) -> usize {
        9 + match self {
            Self::Begin { tx, .. } => 32 + 16 + tx.len(),
            Self::Input { locking_script, .. } => 16 + locking_script.len(),
            Self::End { .. } => 0,
            Self::Audit { audit } => audit.len(),
        }
    }

    /// Writes the frag; `None` when `buf` is shorter than [`LongRequest::encoded_len`].
    pub fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        let w = &mut w;
        let mut head = |tag: u8, t: &Ticket| {
            w.u8(tag);
            w.u32(t.slot);
            w.u32(t.attempt);
        };
        match self {
            Self::Begin { ticket, txid, context, tx } => {
                head(BEGIN, ticket);
                w.txid(txid);
                w.u32(context.block);
                w.u32(context.height);
                w.u32(context.median_time_past);
                w.u32(context.rule_set);
                w.bytes(tx);
            }
            Self::Input { ticket, vin, value_sat, coin_height, locking_script } => {
                head(INPUT, ticket);
                w.u32(*vin);
                w.u64(*value_sat);
                w.u32(*coin_height);
                w.bytes(locking_script);
            }
            Self::End { ticket } => head(END, ticket),
            Self::Audit { audit } => {
                head(AUDIT, &NOBODY);
                w.bytes(audit);
            }
        }
        w.fits().then_some(w.len())
    }

    /// The message in two parts: what stands in front (its length is given), and the bytes behind it.
    pub fn split(&self, head: &mut [u8; LONG_HEAD_LEN]) -> (usize, &'a [u8]) {
        let (empty, tail) = match *self {
            Self::Begin { ticket, txid, context, tx } => {
                (Self::Begin { ticket, txid, context, tx: &[] }, tx)
            }
            Self::Input { ticket, vin, value_sat, coin_height, locking_script } => (
                Self::Input { ticket, vin, value_sat, coin_height, locking_script: &[] },
                locking_script,
            ),
            Self::End { ticket } => (Self::End { ticket }, &[][..]),
            Self::Audit { audit } => (Self::Audit { audit: &[] }, audit),
        };
        (empty.encode(head).expect("every head fits the longest head"), tail)
    }

    /// Reads a frag.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let tag = r.u8()?;
        let ticket = Ticket { slot: r.u32()?, attempt: r.u32()? };
        match tag {
            BEGIN => {
                let txid = r.txid()?;
                let context = Context {
                    block: r.u32()?,
                    height: r.u32()?,
                    median_time_past: r.u32()?,
                    rule_set: r.u32()?,
                };
                Some(Self::Begin { ticket, txid, context, tx: r.rest() })
            }
            INPUT => Some(Self::Input {
                ticket,
                vin: r.u32()?,
                value_sat: r.u64()?,
                coin_height: r.u32()?,
                locking_script: r.rest(),
            }),
            END => r.is_empty().then_some(Self::End { ticket }),
            AUDIT => (ticket == NOBODY).then(|| Self::Audit { audit: r.rest() }),
            _ => None,
        }
    }
}

impl LongReply {
    /// Bytes of a frag.
    pub const LEN: usize = 16;

    /// Writes the frag.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let (outcome, error) = match self.outcome {
            LongOutcome::Passed => (0, 0),
            LongOutcome::Failed { error } => (1, error),
            LongOutcome::TooCostly => (2, 0),
            LongOutcome::Overloaded => (3, 0),
        };
        let mut bytes = [0; Self::LEN];
        let mut w = Out::new(&mut bytes);
        w.u32(self.ticket.slot);
        w.u32(self.ticket.attempt);
        w.u32(self.vin);
        w.u8(outcome);
        w.u8(error);
        w.u16(0);
        bytes
    }

    /// Reads a frag.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let ticket = Ticket { slot: r.u32()?, attempt: r.u32()? };
        let vin = r.u32()?;
        let outcome = match (r.u8()?, r.u8()?) {
            (0, 0) => LongOutcome::Passed,
            (1, error) => LongOutcome::Failed { error },
            (2, 0) => LongOutcome::TooCostly,
            (3, 0) => LongOutcome::Overloaded,
            _ => return None,
        };
        r.u16()?;
        r.is_empty().then_some(Self { ticket, vin, outcome })
    }
}
