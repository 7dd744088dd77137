//! The coordinator without its links: state, memory, and the small steps that the other files of this room share.
//!
//! ```text
//!  admit      bytes -> slot: copy, parse, txid, join, context-free rules
//!  prove      coins and scripts: resolve, claims, batch, values, policy
//!  decide     reserve, wait, settle, spend, and what shards answer
//!  orphans    the pool of those whose parent is missing
//!  ops        what is to be sent for a slot, as flags, written into outboxes as far as there is room
//! ```

use super::arena::Arena;
use super::config::{Config, MEDIUM_ITEMS_MAX, SMALL_ITEMS_MAX};
use super::counts::Counts;
use super::index::TxIndex;
use super::orphans::Grace;
use super::outbox::Outbox;
use super::slot::{NONE, Offer, Phase, Slot, Work};
use crate::msg::request::SpentInput;
use crate::msg::{
    Context, Epoch, InputRef, ParentSeq, Ticket, TxVerdict, ValidateControl, VerdictFrag,
};
use crate::rng::Rng;
use consensus::hash::TxId;
use consensus::script::{Flags, Scratch, SigBatch};
use consensus::tx::TxView;
use sigbatch::{Check, SigVerdict, Signature, Verifier};
use std::collections::VecDeque;

/// Foreign blocks that may be open at once.
pub const BLOCKS_OPEN_MAX: usize = 4;
/// Inputs of one item of a reserve, release or spend.
pub(super) const LIST_INPUTS_MAX: usize = 32;
/// Inputs handled for one slot before others have their turn.
pub(super) const PIECE_INPUTS_MAX: usize = 64;
/// Room an outbox must have before a piece is written into it: every item of a piece, each alone in its list.
pub(super) const PIECE_BYTES_MAX: usize = PIECE_INPUTS_MAX * (InputRef::LEN + 120);
/// Inputs resolved, reserved, released or spent in one turn.
pub(super) const INPUTS_PER_TURN_MAX: usize = 2_048;
/// A signature waits no longer than this for others to be verified with.
const VERIFY_AFTER_NS: u64 = 200_000;
/// Signatures that may wait for the slow lane to look at them again; more are verified here.
const AUDITS_KEPT_MAX: usize = 64;
/// Transactions parsed or hashed by a piece in one turn.
const PIECES_PER_TURN_MAX: usize = 4;
/// Buckets in which orphans are counted by source.
pub(super) const SOURCE_BUCKETS: usize = 4_096;

/// The x coordinate of secp256k1's generator: a key that can be read. Source: SEC 2, 2.4.1.
const GENERATOR_X: [u8; 32] = [
    0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07,
    0x02, 0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
];

/// A block that is open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenBlock {
    pub context: Context,
    pub inputs_only: bool,
    /// Nothing more of it will be sent.
    pub closing: bool,
}

/// Whose check a place in the batch is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub slot: u32,
    pub run: u32,
    pub vin: u32,
    /// Checks from here on that are this input's.
    pub checks: u32,
}

