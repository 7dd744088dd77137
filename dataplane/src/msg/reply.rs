//! What a shard answers a coordinator: link `shard_validate`.
//!
//! Answers to `Resolve` are `Coin` or `Input` (phase resolve); answers to `Reserve` and to a refused `Commit` are one `Input`
//! per input, or `Differs`; `Settle` and a granted `Commit` give `Decided`. `Wake` comes once for each list entry; an entry that is
//! given its coin, or told of a new holder or a spender, gets an `Input` instead. A `Watch` that finds no room gets an `Input`
//! `Overloaded` for input `u32::MAX`. Answers go by ticket: the context of their batch tells nothing.

use super::batch::Item;
use super::wire::{In, Out};
use super::{Epoch, Ticket};
use consensus::hash::TxId;

/// What became of one input at its owner. Exhaustive; the numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputVerdict {
    /// Held for the asker. `parent_seq` is the publish sequence of an unmined parent at this shard, 0 for a mined one.
    Reserved {
        /// See above.
        parent_seq: u64,
    },
    /// No such coin; nothing is held and nothing waits (see `Watch`).
    Missing,
    /// Spent by an accepted transaction, perhaps the asker itself. In a block's context the asker itself means: known from the
    /// pool, its spend stands, and a `Settle` in the same context makes it the block's.
    Spent {
        /// Its id.
        by: TxId,
    },
    /// Frozen by order.
    Frozen,
    /// A coinbase output too young to spend.
    Immature {
        /// First height at which it may be spent.
        until_height: u32,
    },
    /// Held by another attempt; the asker stands in the coin's wait list.
    Busy {
        /// The holder.
        by: TxId,
    },
    /// The parent is still in flight; the asker stands in the parent's wait list and is woken when it is decided.
    ParentInFlight,
    /// The coin's wait list is full.
    Overloaded,
    /// Locked (not yet spendable by anyone), as Teranode's `TX_LOCKED`.
    Locked,
}

/// Why a waiting attempt is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WakeReason {
    /// The coin can be asked for again: it was freed, or its parent was accepted.
    Free = 0,
    /// The parent was rejected.
    ParentRejected = 1,
    /// The parent became an orphan.
    ParentOrphaned = 2,
}

/// What home knows about a transaction id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// Nothing.
    Unknown,
    /// Accepted and not mined.
    Unmined {
        /// Its publish sequence at home.
        publish_seq: u64,
        /// Flags under which its scripts were run; `u32::MAX` where that is not remembered.
        rule_set: u32,
    },
    /// Mined on the current chain at this height.
    Mined {
        /// The height.
        height: u32,
        /// Whether any of its outputs is unspent.
        unspent: bool,
    },
}

/// A coin as its owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoinReply<'a> {
    /// Value.
    pub value_sat: u64,
    /// Height of the block that created it; tip + 1 for an unmined one.
    pub height: u32,
    /// Whether a coinbase created it.
    pub coinbase: bool,
    /// True when its transaction is announced and not decided.
    pub pending: bool,
    /// Its locking script.
    pub locking_script: &'a [u8],
}

/// One item of a batch on `shard_validate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// To `Seen`.
    Seen {
        /// Whose.
        ticket: Ticket,
        /// What home knows.
        state: SeenState,
    },
    /// To `Resolve`: here it is.
    Coin {
        /// Whose.
        ticket: Ticket,
        /// Index of the input.
        vin: u32,
        /// The coin.
        coin: CoinReply<'a>,
    },
    /// To `Resolve`, `Reserve`, `Commit`.
    Input {
        /// Whose.
        ticket: Ticket,
        /// Index of the input.
        vin: u32,
        /// What became of it.
        verdict: InputVerdict,
    },
    /// To `Reserve`, `Commit`: the coin is not what the scripts were run with; nothing is held.
    Differs {
        /// Whose.
        ticket: Ticket,
        /// Index of the input.
        vin: u32,
        /// The coin as it is.
        coin: CoinReply<'a>,
    },
    /// To `Settle`, `Commit`: accepted.
    Decided {
        /// Whose.
        ticket: Ticket,
        /// The epoch of the decision record.
        epoch: Epoch,
        /// Its publish sequence at home.
        publish_seq: u64,
        /// Whether it is (or, in a block's context, was) the pool's.
        from_pool: bool,
    },
    /// To `Settle`, `Commit`: home cannot take it (`Full`); everything held by a `Commit` is released.
    Refused {
        /// Whose.
        ticket: Ticket,
    },
    /// To `Spend`.
    SpendLogged {
        /// Whose.
        ticket: Ticket,
        /// The epoch the spend was logged in.
        epoch: Epoch,
    },
    /// To an entry in a wait list or a watch.
    Wake {
        /// Whose.
        ticket: Ticket,
        /// Index of the input, `u32::MAX` for a watch.
        vin: u32,
        /// Why.
        reason: WakeReason,
    },
}

const SEEN: u8 = 1;
const COIN: u8 = 2;
const INPUT: u8 = 3;
const DIFFERS: u8 = 4;
const DECIDED: u8 = 5;
const REFUSED: u8 = 6;
const SPEND_LOGGED: u8 = 7;
const WAKE: u8 = 8;

fn put_coin(w: &mut Out<'_>, vin: u32, c: &CoinReply<'_>) {
    w.u32(vin);
    w.u64(c.value_sat);
    w.u32(c.height);
    w.u8(u8::from(c.coinbase) | u8::from(c.pending) << 1);
    w.u32(c.locking_script.len() as u32);
    w.bytes(c.locking_script);
}

