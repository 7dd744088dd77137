//! What a coordinator (a validate tile) asks of a shard: link `validate_shard`.
//!
//! Order on the link is the order of effect. The life of one attempt: `Announce` and `Seen` to home, `Resolve` to the owner of
//! each input; then `Reserve` to each owner; then `Settle` to home; after home's `Decided`, `Spend` to the owners. Where home
//! owns every input, `Commit` is reserve, settle and spend in one. `Release` ends holds and list entries of an attempt,
//! `Watch` waits for an outpoint to appear (orphans), `Withdraw` takes an announcement back.

use super::accepted::ParentSeq;
use super::batch::Item;
use super::wire::{In, Out};
use super::{Epoch, Ticket};
use consensus::hash::TxId;
use consensus::tx::OutPoint;

/// What the scripts of an input were run with; the owner compares before it reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Expect {
    /// Value of the coin.
    pub value_sat: u64,
    /// [`crate::partition::Partition::script_tag`] of the locking script.
    pub script_tag: u64,
    /// Height of the coin as the scripts saw it; tip + 1 for an unmined coin. Compared only with `height_matters`.
    pub coin_height: u32,
    /// Era of the coin as the scripts saw it (`consensus::params::Era` as a number). Always compared.
    pub coin_era: u8,
    /// A relative lock (BIP68) was judged by `coin_height`.
    pub height_matters: bool,
    /// Whether it was taken for a coinbase output.
    pub coinbase: bool,
    /// False where nothing was run yet and any coin will do.
    pub proven: bool,
}

/// One input of a reserve or commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputRef {
    /// Index of the input in its transaction.
    pub vin: u32,
    /// The coin.
    pub outpoint: OutPoint,
    /// What the scripts were run with.
    pub expect: Expect,
}

impl InputRef {
    /// Bytes of one encoded input.
    pub const LEN: usize = 4 + 36 + 8 + 8 + 4 + 2;

    fn write(&self, w: &mut Out<'_>) {
        w.u32(self.vin);
        w.outpoint(&self.outpoint);
        w.u64(self.expect.value_sat);
        w.u64(self.expect.script_tag);
        w.u32(self.expect.coin_height);
        w.u8(self.expect.coin_era);
        let e = &self.expect;
        w.u8(u8::from(e.coinbase) | u8::from(e.proven) << 1 | u8::from(e.height_matters) << 2);
    }

    fn read(r: &mut In<'_>) -> Option<Self> {
        let vin = r.u32()?;
        let outpoint = r.outpoint()?;
        let value_sat = r.u64()?;
        let script_tag = r.u64()?;
        let coin_height = r.u32()?;
        let coin_era = r.u8()?;
        let bits = r.u8()?;
        let expect = Expect {
            value_sat,
            script_tag,
            coin_height,
            coin_era,
            height_matters: bits & 4 != 0,
            coinbase: bits & 1 != 0,
            proven: bits & 2 != 0,
        };
        Some(Self { vin, outpoint, expect })
    }
}

/// Fixed-size records back to back, borrowed from a frag or from the sender's own memory.
#[derive(Clone, Copy, Debug)]
pub enum List<'a, T> {
    /// As they lie in a received frag.
    Wire(&'a [u8]),
    /// As the sender holds them.
    Own(&'a [T]),
}

macro_rules! list {
    ($t:ty, $len:expr) => {
        impl<'a> List<'a, $t> {
            /// Number of records.
            pub fn len(&self) -> usize {
                match self {
                    Self::Wire(bytes) => bytes.len() / $len,
                    Self::Own(items) => items.len(),
                }
            }

            /// True without records.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Record `i`; panics past the end.
            #[inline]
            pub fn get(&self, i: usize) -> $t {
                match self {
                    Self::Wire(bytes) => {
                        let mut r = In::new(&bytes[i * $len..(i + 1) * $len]);
                        <$t>::read(&mut r).expect("a list holds whole records")
                    }
                    Self::Own(items) => items[i],
                }
            }

            /// All records in order.
            pub fn iter(&self) -> impl Iterator<Item = $t> + use<'a> {
                let list = *self;
                (0..list.len()).map(move |i| list.get(i))
            }

            fn encode(&self, w: &mut Out<'_>) {
                w.u16(self.len() as u16);
                match self {
                    Self::Wire(bytes) => w.bytes(bytes),
                    Self::Own(items) => items.iter().for_each(|item| item.write(w)),
                }
            }

            fn decode(r: &mut In<'a>) -> Option<Self> {
                let count = usize::from(r.u16()?);
                Some(Self::Wire(r.bytes(count * $len)?))
            }
        }
    };
}