/// Something for the slow lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongJob {
    pub slot: u32,
    pub run: u32,
    /// `NONE` ends the transaction there.
    pub vin: u32,
    pub value_sat: u64,
    pub coin_height: u32,
    pub script: Option<super::arena::Span>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub cfg: Config,
    pub arena: Arena,
    pub index: TxIndex,
    pub slots: Vec<Slot>,
    pub free_slots: Vec<u32>,
    pub works: Vec<Work>,
    /// Small, medium, large.
    pub free_works: [Vec<u32>; 3],
    pub offers: Vec<Offer>,
    pub free_offers: Vec<u32>,
    pub pool: Option<Context>,
    pub blocks: [OpenBlock; BLOCKS_OPEN_MAX],
    pub outboxes: Vec<Outbox>,
    /// Slots that wait for room in an outbox.
    pub blocked: Vec<VecDeque<u32>>,
    /// The shard whose blocked slots are being served.
    pub serving: Option<u16>,
    /// Slots whose sends were cut off by the bound of a turn.
    pub pumping: VecDeque<u32>,
    /// Slots to be started anew.
    pub ready: VecDeque<u32>,
    /// Slots whose bytes are parsed and hashed in pieces.
    pub arriving: VecDeque<u32>,
    /// Verdicts that wait for credit, with the birth of the copy.
    pub verdicts: VecDeque<(VerdictFrag, u32)>,
    /// The same for transactions of blocks.
    pub block_verdicts: VecDeque<(VerdictFrag, u32)>,
    /// Grows when what the pool was judged against does not hold any more.
    pub pool_version: u32,
    /// Barriers still to be written, by shard.
    pub barriers_due: Vec<Option<u32>>,
    /// The newest block that was opened.
    pub newest_block: u32,
    pub long: VecDeque<LongJob>,
    pub has_long: bool,
    pub batch: SigBatch,
    pub owners: VecDeque<Owner>,
    pub sig_verdicts: Vec<SigVerdict>,
    pub verifier: Verifier,
    /// The turn in which the first of the batch was found waiting.
    pub batch_since_ns: Option<u64>,
    pub scratch: Scratch,
    /// Raw form of an extended transaction on its way into an announcement.
    pub raw: Vec<u8>,
    pub reserve_lists: Vec<Vec<InputRef>>,
    pub spent_lists: Vec<Vec<SpentInput>>,
    pub parents: Vec<ParentSeq>,
    pub epoch: Epoch,
    pub counts: Counts,
    pub rng: Rng,
    pub now_ns: u64,
    pub runs: u32,
    /// In the order of their ends.
    pub graces: VecDeque<Grace>,
    /// Orphans whose senders wait to be told.
    pub tells: VecDeque<Grace>,
    pub orphans: Vec<u32>,
    pub orphan_bytes: u64,
    pub orphan_scan: usize,
    pub source_orphans: Vec<u32>,
    pub in_flight: u32,
    pub block_in_flight: u32,
    pub inputs_in_flight: u64,
    pub bytes_in_flight: u64,
    pub block_bytes_in_flight: u64,
    /// What is left of this turn.
    pub turn_inputs: usize,
    pub turn_bytes: u64,
    /// Inputs of a reserve that fit a frag of the request link as one commit.
    pub commit_inputs_max: usize,
    /// Longest announcement in line.
    pub announce_bytes_max: usize,
}

