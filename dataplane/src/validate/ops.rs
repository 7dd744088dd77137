//! What is to be sent for a slot, written into outboxes as far as there is room.
//!
//! A slot's sends are bits in a fixed order; the first is written, then the next. What finds no room in an outbox waits in
//! that shard's line, and what passes the bound of a turn waits for the next: a full link holds up only those who need it,
//! and nothing is ever queued twice or without bound. The order of a slot's messages on each link is the order of the bits.

use super::coordinator::{Coordinator, LIST_INPUTS_MAX, PIECE_BYTES_MAX, PIECE_INPUTS_MAX};
use super::slot::{Hold, NONE, Ops, Phase, Proof};
use crate::msg::request::{Decision, List, SpentInput};
use crate::msg::{Expect, InputRef, ParentSeq, Request, WithdrawReason};

/// Bytes that any single message without a list, a script or a transaction stays under.
const ITEM_BYTES_MAX: usize = 128;

/// How far a send came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// It is done.
    All,
    /// A piece is done.
    Part,
    /// This shard's outbox has no room.
    NoRoom(u16),
    /// The bound of the turn is reached.
    NoTurn,
}

impl Coordinator {
    /// Sends what can be sent for a slot; frees it if it was leaving and nothing is left.
    pub fn pump(&mut self, slot: u32) {
        if self.slots[slot as usize].queued {
            return;
        }
        while let Some(op) = self.slots[slot as usize].ops.first() {
            let s = &self.slots[slot as usize];
            let decides = op & (Ops::COMMIT | Ops::SETTLE) != 0;
            if decides && s.block == 0 && s.pool_version != self.pool_version {
                // Judged on top of a tip that went back meanwhile.
                return self.restart_later(slot, false);
            }
            match self.send(slot, op) {
                Sent::Part => {}
                Sent::All => {
                    let s = &mut self.slots[slot as usize];
                    s.ops.remove(op);
                    s.cursor = 0;
                    match op {
                        Ops::CLAIMS | Ops::RESOLVE => self.judge(slot),
                        Ops::RELEASE if s.wait_vin == NONE => s.reserving = false,
                        Ops::SPEND if s.spends_pending == 0 => {
                            s.ops.add(Ops::LOGGED);
                            s.phase = Phase::Leaving;
                        }
                        _ => {}
                    }
                }
                Sent::NoRoom(shard) => {
                    self.counts.outbox_full += 1;
                    self.slots[slot as usize].queued = true;
                    self.blocked[usize::from(shard)].push_back(slot);
                    return;
                }
                Sent::NoTurn => {
                    self.slots[slot as usize].queued = true;
                    self.pumping.push_back(slot);
                    return;
                }
            }
        }
        let s = &self.slots[slot as usize];
        if s.phase == Phase::Leaving && !s.queued && !s.large_queued {
            self.free(slot);
        }
    }

    /// Writes the barriers that are due and find room.
    fn write_barriers(&mut self) {
        for shard in 0..self.barriers_due.len() {
            let Some(number) = self.barriers_due[shard] else { continue };
            if self.outboxes[shard].free_bytes() < ITEM_BYTES_MAX {
                continue;
            }
            let context = self.context(0);
            let pushed = self.outboxes[shard].push(&context, &Request::Barrier { number });
            assert!(pushed, "an outbox had less room than it said");
            self.barriers_due[shard] = None;
        }
    }

    /// Goes on with slots that waited for room or for this turn.
    pub fn pump_waiting(&mut self) {
        self.write_barriers();
        for _ in 0..self.pumping.len() {
            let Some(slot) = self.pumping.pop_front() else { break };
            self.slots[slot as usize].queued = false;
            self.pump(slot);
        }
        for shard in 0..self.outboxes.len() {
            self.serving = Some(shard as u16);
            for _ in 0..self.blocked[shard].len() {
                if self.outboxes[shard].free_bytes() < PIECE_BYTES_MAX {
                    break;
                }
                let Some(slot) = self.blocked[shard].pop_front() else { break };
                self.slots[slot as usize].queued = false;
                self.pump(slot);
            }
        }
        self.serving = None;
    }

    /// The announcement of a slot left as a large frag.
    pub fn large_sent(&mut self, slot: u32) {
        self.slots[slot as usize].large_queued = false;
        self.pump(slot);
    }