/// One coin a transaction spends, once it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpentInput {
    /// Index of the input in its transaction.
    pub vin: u32,
    /// The coin.
    pub outpoint: OutPoint,
}

impl SpentInput {
    /// Bytes of one encoded input.
    pub const LEN: usize = 40;

    fn write(&self, w: &mut Out<'_>) {
        w.u32(self.vin);
        w.outpoint(&self.outpoint);
    }

    fn read(r: &mut In<'_>) -> Option<Self> {
        Some(Self { vin: r.u32()?, outpoint: r.outpoint()? })
    }
}

impl ParentSeq {
    fn write(&self, w: &mut Out<'_>) {
        w.u16(self.shard);
        w.u64(self.seq);
    }

    fn read(r: &mut In<'_>) -> Option<Self> {
        Some(Self { shard: r.u16()?, seq: r.u64()? })
    }
}

list!(InputRef, InputRef::LEN);
list!(SpentInput, SpentInput::LEN);
list!(ParentSeq, ParentSeq::LEN);

/// Why an announcement is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WithdrawReason {
    /// The transaction is refused for good: its pending children are rejected.
    Rejected = 0,
    /// The transaction waits for a parent: its pending children become orphans.
    Orphaned = 1,
}

/// What home needs to decide a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Fee, satoshi.
    pub fee_sat: u64,
    /// Publish sequence reached, per shard other than home, by the transaction's unmined parents.
    pub parents: List<'a, ParentSeq>,
    /// The whole transaction (raw format); empty when the announcement of the same ticket already carried it.
    pub tx: &'a [u8],
}

/// One item of a batch on `validate_shard`.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// To home: here is a transaction in flight; answer resolves of its outputs with `Pending`.
    Announce {
        /// Whose.
        ticket: Ticket,
        /// Its id.
        txid: TxId,
        /// Raw format.
        tx: &'a [u8],
    },
    /// To home: is this transaction known?
    Seen {
        /// Whose.
        ticket: Ticket,
        /// Its id.
        txid: TxId,
    },
    /// To an owner: what is this coin?
    Resolve {
        /// Whose.
        ticket: Ticket,
        /// Index of the input.
        vin: u32,
        /// The coin.
        outpoint: OutPoint,
    },
    /// To an owner: hold these coins for me.
    Reserve {
        /// Whose.
        ticket: Ticket,
        /// The spender.
        txid: TxId,
        /// The coins.
        inputs: List<'a, InputRef>,
    },
    /// To home, which owns every input: reserve, settle and spend at once; if any input is refused, as `Reserve`.
    Commit {
        /// Whose.
        ticket: Ticket,
        /// The spender.
        txid: TxId,
        /// All its coins.
        inputs: List<'a, InputRef>,
        /// What to decide.
        decision: Decision<'a>,
    },
    /// To an owner: end holds and list entries of this ticket's attempt, and older ones of its slot, on these coins.
    Release {
        /// Whose.
        ticket: Ticket,
        /// The spender.
        txid: TxId,
        /// The coins, each with the input that waits for it.
        inputs: List<'a, SpentInput>,
    },
    /// To an owner: wake me when this coin exists or can no longer come to exist (orphans; ends with the first wake).
    Watch {
        /// Whose.
        ticket: Ticket,
        /// The coin.
        outpoint: OutPoint,
    },
    /// To an owner: the orphan is gone.
    Unwatch {
        /// Whose.
        ticket: Ticket,
        /// The coin.
        outpoint: OutPoint,
    },
    /// To home: the announcement is void.
    Withdraw {
        /// Whose.
        ticket: Ticket,
        /// Its id.
        txid: TxId,
        /// What becomes of its pending children.
        reason: WithdrawReason,
    },
    /// To home: every input is reserved, decide.
    Settle {
        /// Whose.
        ticket: Ticket,
        /// The spender.
        txid: TxId,
        /// What to decide.
        decision: Decision<'a>,
    },
    /// To an owner: home decided, spend what is held.
    Spend {
        /// Whose.
        ticket: Ticket,
        /// The spender.
        txid: TxId,
        /// Epoch of the decision; the spend is logged in this one or a later one.
        decided: Epoch,
        /// Publish sequence home gave the spender (from `Decided`): by it the owner knows whether the spender is mined.
        publish_seq: u64,
        /// The coins.
        inputs: List<'a, SpentInput>,
    },
    /// To home: all spends of this decision are logged, the last of them in `epoch` (for the truncation of its journal).
    SpendsLogged {
        /// The spender.
        txid: TxId,
        /// The newest epoch an owner logged in.
        epoch: Epoch,
    },
    /// To every shard: what this coordinator sent before stands before this (see `ValidateControl::Barrier`).
    Barrier {
        /// From the control plane.
        number: u32,
    },
}

