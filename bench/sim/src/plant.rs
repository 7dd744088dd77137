//! Plants: bugs put between the tiles on purpose, to see that the simulator finds them.
//!
//! A plant sits in a wire (or at the gate, or where verdicts are read) and drops, doubles, forges or changes messages of one
//! kind, as a tile with that bug would. Production code knows nothing of it. It waits for a drawn number of chances and then
//! strikes now and then, so that the machine is in full swing when it happens.

use crate::wire::{Held, WireKind};
use dataplane::msg::batch::Item;
use dataplane::msg::request::{List, SpentInput};
use dataplane::msg::{
    Accepted, BatchReader, BatchWriter, Expect, InputRef, InputVerdict, Reply, Request, TxVerdict,
    VerdictFrag, WakeReason,
};
use dataplane::rng::Rng;
use std::collections::VecDeque;

const SALT: u64 = 0x70_6c_61_6e_74;
/// Chances a plant lets pass before it strikes, at most.
const QUIET_MAX: u64 = 40;
/// Times it strikes.
const STRIKES_MAX: u32 = 12;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// A frag of requests is lost.
    LostRequest,
    /// A frag of replies is lost.
    LostReply,
    /// An accepted transaction does not reach pack.
    LostAccepted,
    /// A frag of requests is handled twice.
    RepeatedRequest,
    /// A coin that somebody holds is granted to somebody else.
    DoubleGrant,
    /// Credit that is used does not come back.
    CreditLeak,
    /// An orphan is not told that its parent came.
    OrphanNeverWoken,
    /// An accepted transaction does not say what its parents are.
    ChildBeforeParent,
    /// A held coin becomes free while its holder goes on.
    LostReservation,
    /// A copy is handed in twice.
    DoubleCount,
    /// A verdict is told twice.
    VerdictTwice,
    /// A double spend names the wrong winner.
    WrongWinner,
    /// The owner does not compare what the scripts were run with.
    ValueUnchecked,
    /// One input of a decided transaction is not spent.
    SpendForgotten,
    /// An announcement is not taken back.
    WithdrawLost,
    /// A coordinator forgets to give up its other coins when it yields.
    ReleaseLost,
    /// A busy coin's waiter is not woken.
    WaiterNeverWoken,
}

impl Plant {
    /// All.
    pub const ALL: [Self; 17] = [
        Self::LostRequest,
        Self::LostReply,
        Self::LostAccepted,
        Self::RepeatedRequest,
        Self::DoubleGrant,
        Self::CreditLeak,
        Self::OrphanNeverWoken,
        Self::ChildBeforeParent,
        Self::LostReservation,
        Self::DoubleCount,
        Self::VerdictTwice,
        Self::WrongWinner,
        Self::ValueUnchecked,
        Self::SpendForgotten,
        Self::WithdrawLost,
        Self::ReleaseLost,
        Self::WaiterNeverWoken,
    ];

    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LostRequest => "lost-request",
            Self::LostReply => "lost-reply",
            Self::LostAccepted => "lost-accepted",
            Self::RepeatedRequest => "repeated-request",
            Self::DoubleGrant => "double-grant",
            Self::CreditLeak => "credit-leak",
            Self::OrphanNeverWoken => "orphan-never-woken",
            Self::ChildBeforeParent => "child-before-parent",
            Self::LostReservation => "lost-reservation",
            Self::DoubleCount => "double-count",
            Self::VerdictTwice => "verdict-twice",
            Self::WrongWinner => "wrong-winner",
            Self::ValueUnchecked => "value-unchecked",
            Self::SpendForgotten => "spend-forgotten",
            Self::WithdrawLost => "withdraw-lost",
            Self::ReleaseLost => "release-lost",
            Self::WaiterNeverWoken => "waiter-never-woken",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| plant.name() == name)
    }
}

/// A plant in a run, or none.
#[derive(Debug)]
pub struct Planted {
    plant: Option<Plant>,
    rng: Rng,
    quiet: u64,
    /// How often it struck.
    pub strikes: u32,
}

/// What becomes of a batch.
enum Batch {
    /// As it is.
    Same,
    /// This instead.
    Changed(Vec<u8>),
}