    fn home(&self, slot: u32) -> u16 {
        self.cfg.partition.shard(&self.slots[slot as usize].txid)
    }

    fn has_room(&self, shard: u16, bytes: usize) -> bool {
        let at = usize::from(shard);
        (self.serving == Some(shard) || self.blocked[at].is_empty())
            && self.outboxes[at].free_bytes() >= bytes
    }

    fn push(&mut self, slot: u32, shard: u16, item: &Request<'_>) {
        let context = self.context(self.slots[slot as usize].block);
        let pushed = self.outboxes[usize::from(shard)].push(&context, item);
        assert!(pushed, "an outbox had less room than it said");
    }

    fn send(&mut self, slot: u32, op: u16) -> Sent {
        let s = &self.slots[slot as usize];
        let (ticket, txid) = (self.ticket(slot), s.txid);
        let (watch_vin, rejected, logged) = (s.watch_vin, s.withdraw_rejected, s.logged);
        match op {
            Ops::CLAIMS => self.send_claims(slot),
            Ops::RESOLVE => self.send_resolves(slot),
            Ops::RESERVE => self.send_reserves(slot),
            Ops::RELEASE => self.send_spent(slot, false),
            Ops::SPEND => self.send_spent(slot, true),
            Ops::ANNOUNCE => self.send_announce(slot),
            Ops::COMMIT => self.send_commit(slot),
            Ops::SETTLE => self.send_settle(slot),
            Ops::WATCH | Ops::UNWATCH => {
                let outpoint = self.view(slot).prev(watch_vin as usize);
                let shard = self.cfg.partition.shard(&outpoint.txid);
                if !self.has_room(shard, ITEM_BYTES_MAX) {
                    return Sent::NoRoom(shard);
                }
                let item = if op == Ops::WATCH {
                    Request::Watch { ticket, outpoint }
                } else {
                    Request::Unwatch { ticket, outpoint }
                };
                self.push(slot, shard, &item);
                Sent::All
            }
            _ => {
                let home = self.home(slot);
                if !self.has_room(home, ITEM_BYTES_MAX) {
                    return Sent::NoRoom(home);
                }
                let item = match op {
                    Ops::SEEN => Request::Seen { ticket, txid },
                    Ops::WITHDRAW => {
                        self.slots[slot as usize].announced = false;
                        let reason = if rejected {
                            WithdrawReason::Rejected
                        } else {
                            WithdrawReason::Orphaned
                        };
                        Request::Withdraw { ticket, txid, reason }
                    }
                    Ops::LOGGED => Request::SpendsLogged { txid, epoch: logged },
                    _ => unreachable!("every bit of Ops is sent by one arm"),
                };
                self.push(slot, home, &item);
                Sent::All
            }
        }
    }

    fn send_announce(&mut self, slot: u32) -> Sent {
        let home = self.home(slot);
        let ticket = self.ticket(slot);
        let s = &self.slots[slot as usize];
        let (txid, tx, work, block) = (s.txid, s.tx, s.work as usize, s.block);
        let view = self.view(slot);
        let raw_bytes = view.raw_size() as usize;
        let large = raw_bytes > self.announce_bytes_max;
        let bytes = if large { 0 } else { raw_bytes };
        if !self.has_room(home, ITEM_BYTES_MAX + bytes) {
            return Sent::NoRoom(home);
        }
        let context = self.context(block);
        let outbox = &mut self.outboxes[usize::from(home)];
        let pushed = if large {
            outbox.push_large(&context, slot)
        } else {
            let view = consensus::tx::TxView::new(self.arena.get(tx), &self.works[work].layout);
            let raw = if view.is_extended() {
                self.raw.clear();
                view.write_raw(&mut self.raw);
                &self.raw
            } else {
                view.bytes()
            };
            outbox.push(&context, &Request::Announce { ticket, txid, tx: raw })
        };
        assert!(pushed, "an outbox had less room than it said");
        let s = &mut self.slots[slot as usize];
        s.announced = true;
        s.large_queued |= large;
        Sent::All
    }