const ANNOUNCE: u8 = 1;
const SEEN: u8 = 2;
const RESOLVE: u8 = 3;
const RESERVE: u8 = 4;
const COMMIT: u8 = 5;
const RELEASE: u8 = 6;
const WATCH: u8 = 7;
const UNWATCH: u8 = 8;
const WITHDRAW: u8 = 9;
const SETTLE: u8 = 10;
const SPEND: u8 = 11;
const SPENDS_LOGGED: u8 = 12;
const BARRIER: u8 = 13;

fn put_ticket(w: &mut Out<'_>, tag: u8, ticket: Ticket) {
    w.u8(tag);
    w.u32(ticket.slot);
    w.u32(ticket.attempt);
}

fn put_decision(w: &mut Out<'_>, d: &Decision<'_>) {
    w.u64(d.fee_sat);
    d.parents.encode(w);
    w.u32(d.tx.len() as u32);
    w.bytes(d.tx);
}

fn get_decision<'a>(r: &mut In<'a>) -> Option<Decision<'a>> {
    let fee_sat = r.u64()?;
    let parents = List::<ParentSeq>::decode(r)?;
    let len = r.u32()? as usize;
    Some(Decision { fee_sat, parents, tx: r.bytes(len)? })
}

fn put_epoch(w: &mut Out<'_>, e: &Epoch) {
    w.u32(e.incarnation);
    w.u64(e.number);
}

fn get_epoch(r: &mut In<'_>) -> Option<Epoch> {
    Some(Epoch { incarnation: r.u32()?, number: r.u64()? })
}

/// What stands in front of the transaction in a frag that is one batch of one long `Announce`.
pub fn large_announce_head(
    epoch: Epoch,
    context: &super::Context,
    ticket: Ticket,
    txid: &TxId,
    tx_len: u32,
) -> [u8; super::BatchHeader::LEN + 9 + 32 + 4] {
    let mut head = [0; super::BatchHeader::LEN + 9 + 32 + 4];
    let mut batch = super::BatchWriter::new(&mut head, epoch, *context);
    let empty = Request::Announce { ticket, txid: *txid, tx: &[] };
    let fits = batch.push(&empty);
    assert!(fits, "the head of an announcement has its exact size");
    batch.finish();
    let at = head.len() - 4;
    head[at..].copy_from_slice(&tx_len.to_le_bytes());
    head
}