impl Planted {
    /// `plant` in the run of `seed`.
    pub fn new(plant: Option<Plant>, seed: u64) -> Self {
        let mut rng = Rng::salted(seed, SALT);
        let quiet = rng.below(QUIET_MAX);
        Self { plant, rng, quiet, strikes: 0 }
    }

    /// Whether there is one.
    pub fn is_active(&self) -> bool {
        self.plant.is_some()
    }

    /// A chance; whether it strikes now.
    fn strikes(&mut self) -> bool {
        if self.quiet > 0 {
            self.quiet -= 1;
            return false;
        }
        let strikes = self.strikes < STRIKES_MAX && self.rng.chance(1, 2);
        self.strikes += u32::from(strikes);
        strikes
    }

    /// A frag goes into a wire.
    pub fn pass(
        &mut self,
        kind: WireKind,
        held: Held,
        into: &mut VecDeque<Held>,
        leaked: &mut usize,
    ) {
        let Some(plant) = self.plant else { return into.push_back(held) };
        let request = matches!(kind, WireKind::Request { .. });
        let reply = matches!(kind, WireKind::Reply { .. });
        let publish = matches!(kind, WireKind::Publish { .. });
        match plant {
            Plant::LostRequest if request => {
                if !self.strikes() {
                    into.push_back(held);
                }
            }
            Plant::LostReply if reply => {
                if !self.strikes() {
                    into.push_back(held);
                }
            }
            Plant::LostAccepted if publish => {
                if !self.strikes() {
                    into.push_back(held);
                }
            }
            Plant::RepeatedRequest if request => {
                if self.strikes() {
                    into.push_back(held.clone());
                }
                into.push_back(held);
            }
            Plant::CreditLeak => {
                // A leak does not stop.
                if self.quiet > 0 {
                    self.quiet -= 1;
                } else if self.rng.chance(1, 2) {
                    self.strikes += 1;
                    *leaked += 1;
                }
                into.push_back(held);
            }
            Plant::ChildBeforeParent if publish => {
                let bytes = self.without_parents(&held.bytes);
                into.push_back(Held { bytes, ..held });
            }
            Plant::LostReservation if request => {
                let release = self.forged_release(&held.bytes);
                into.push_back(held.clone());
                into.extend(release.map(|bytes| Held { bytes, ..held }));
            }
            _ if request => {
                let bytes = match self.edit_requests(plant, &held.bytes) {
                    Batch::Same => held.bytes,
                    Batch::Changed(bytes) => bytes,
                };
                into.push_back(Held { bytes, ..held });
            }
            _ if reply => {
                let bytes = match self.edit_replies(plant, &held.bytes) {
                    Batch::Same => held.bytes,
                    Batch::Changed(bytes) => bytes,
                };
                into.push_back(Held { bytes, ..held });
            }
            _ => into.push_back(held),
        }
    }

    /// A verdict is read; what the reader is told.
    pub fn verdict(&mut self, frag: VerdictFrag) -> Vec<VerdictFrag> {
        let double = frag.verdict == TxVerdict::DoubleSpend;
        if self.plant == Some(Plant::VerdictTwice) && self.strikes() {
            vec![frag, frag]
        } else if self.plant == Some(Plant::WrongWinner) && double && self.strikes() {
            vec![VerdictFrag { other: frag.txid, ..frag }]
        } else {
            vec![frag]
        }
    }

    /// A copy is handed in; whether it is handed in once more.
    pub fn repeats_copy(&mut self) -> bool {
        self.plant == Some(Plant::DoubleCount) && self.strikes()
    }