    /// The next piece of a fan-out over inputs: from where to where; `None` if the turn is used up.
    fn piece(&mut self, slot: u32) -> Option<(usize, usize, bool)> {
        if self.turn_inputs == 0 {
            return None;
        }
        let s = &self.slots[slot as usize];
        let n = self.works[s.work as usize].inputs.len();
        let from = s.cursor as usize;
        let to = n.min(from + PIECE_INPUTS_MAX);
        Some((from, to, to == n))
    }

    fn piece_done(&mut self, slot: u32, from: usize, to: usize, last: bool) -> Sent {
        self.turn_inputs = self.turn_inputs.saturating_sub(to - from);
        if last {
            return Sent::All;
        }
        self.slots[slot as usize].cursor = to as u32;
        Sent::Part
    }

    /// Notes the owners of a piece's coins; the first of them without room for the piece, if any.
    fn crowded_owner(&mut self, slot: u32, from: usize, to: usize) -> Option<u16> {
        for i in from..to {
            let shard = self.cfg.partition.shard(&self.view(slot).prev(i).txid);
            let work = self.slots[slot as usize].work as usize;
            self.works[work].inputs[i].shard = shard;
            if !self.has_room(shard, PIECE_BYTES_MAX) {
                return Some(shard);
            }
        }
        None
    }

    fn send_claims(&mut self, slot: u32) -> Sent {
        let Some((from, to, last)) = self.piece(slot) else { return Sent::NoTurn };
        for i in from..to {
            let shard = self.cfg.partition.shard(&self.view(slot).prev(i).txid);
            let work = self.slots[slot as usize].work as usize;
            self.works[work].inputs[i].shard = shard;
            self.prove_claim(slot, i as u32);
        }
        self.piece_done(slot, from, to, last)
    }

    fn send_resolves(&mut self, slot: u32) -> Sent {
        let Some((from, to, last)) = self.piece(slot) else { return Sent::NoTurn };
        if let Some(shard) = self.crowded_owner(slot, from, to) {
            return Sent::NoRoom(shard);
        }
        let ticket = self.ticket(slot);
        let work = self.slots[slot as usize].work as usize;
        for i in from..to {
            let input = &mut self.works[work].inputs[i];
            if input.proof == Proof::Unknown {
                input.proof = Proof::Asked;
                let shard = input.shard;
                let outpoint = self.view(slot).prev(i);
                self.push(slot, shard, &Request::Resolve { ticket, vin: i as u32, outpoint });
            }
        }
        self.piece_done(slot, from, to, last)
    }

    fn input_ref(&self, slot: u32, i: usize) -> InputRef {
        let s = &self.slots[slot as usize];
        let input = &self.works[s.work as usize].inputs[i];
        InputRef {
            vin: i as u32,
            outpoint: self.view(slot).prev(i),
            expect: Expect {
                value_sat: input.value_sat,
                script_tag: input.script_tag,
                coin_height: input.height,
                coin_era: input.era,
                height_matters: s.height_matters,
                coinbase: input.coinbase,
                proven: true,
            },
        }
    }

    fn send_reserves(&mut self, slot: u32) -> Sent {
        let Some((from, to, last)) = self.piece(slot) else { return Sent::NoTurn };
        if let Some(shard) = self.crowded_owner(slot, from, to) {
            return Sent::NoRoom(shard);
        }
        let work = self.slots[slot as usize].work as usize;
        for i in from..to {
            let input = &mut self.works[work].inputs[i];
            if input.hold != Hold::Again {
                continue;
            }
            input.hold = Hold::Asked;
            let shard = usize::from(input.shard);
            let reference = self.input_ref(slot, i);
            self.reserve_lists[shard].push(reference);
            if self.reserve_lists[shard].len() == LIST_INPUTS_MAX {
                self.flush_reserve(slot, shard);
            }
        }
        for shard in 0..self.reserve_lists.len() {
            self.flush_reserve(slot, shard);
        }
        self.piece_done(slot, from, to, last)
    }

    fn flush_reserve(&mut self, slot: u32, shard: usize) {
        if self.reserve_lists[shard].is_empty() {
            return;
        }
        let list = std::mem::take(&mut self.reserve_lists[shard]);
        let item = Request::Reserve {
            ticket: self.ticket(slot),
            txid: self.slots[slot as usize].txid,
            inputs: List::Own(&list),
        };
        self.push(slot, shard as u16, &item);
        self.reserve_lists[shard] = list;
        self.reserve_lists[shard].clear();
    }