impl Coordinator {
    /// Takes all memory. `request_mtu` is that of `validate_shard`.
    pub fn new(cfg: Config, request_mtu: usize, has_long: bool) -> Self {
        let b = cfg.bounds;
        let shards = usize::from(cfg.partition.shards());
        let slots = (b.transactions_max + b.block_transactions_max + b.orphans_max) as usize;
        let small = slots;
        let medium = b.medium_max as usize;
        let large = b.large_max as usize;
        let mut works = Vec::with_capacity(small + medium + large);
        works.extend((0..small).map(|_| Work::new(SMALL_ITEMS_MAX)));
        works.extend((0..medium).map(|_| Work::new(MEDIUM_ITEMS_MAX)));
        works.extend((0..large).map(|_| Work::new(b.large_items_max)));
        let ids = |from: usize, n: usize| (from as u32..(from + n) as u32).rev().collect();
        let offers = slots + b.joined_max as usize;
        let commit_inputs_max = (request_mtu - 40 - 41 - 2 - 14).min(16_384) / InputRef::LEN;
        let mut keys = Rng::salted(cfg.seed, 0x1d_e8);
        let key = (keys.next_u64(), keys.next_u64());
        assert!(
            request_mtu >= 40 + LIST_INPUTS_MAX * InputRef::LEN + 64,
            "an mtu of {request_mtu} bytes on validate_shard does not hold a list of {LIST_INPUTS_MAX} inputs"
        );
        assert!(
            (request_mtu - 40 - 41 - 14) / ParentSeq::LEN >= shards,
            "an mtu of {request_mtu} bytes does not hold the parents' sequences of {shards} shards"
        );
        assert!(
            b.outbox_bytes >= 4 * PIECE_BYTES_MAX.max(request_mtu),
            "an outbox of {} bytes does not hold four frags of validate_shard",
            b.outbox_bytes
        );
        Self {
            arena: Arena::new((b.bytes_max + b.block_bytes_max + b.orphan_bytes_max) as usize),
            index: TxIndex::new(slots, key),
            slots: (0..slots).map(|_| Slot::new()).collect(),
            free_slots: ids(0, slots),
            works,
            free_works: [ids(0, small), ids(small, medium), ids(small + medium, large)],
            offers: vec![
                Offer {
                    token: 0,
                    source: 0,
                    block: 0,
                    born: 0,
                    claims: 0,
                    tell_orphan: false,
                    is_quiet: false,
                    next: NONE,
                };
                offers
            ],
            free_offers: ids(0, offers),
            pool: None,
            blocks: [OpenBlock::default(); BLOCKS_OPEN_MAX],
            outboxes: (0..shards).map(|_| Outbox::new(b.outbox_bytes)).collect(),
            blocked: (0..shards).map(|_| VecDeque::with_capacity(slots)).collect(),
            serving: None,
            pumping: VecDeque::with_capacity(slots),
            ready: VecDeque::with_capacity(slots),
            arriving: VecDeque::with_capacity(slots),
            verdicts: VecDeque::with_capacity(2 * offers + 64),
            block_verdicts: VecDeque::with_capacity(2 * offers + 64),
            pool_version: 0,
            barriers_due: vec![None; shards],
            newest_block: 0,
            long: VecDeque::with_capacity(b.long_queue_max + slots),
            has_long,
            batch: SigBatch::with_capacity(b.signatures_max),
            owners: VecDeque::with_capacity(b.signatures_max),
            sig_verdicts: vec![SigVerdict::Wrong; b.signatures_max],
            verifier: cfg
                .verifier
                .and_then(Verifier::with_backend)
                .unwrap_or_default()
                .with_audits_kept(if has_long { AUDITS_KEPT_MAX } else { 0 }),
            batch_since_ns: None,
            scratch: Scratch::for_budget(&cfg.policy.hot_budget),
            raw: Vec::with_capacity(request_mtu),
            reserve_lists: (0..shards)
                .map(|_| Vec::with_capacity(LIST_INPUTS_MAX.max(commit_inputs_max)))
                .collect(),
            spent_lists: (0..shards).map(|_| Vec::with_capacity(LIST_INPUTS_MAX)).collect(),
            parents: Vec::with_capacity(shards),
            epoch: Epoch::default(),
            counts: Counts::default(),
            rng: Rng::salted(cfg.seed, 0x0e_71c7),
            now_ns: 0,
            runs: 0,
            graces: VecDeque::with_capacity(b.transactions_max as usize / 2 + 1),
            tells: VecDeque::with_capacity(b.orphans_max as usize),
            orphans: Vec::with_capacity(b.orphans_max as usize),
            orphan_bytes: 0,
            orphan_scan: 0,
            source_orphans: vec![0; SOURCE_BUCKETS],
            in_flight: 0,
            block_in_flight: 0,
            inputs_in_flight: 0,
            bytes_in_flight: 0,
            block_bytes_in_flight: 0,
            turn_inputs: INPUTS_PER_TURN_MAX,
            turn_bytes: 0,
            commit_inputs_max,
            announce_bytes_max: request_mtu - 40 - 45,
            cfg,
        }
    }

    /// A message of control-plane.
    pub fn on_control(&mut self, message: ValidateControl) {
        match message {
            ValidateControl::SetPool { context } => {
                let goes_back = self.pool.is_some_and(|old| {
                    context.height < old.height
                        || context.median_time_past < old.median_time_past
                        || context.rule_set != old.rule_set
                });
                self.pool_version += u32::from(goes_back);
                self.pool = Some(context);
            }
            ValidateControl::Barrier { number } => self.barriers_due.fill(Some(number)),
            ValidateControl::OpenBlock { context, inputs_only } => {
                let same = |b: &OpenBlock| b.context.block == 0 || b.context.block == context.block;
                // A closed one whose last requests are still going out is judged: only its number matters now.
                let at = self.blocks.iter().position(same);
                let at = at.or_else(|| self.blocks.iter().position(|b| b.closing));
                let at = at.expect("control-plane keeps at most BLOCKS_OPEN_MAX blocks open");
                self.blocks[at] = OpenBlock { context, inputs_only, closing: false };
                self.newest_block = self.newest_block.max(context.block);
            }
            ValidateControl::CloseBlock { block } => self.close_block(block),
        }
    }