    fn edit_requests(&mut self, plant: Plant, bytes: &[u8]) -> Batch {
        edit::<Request<'_>>(bytes, |request, to| match (plant, *request) {
            (Plant::WithdrawLost, Request::Withdraw { .. })
            | (Plant::ReleaseLost, Request::Release { .. }) => self.strikes(),
            (Plant::ValueUnchecked, Request::Reserve { ticket, txid, inputs }) => {
                let blind: Vec<InputRef> = inputs.iter().map(blind).collect();
                to.put(&Request::Reserve { ticket, txid, inputs: List::Own(&blind) });
                self.strikes += 1;
                true
            }
            (Plant::ValueUnchecked, Request::Commit { ticket, txid, inputs, decision }) => {
                let blind: Vec<InputRef> = inputs.iter().map(blind).collect();
                to.put(&Request::Commit { ticket, txid, inputs: List::Own(&blind), decision });
                self.strikes += 1;
                true
            }
            (
                Plant::SpendForgotten,
                Request::Spend { ticket, txid, decided, publish_seq, inputs },
            ) if self.strikes() => {
                let fewer: Vec<SpentInput> = inputs.iter().skip(1).collect();
                let inputs = List::Own(&fewer[..]);
                to.put(&Request::Spend { ticket, txid, decided, publish_seq, inputs });
                true
            }
            _ => false,
        })
    }

    fn edit_replies(&mut self, plant: Plant, bytes: &[u8]) -> Batch {
        edit::<Reply<'_>>(bytes, |reply, to| match (plant, *reply) {
            (
                Plant::DoubleGrant,
                Reply::Input { ticket, vin, verdict: InputVerdict::Busy { .. } },
            ) if self.strikes() => {
                let verdict = InputVerdict::Reserved { parent_seq: 0 };
                to.put(&Reply::Input { ticket, vin, verdict });
                true
            }
            (Plant::OrphanNeverWoken, Reply::Wake { vin: u32::MAX, reason, .. }) => {
                reason == WakeReason::Free && self.strikes()
            }
            (Plant::WaiterNeverWoken, Reply::Wake { vin, .. }) => vin != u32::MAX && self.strikes(),
            _ => false,
        })
    }

    /// Ends the reservations that this frag asks for, right behind it.
    fn forged_release(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut batch = BatchReader::new(bytes)?;
        let header = *batch.header();
        while let Some(request) = batch.next_item::<Request<'_>>() {
            let Request::Reserve { ticket, txid, inputs } = request else { continue };
            if !self.strikes() {
                continue;
            }
            let own: Vec<SpentInput> =
                inputs.iter().map(|i| SpentInput { vin: i.vin, outpoint: i.outpoint }).collect();
            let mut buffer = vec![0; 100 + own.len() * SpentInput::LEN];
            let mut out = BatchWriter::new(&mut buffer, header.epoch, header.context);
            if !out.push(&Request::Release { ticket, txid, inputs: List::Own(&own) }) {
                return None;
            }
            let len = out.finish();
            buffer.truncate(len);
            return Some(buffer);
        }
        None
    }

    fn without_parents(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(frag) = Accepted::decode(bytes) else { return bytes.to_vec() };
        if frag.parents.is_empty() {
            return bytes.to_vec();
        }
        self.strikes += 1;
        let frag = Accepted { parents: List::Own(&[]), ..frag };
        let mut out = vec![0; frag.encoded_len()];
        frag.encode(&mut out);
        out
    }
}

fn blind(input: InputRef) -> InputRef {
    InputRef { expect: Expect { proven: false, ..input.expect }, ..input }
}

/// The batch that is written anew.
struct Rewrite<'a> {
    out: BatchWriter<'a>,
}

impl Rewrite<'_> {
    fn put<'i>(&mut self, item: &impl Item<'i>) {
        assert!(self.out.push(item), "a changed batch is no longer than it was");
    }
}

/// Writes a batch anew. `change` says whether it took an item; what it puts comes in its place.
fn edit<'a, T: Item<'a>>(
    bytes: &'a [u8],
    mut change: impl FnMut(&T, &mut Rewrite<'_>) -> bool,
) -> Batch {
    let Some(mut batch) = BatchReader::new(bytes) else { return Batch::Same };
    let header = *batch.header();
    let mut buffer = vec![0; bytes.len() + 64];
    let mut to = Rewrite { out: BatchWriter::new(&mut buffer, header.epoch, header.context) };
    let mut changed = false;
    while let Some(item) = batch.next_item::<T>() {
        let took = change(&item, &mut to);
        changed |= took;
        if !took {
            to.put(&item);
        }
    }
    if !changed {
        return Batch::Same;
    }
    let len = to.out.finish();
    buffer.truncate(len);
    Batch::Changed(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plant_names_are_read_back_and_differ() {
        for plant in Plant::ALL {
            assert_eq!(Plant::parse(plant.name()), Some(plant));
        }
        assert_eq!(Plant::parse("weeds"), None);
    }
}