    /// Releases (what is held or waited for, the entry at `wait_vin` apart) or spends (everything).
    fn send_spent(&mut self, slot: u32, spend: bool) -> Sent {
        let Some((from, to, last)) = self.piece(slot) else { return Sent::NoTurn };
        if let Some(shard) = self.crowded_owner(slot, from, to) {
            return Sent::NoRoom(shard);
        }
        let s = &self.slots[slot as usize];
        let (work, wait_vin) = (s.work as usize, s.wait_vin);
        for i in from..to {
            let input = &mut self.works[work].inputs[i];
            if !spend && (i as u32 == wait_vin || !matches!(input.hold, Hold::Asked | Hold::Held)) {
                if i as u32 != wait_vin {
                    input.hold = Hold::Nothing;
                }
                continue;
            }
            input.hold = Hold::Nothing;
            let shard = usize::from(input.shard);
            let outpoint = self.view(slot).prev(i);
            self.spent_lists[shard].push(SpentInput { vin: i as u32, outpoint });
            if self.spent_lists[shard].len() == LIST_INPUTS_MAX {
                self.flush_spent(slot, shard, spend);
            }
        }
        for shard in 0..self.spent_lists.len() {
            self.flush_spent(slot, shard, spend);
        }
        self.piece_done(slot, from, to, last)
    }

    fn flush_spent(&mut self, slot: u32, shard: usize, spend: bool) {
        if self.spent_lists[shard].is_empty() {
            return;
        }
        let list = std::mem::take(&mut self.spent_lists[shard]);
        let ticket = self.ticket(slot);
        let s = &mut self.slots[slot as usize];
        let (txid, inputs) = (s.txid, List::Own(&list[..]));
        let item = if spend {
            s.spends_pending += 1;
            let (decided, publish_seq) = (s.decided, s.publish_seq);
            Request::Spend { ticket, txid, decided, publish_seq, inputs }
        } else {
            Request::Release { ticket, txid, inputs }
        };
        self.push(slot, shard as u16, &item);
        self.spent_lists[shard] = list;
        self.spent_lists[shard].clear();
    }

    fn send_commit(&mut self, slot: u32) -> Sent {
        let home = self.home(slot);
        let work = self.slots[slot as usize].work as usize;
        let n = self.works[work].inputs.len();
        if !self.has_room(home, ITEM_BYTES_MAX + n * InputRef::LEN) {
            return Sent::NoRoom(home);
        }
        let mut list = std::mem::take(&mut self.reserve_lists[usize::from(home)]);
        for i in 0..n {
            self.works[work].inputs[i].hold = Hold::Asked;
            list.push(self.input_ref(slot, i));
        }
        let s = &self.slots[slot as usize];
        let item = Request::Commit {
            ticket: self.ticket(slot),
            txid: s.txid,
            inputs: List::Own(&list),
            decision: Decision { fee_sat: s.fee_sat, parents: List::Own(&[]), tx: &[] },
        };
        self.push(slot, home, &item);
        list.clear();
        self.reserve_lists[usize::from(home)] = list;
        Sent::All
    }

    fn send_settle(&mut self, slot: u32) -> Sent {
        let home = self.home(slot);
        let room = ITEM_BYTES_MAX + self.outboxes.len() * ParentSeq::LEN;
        if !self.has_room(home, room) {
            return Sent::NoRoom(home);
        }
        let s = &self.slots[slot as usize];
        let mut parents = std::mem::take(&mut self.parents);
        for input in &self.works[s.work as usize].inputs {
            if input.parent_seq == 0 || input.shard == home {
                continue;
            }
            match parents.iter_mut().find(|p| p.shard == input.shard) {
                Some(parent) => parent.seq = parent.seq.max(input.parent_seq),
                None => parents.push(ParentSeq { shard: input.shard, seq: input.parent_seq }),
            }
        }
        let item = Request::Settle {
            ticket: self.ticket(slot),
            txid: s.txid,
            decision: Decision { fee_sat: s.fee_sat, parents: List::Own(&parents), tx: &[] },
        };
        self.push(slot, home, &item);
        parents.clear();
        self.parents = parents;
        Sent::All
    }
}