    /// The first time: the block goes once its link is empty and its last transaction is done. Said again: what still waits
    /// for a parent ends, because no coordinator has anything of the block left.
    fn close_block(&mut self, block: u32) {
        let Some(open) = self.blocks.iter_mut().find(|b| b.context.block == block) else { return };
        if !std::mem::replace(&mut open.closing, true) {
            return;
        }
        for i in 0..self.slots.len() as u32 {
            let s = &self.slots[i as usize];
            if s.block == block && s.phase == Phase::ParentWait && s.watching {
                let vin = s.watch_vin;
                let parent = self.view(i).prev(vin as usize).txid;
                self.conclude(i, TxVerdict::MissingInput, 0, vin, parent);
            }
        }
    }

    /// The link of blocks was empty in this turn: blocks that were closed before, and have nothing in flight, are forgotten.
    pub fn block_link_empty(&mut self) {
        if self.block_in_flight == 0 {
            for open in self.blocks.iter_mut().filter(|b| b.closing) {
                *open = OpenBlock::default();
            }
        }
    }

    /// Whether a block of that number was opened: numbers only grow.
    pub fn knows_block(&self, block: u32) -> bool {
        block <= self.newest_block
    }

    /// The open block of that number.
    pub fn open_block(&self, block: u32) -> Option<&OpenBlock> {
        self.blocks.iter().find(|b| block != 0 && b.context.block == block)
    }

    /// Against what a transaction of `block` (0: the pool) is judged now. A closed block's last requests keep its number.
    pub fn context(&self, block: u32) -> Context {
        if block == 0 {
            self.pool.expect("transactions are taken only once the pool has a context")
        } else {
            self.open_block(block)
                .map_or(Context { block, ..Context::default() }, |open| open.context)
        }
    }