impl<'a> Item<'a> for Request<'a> {
    fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        let w = &mut w;
        match self {
            Self::Announce { ticket, txid, tx } => {
                put_ticket(w, ANNOUNCE, *ticket);
                w.txid(txid);
                w.u32(tx.len() as u32);
                w.bytes(tx);
            }
            Self::Seen { ticket, txid } => {
                put_ticket(w, SEEN, *ticket);
                w.txid(txid);
            }
            Self::Resolve { ticket, vin, outpoint } => {
                put_ticket(w, RESOLVE, *ticket);
                w.u32(*vin);
                w.outpoint(outpoint);
            }
            Self::Reserve { ticket, txid, inputs } => {
                put_ticket(w, RESERVE, *ticket);
                w.txid(txid);
                inputs.encode(w);
            }
            Self::Commit { ticket, txid, inputs, decision } => {
                put_ticket(w, COMMIT, *ticket);
                w.txid(txid);
                inputs.encode(w);
                put_decision(w, decision);
            }
            Self::Release { ticket, txid, inputs } => {
                put_ticket(w, RELEASE, *ticket);
                w.txid(txid);
                inputs.encode(w);
            }
            Self::Watch { ticket, outpoint } => {
                put_ticket(w, WATCH, *ticket);
                w.outpoint(outpoint);
            }
            Self::Unwatch { ticket, outpoint } => {
                put_ticket(w, UNWATCH, *ticket);
                w.outpoint(outpoint);
            }
            Self::Withdraw { ticket, txid, reason } => {
                put_ticket(w, WITHDRAW, *ticket);
                w.txid(txid);
                w.u8(*reason as u8);
            }
            Self::Settle { ticket, txid, decision } => {
                put_ticket(w, SETTLE, *ticket);
                w.txid(txid);
                put_decision(w, decision);
            }
            Self::Spend { ticket, txid, decided, publish_seq, inputs } => {
                put_ticket(w, SPEND, *ticket);
                w.txid(txid);
                put_epoch(w, decided);
                w.u64(*publish_seq);
                inputs.encode(w);
            }
            Self::SpendsLogged { txid, epoch } => {
                w.u8(SPENDS_LOGGED);
                w.txid(txid);
                put_epoch(w, epoch);
            }
            Self::Barrier { number } => {
                w.u8(BARRIER);
                w.u32(*number);
            }
        }
        w.fits().then_some(w.len())
    }

    fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut r = In::new(bytes);
        let tag = r.u8()?;
        if tag == SPENDS_LOGGED {
            let item = Self::SpendsLogged { txid: r.txid()?, epoch: get_epoch(&mut r)? };
            return Some((item, bytes.len() - r.rest().len()));
        }
        if tag == BARRIER {
            let item = Self::Barrier { number: r.u32()? };
            return Some((item, bytes.len() - r.rest().len()));
        }
        let ticket = Ticket { slot: r.u32()?, attempt: r.u32()? };
        let item = match tag {
            ANNOUNCE => {
                let txid = r.txid()?;
                let len = r.u32()? as usize;
                Self::Announce { ticket, txid, tx: r.bytes(len)? }
            }
            SEEN => Self::Seen { ticket, txid: r.txid()? },
            RESOLVE => Self::Resolve { ticket, vin: r.u32()?, outpoint: r.outpoint()? },
            RESERVE => {
                Self::Reserve { ticket, txid: r.txid()?, inputs: List::<InputRef>::decode(&mut r)? }
            }
            COMMIT => Self::Commit {
                ticket,
                txid: r.txid()?,
                inputs: List::<InputRef>::decode(&mut r)?,
                decision: get_decision(&mut r)?,
            },
            RELEASE => Self::Release {
                ticket,
                txid: r.txid()?,
                inputs: List::<SpentInput>::decode(&mut r)?,
            },
            WATCH => Self::Watch { ticket, outpoint: r.outpoint()? },
            UNWATCH => Self::Unwatch { ticket, outpoint: r.outpoint()? },
            WITHDRAW => Self::Withdraw {
                ticket,
                txid: r.txid()?,
                reason: match r.u8()? {
                    0 => WithdrawReason::Rejected,
                    1 => WithdrawReason::Orphaned,
                    _ => return None,
                },
            },
            SETTLE => Self::Settle { ticket, txid: r.txid()?, decision: get_decision(&mut r)? },
            SPEND => Self::Spend {
                ticket,
                txid: r.txid()?,
                decided: get_epoch(&mut r)?,
                publish_seq: r.u64()?,
                inputs: List::<SpentInput>::decode(&mut r)?,
            },
            _ => return None,
        };
        Some((item, bytes.len() - r.rest().len()))
    }
}