fn get_coin<'a>(r: &mut In<'a>) -> Option<(u32, CoinReply<'a>)> {
    let vin = r.u32()?;
    let value_sat = r.u64()?;
    let height = r.u32()?;
    let bits = r.u8()?;
    let len = r.u32()? as usize;
    let coin = CoinReply {
        value_sat,
        height,
        coinbase: bits & 1 != 0,
        pending: bits & 2 != 0,
        locking_script: r.bytes(len)?,
    };
    Some((vin, coin))
}

fn put_verdict(w: &mut Out<'_>, v: &InputVerdict) {
    match v {
        InputVerdict::Reserved { parent_seq } => {
            w.u8(0);
            w.u64(*parent_seq);
        }
        InputVerdict::Missing => w.u8(1),
        InputVerdict::Spent { by } => {
            w.u8(2);
            w.txid(by);
        }
        InputVerdict::Frozen => w.u8(3),
        InputVerdict::Immature { until_height } => {
            w.u8(4);
            w.u32(*until_height);
        }
        InputVerdict::Busy { by } => {
            w.u8(5);
            w.txid(by);
        }
        InputVerdict::ParentInFlight => w.u8(6),
        InputVerdict::Overloaded => w.u8(7),
        InputVerdict::Locked => w.u8(8),
    }
}

fn get_verdict(r: &mut In<'_>) -> Option<InputVerdict> {
    Some(match r.u8()? {
        0 => InputVerdict::Reserved { parent_seq: r.u64()? },
        1 => InputVerdict::Missing,
        2 => InputVerdict::Spent { by: r.txid()? },
        3 => InputVerdict::Frozen,
        4 => InputVerdict::Immature { until_height: r.u32()? },
        5 => InputVerdict::Busy { by: r.txid()? },
        6 => InputVerdict::ParentInFlight,
        7 => InputVerdict::Overloaded,
        8 => InputVerdict::Locked,
        _ => return None,
    })
}

impl<'a> Item<'a> for Reply<'a> {
    fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        let w = &mut w;
        let mut head = |tag: u8, t: &Ticket| {
            w.u8(tag);
            w.u32(t.slot);
            w.u32(t.attempt);
        };
        match self {
            Self::Seen { ticket, state } => {
                head(SEEN, ticket);
                match state {
                    SeenState::Unknown => w.u8(0),
                    SeenState::Unmined { publish_seq, rule_set } => {
                        w.u8(1);
                        w.u64(*publish_seq);
                        w.u32(*rule_set);
                    }
                    SeenState::Mined { height, unspent } => {
                        w.u8(2);
                        w.u32(*height);
                        w.u8(u8::from(*unspent));
                    }
                }
            }
            Self::Coin { ticket, vin, coin } => {
                head(COIN, ticket);
                put_coin(w, *vin, coin);
            }
            Self::Input { ticket, vin, verdict } => {
                head(INPUT, ticket);
                w.u32(*vin);
                put_verdict(w, verdict);
            }
            Self::Differs { ticket, vin, coin } => {
                head(DIFFERS, ticket);
                put_coin(w, *vin, coin);
            }
            Self::Decided { ticket, epoch, publish_seq, from_pool } => {
                head(DECIDED, ticket);
                w.u32(epoch.incarnation);
                w.u64(epoch.number);
                w.u64(*publish_seq);
                w.u8(u8::from(*from_pool));
            }
            Self::Refused { ticket } => head(REFUSED, ticket),
            Self::SpendLogged { ticket, epoch } => {
                head(SPEND_LOGGED, ticket);
                w.u32(epoch.incarnation);
                w.u64(epoch.number);
            }
            Self::Wake { ticket, vin, reason } => {
                head(WAKE, ticket);
                w.u32(*vin);
                w.u8(*reason as u8);
            }
        }
        w.fits().then_some(w.len())
    }

    fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut r = In::new(bytes);
        let tag = r.u8()?;
        let ticket = Ticket { slot: r.u32()?, attempt: r.u32()? };
        let epoch = |r: &mut In<'a>| Some(Epoch { incarnation: r.u32()?, number: r.u64()? });
        let item = match tag {
            SEEN => {
                let state = match r.u8()? {
                    0 => SeenState::Unknown,
                    1 => SeenState::Unmined { publish_seq: r.u64()?, rule_set: r.u32()? },
                    2 => SeenState::Mined { height: r.u32()?, unspent: r.u8()? != 0 },
                    _ => return None,
                };
                Self::Seen { ticket, state }
            }
            COIN => {
                let (vin, coin) = get_coin(&mut r)?;
                Self::Coin { ticket, vin, coin }
            }
            INPUT => Self::Input { ticket, vin: r.u32()?, verdict: get_verdict(&mut r)? },
            DIFFERS => {
                let (vin, coin) = get_coin(&mut r)?;
                Self::Differs { ticket, vin, coin }
            }
            DECIDED => Self::Decided {
                ticket,
                epoch: epoch(&mut r)?,
                publish_seq: r.u64()?,
                from_pool: r.u8()? != 0,
            },
            REFUSED => Self::Refused { ticket },
            SPEND_LOGGED => Self::SpendLogged { ticket, epoch: epoch(&mut r)? },
            WAKE => Self::Wake {
                ticket,
                vin: r.u32()?,
                reason: match r.u8()? {
                    0 => WakeReason::Free,
                    1 => WakeReason::ParentRejected,
                    2 => WakeReason::ParentOrphaned,
                    _ => return None,
                },
            },
            _ => return None,
        };
        Some((item, bytes.len() - r.rest().len()))
    }
}