    /// The transaction of a slot whose layout is done.
    #[inline]
    pub fn view(&self, slot: u32) -> TxView<'_> {
        let s = &self.slots[slot as usize];
        TxView::new(self.arena.get(s.tx), &self.works[s.work as usize].layout)
    }

    /// The slot's present attempt.
    #[inline]
    pub fn ticket(&self, slot: u32) -> Ticket {
        Ticket { slot, attempt: self.slots[slot as usize].attempt }
    }

    /// Flags of an input whose coin was made at `coin_height`.
    #[inline]
    pub fn input_flags(&self, context: &Context, coin_height: u32) -> Flags {
        Flags(context.rule_set | self.cfg.params.flags_for_input(context.height, coin_height))
    }

    /// A new name for the proofs of a slot; older ones are void.
    pub fn new_run(&mut self, slot: u32) {
        self.runs = self.runs.wrapping_add(1);
        self.end_long(slot);
        let run = self.runs;
        let s = &mut self.slots[slot as usize];
        s.run = run;
        s.sigs_pending = 0;
        s.long_pending = 0;
    }

    /// Tells the slow lane to forget what it has of this slot.
    pub fn end_long(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        if std::mem::take(&mut s.long_begun) {
            let run = s.run;
            self.long.push_back(LongJob {
                slot,
                run,
                vin: NONE,
                value_sat: 0,
                coin_height: 0,
                script: None,
            });
        }
    }

    /// One verdict for one offered copy.
    pub fn emit(
        &mut self,
        offer: &Offer,
        verdict: TxVerdict,
        detail: u8,
        vin: u32,
        fee_sat: u64,
        txid: TxId,
        other: TxId,
    ) {
        self.counts.verdicts[verdict as usize] += 1;
        if offer.is_quiet {
            return;
        }
        let frag = VerdictFrag {
            token: offer.token,
            source: offer.source,
            block: offer.block,
            verdict,
            detail,
            vin,
            fee_sat,
            txid,
            other,
        };
        let queue = if offer.block == 0 { &mut self.verdicts } else { &mut self.block_verdicts };
        queue.push_back((frag, offer.born));
    }

    /// Makes what libsecp256k1 makes for each thread at its first verification.
    pub fn warm_up() {
        let mut key = [2; 33];
        key[1..].copy_from_slice(&GENERATOR_X);
        let mut signature = [0; 64];
        signature[31] = 1;
        signature[63] = 1;
        let check =
            Check { public_key: &key, digest: &[1; 32], signature: Signature::Compact(&signature) };
        Verifier::new().verify_one(&check);
    }

    /// A new turn: its bounds are whole again.
    pub fn begin_turn(&mut self) {
        self.turn_inputs = INPUTS_PER_TURN_MAX;
        self.turn_bytes = 0;
    }

    /// After the frags of a turn that began at `now_ns`: pieces, woken slots, signatures (when enough are there, when nothing
    /// else was to do, or when the first of them has waited for [`VERIFY_AFTER_NS`]). Whether anything was done.
    pub fn end_turn(&mut self, idle: bool, now_ns: u64) -> bool {
        let mut worked = false;
        for _ in 0..self.arriving.len().min(PIECES_PER_TURN_MAX) {
            if let Some(slot) = self.arriving.pop_front() {
                self.arrive(slot);
                worked = true;
            }
        }
        let restarts = self.counts.restarts;
        self.start_ready();
        worked |= self.counts.restarts != restarts;
        if !self.batch.is_empty() {
            let since_ns = *self.batch_since_ns.get_or_insert(now_ns);
            let waited = now_ns.saturating_sub(since_ns) >= VERIFY_AFTER_NS;
            if idle || waited {
                self.verify_batch();
                worked = true;
            } else if self.batch.len() * 2 >= self.cfg.bounds.signatures_max {
                self.verify_whole_rounds();
                worked = true;
            }
        }
        worked || !self.pumping.is_empty()
    }

    /// Adds an offered copy to a slot's list; false when all places are taken.
    pub fn add_offer(&mut self, slot: u32, offer: Offer) -> bool {
        let Some(at) = self.free_offers.pop() else {
            self.counts.joined_refused += 1;
            return false;
        };
        self.offers[at as usize] = Offer { next: NONE, ..offer };
        let s = &mut self.slots[slot as usize];
        if s.offers == NONE {
            s.offers = at;
        } else {
            self.offers[s.offers_last as usize].next = at;
        }
        s.offers_last = at;
        if s.is_orphan {
            self.counts.orphan_offers += 1;
        } else {
            self.counts.offers_in_flight += 1;
        }
        true
    }

    /// Takes the first copy off a slot's list.
    pub fn pop_offer(&mut self, slot: u32) -> Option<Offer> {
        let s = &mut self.slots[slot as usize];
        if s.offers == NONE {
            return None;
        }
        let at = s.offers;
        let offer = self.offers[at as usize];
        s.offers = offer.next;
        if s.offers == NONE {
            s.offers_last = NONE;
        }
        self.free_offers.push(at);
        if s.is_orphan {
            self.counts.orphan_offers -= 1;
        } else {
            self.counts.offers_in_flight -= 1;
        }
        Some(offer)
    }

    /// Takes the copies off a slot's list whose senders want to hear of a missing parent, first to last; gives one at a time.
    pub fn pop_tell_orphan(&mut self, slot: u32) -> Option<Offer> {
        let (mut before, mut at) = (NONE, self.slots[slot as usize].offers);
        while at != NONE && !self.offers[at as usize].tell_orphan {
            (before, at) = (at, self.offers[at as usize].next);
        }
        if at == NONE {
            return None;
        }
        if before == NONE {
            return self.pop_offer(slot);
        }
        let offer = self.offers[at as usize];
        self.offers[before as usize].next = offer.next;
        let s = &mut self.slots[slot as usize];
        if s.offers_last == at {
            s.offers_last = before;
        }
        self.free_offers.push(at);
        if s.is_orphan {
            self.counts.orphan_offers -= 1;
        } else {
            self.counts.offers_in_flight -= 1;
        }
        Some(offer)
    }

    /// Moves a slot between the account of what is in flight and that of orphans.
    pub fn set_orphan(&mut self, slot: u32, orphan: bool) {
        let s = &mut self.slots[slot as usize];
        assert!(s.is_orphan != orphan, "slot {slot} is counted twice");
        s.is_orphan = orphan;
        let (mut offers, mut at) = (0, s.offers);
        while at != NONE {
            offers += 1;
            at = self.offers[at as usize].next;
        }
        if orphan {
            self.counts.offers_in_flight -= offers;
            self.counts.orphan_offers += offers;
            self.leave_flight(slot);
        } else {
            self.counts.orphan_offers -= offers;
            self.counts.offers_in_flight += offers;
            self.enter_flight(slot);
        }
    }

    /// Counts a slot's transaction as in flight.
    pub fn enter_flight(&mut self, slot: u32) {
        let s = &self.slots[slot as usize];
        let bytes = s.tx.len() as u64;
        if s.block == 0 {
            self.in_flight += 1;
            self.bytes_in_flight += bytes;
        } else {
            self.block_in_flight += 1;
            self.block_bytes_in_flight += bytes;
        }
        self.inputs_in_flight += self.slot_inputs(slot);
    }

    /// The opposite of [`Self::enter_flight`].
    pub fn leave_flight(&mut self, slot: u32) {
        let s = &self.slots[slot as usize];
        let bytes = s.tx.len() as u64;
        if s.block == 0 {
            self.in_flight -= 1;
            self.bytes_in_flight -= bytes;
        } else {
            self.block_in_flight -= 1;
            self.block_bytes_in_flight -= bytes;
        }
        self.inputs_in_flight -= self.slot_inputs(slot);
    }

    fn slot_inputs(&self, slot: u32) -> u64 {
        let work = self.slots[slot as usize].work;
        if work == NONE { 0 } else { self.works[work as usize].inputs.len() as u64 }
    }

    /// Gives everything of a slot back. Its announcement must have left, its verdicts must have been given.
    pub fn free(&mut self, slot: u32) {
        let s = &self.slots[slot as usize];
        assert!(s.offers == NONE, "slot {slot} is freed while a copy waits for its verdict");
        assert!(
            s.ops.0 == 0 && !s.queued && !s.large_queued,
            "slot {slot} is freed with sends left"
        );
        if s.in_ready {
            return;
        }
        assert!(!s.is_orphan, "slot {slot} is freed as an orphan");
        self.leave_flight(slot);
        self.new_run(slot);
        let s = &self.slots[slot as usize];
        if s.indexed {
            let hash = s.hash;
            self.index.remove(hash, slot);
        }
        let s = &mut self.slots[slot as usize];
        let (tx, work) = (s.tx, s.work);
        s.reset();
        self.arena.give(tx);
        if work != NONE {
            self.give_work(work);
        }
        self.free_slots.push(slot);
    }

    /// Gives a work back to its class.
    pub fn give_work(&mut self, work: u32) {
        let w = &mut self.works[work as usize];
        w.inputs.clear();
        w.layout.clear();
        let items_max = w.items_max;
        self.free_works[work_class(items_max)].push(work);
    }

    /// True when nothing is in flight (orphans apart) and nothing waits to be sent.
    pub fn is_drained(&self) -> bool {
        self.in_flight == 0
            && self.block_in_flight == 0
            && self.verdicts.is_empty()
            && self.block_verdicts.is_empty()
            && self.barriers_due.iter().all(Option::is_none)
            && self.outboxes.iter().all(|o| o.waiting_bytes() == 0)
    }
}

/// The class of works with room for so many items: small, medium, large.
pub(super) fn work_class(items_max: usize) -> usize {
    match items_max {
        SMALL_ITEMS_MAX => 0,
        MEDIUM_ITEMS_MAX => 1,
        _ => 2,
    }
}
