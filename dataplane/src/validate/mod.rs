//! `validate`: the coordinator of every transaction whose first input falls to it. Design section 4, steps 1 to 7.
//!
//! In, in this order: contexts from control-plane, transactions of blocks, answers of shards and of the slow lane (always
//! drained), transactions from ingest links (only while there is room: a full tile pushes back and drops nothing). Out:
//! batches of requests to each shard, scripts for the slow lane, one verdict for every copy that was offered.
//!
//! ```text
//!            parse, txid,          resolve,            reserve           settle           spend
//!  ingest ─► join, rules ─► announce+seen ─► scripts ─────────► all held ─────────► decided ─────► logged ─► free
//!                               │  (claims)      │ missing                 │ busy, parent in flight, woken
//!                               └── known        └──► orphan ──► woken ────┴──► a new attempt
//! ```
//!
//! Costs, a P2PKH transaction of one input and two outputs (about 225 bytes): one copy of its bytes, one double SHA-256 of
//! them for the txid, one for each digest, one signature (the rest is small beside it); on the links one announcement with
//! the bytes, 41 + 45 bytes of questions, 120 bytes of commit, and as many answers. Memory: all taken at start
//! (`Bounds`); about 1.2 kB a slot and the bytes of the transactions. What bounds a turn: `BYTES_PER_TURN_MAX` from ingest
//! links, `INPUTS_PER_TURN_MAX` sent, one batch of signatures, 64 frags a link.
//!
//! It is deterministic: no clock (ages count in what housekeeping hands in), no randomness but one seed (which orphan goes).

mod admit;
mod arena;
mod config;
mod coordinator;
mod counts;
mod decide;
mod index;
mod ops;
mod orphans;
mod outbox;
mod prove;
mod slot;
#[cfg(test)]
mod tests;

pub use config::{Bounds, Config, MEDIUM_ITEMS_MAX, Policy, SMALL_ITEMS_MAX};
pub use coordinator::BLOCKS_OPEN_MAX;
pub use counts::{Counts, ValidateCount};

use crate::metrics::CounterDef;
use crate::msg::{IngestHeader, LongReply, LongRequest, Ticket, TxVerdict, ValidateControl};
use crate::tile::{Busy, Filter, Frag, House, In, Out, Outs, Seq, Sig, Stamp, Tile};
use crate::topo::Wiring;
use coordinator::Coordinator;
use outbox::Front;
use ring::Refused;
use sigbatch::Audit;
use slot::NONE;

/// What an in-link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InKind {
    /// `control_validate`.
    Control,
    /// `block_validate`.
    Block,
    /// `shard_validate`.
    Shard,
    /// `long_validate`.
    Long,
    /// Transactions for the pool; whatever else ends in `_validate`.
    Ingest,
}

impl InKind {
    /// By the row of the topology.
    pub fn of_row(row: &str) -> Self {
        match row {
            "control_validate" => Self::Control,
            "block_validate" => Self::Block,
            "shard_validate" => Self::Shard,
            "long_validate" => Self::Long,
            _ => Self::Ingest,
        }
    }
}

/// Out-links that are not for verdicts on the pool.
const OWN_ROWS: [&str; 3] = ["validate_shard", "validate_long", "validate_block"];

/// The ends of a validate tile.
#[derive(Clone, Debug)]
pub struct Links {
    /// Its in-links, by handle.
    pub ins: Vec<InKind>,
    /// `validate_shard`, in the order of the shards.
    pub shards: Vec<Out>,
    /// `validate_long`, where there is a slow lane.
    pub long: Option<Out>,
    /// `validate_verdict`, or another row of that meaning: verdicts on transactions for the pool.
    pub verdict: Out,
    /// `validate_block`: verdicts on transactions of blocks; where there is none they go with the others.
    pub block_verdict: Option<Out>,
    /// Most bytes of a batch on `validate_shard`.
    pub request_mtu: usize,
    /// Most bytes of an ingest frag in line.
    pub ingest_mtu: usize,
}

impl Links {
    /// From a wiring: rows `control_validate`, `block_validate`, `shard_validate`, `long_validate` and any other `*_validate`
    /// in; `validate_shard`, `validate_long`, `validate_block` and one other row, for verdicts, out.
    ///
    /// # Panics
    /// If there is no `validate_shard`, or not exactly one row for verdicts.
    pub fn of(wiring: &Wiring, request_mtu: usize, ingest_mtu: usize) -> Self {
        let verdicts: Vec<_> = wiring
            .output_rows()
            .into_iter()
            .enumerate()
            .filter(|(_, row)| !OWN_ROWS.contains(row))
            .collect();
        let [(verdict, _)] = verdicts[..] else {
            panic!("validate needs one out-link for verdicts, got {verdicts:?}");
        };
        let shards = wiring.outputs("validate_shard");
        assert!(!shards.is_empty(), "validate has no out-link validate_shard");
        Self {
            ins: wiring.input_rows().into_iter().map(InKind::of_row).collect(),
            shards,
            long: wiring.output("validate_long"),
            verdict: Out(verdict as u16),
            block_verdict: wiring.output("validate_block"),
            request_mtu,
            ingest_mtu,
        }
    }
}

/// The tile.
#[derive(Debug)]
pub struct Validate {
    links: Links,
    core: Coordinator,
    took_frags: bool,
    /// Frags of a block that were asked for and that came in this turn.
    block_frags: (u32, u32),
    shown: Counts,
}

impl Validate {
    /// Takes all memory the tile will ever use.
    ///
    /// # Panics
    /// If the partition has another number of shards than there are links to, or bounds contradict each other.
    pub fn new(config: Config, links: Links) -> Self {
        assert_eq!(
            usize::from(config.partition.shards()),
            links.shards.len(),
            "the partition's shards against the links validate_shard"
        );
        let core = Coordinator::new(config, links.request_mtu, links.long.is_some());
        Self { links, core, took_frags: false, block_frags: (0, 0), shown: Counts::default() }
    }

    /// The tallies, for tests and simulators.
    pub fn counts(&self) -> &Counts {
        &self.core.counts
    }

    /// Transactions in flight, and orphans.
    pub fn load(&self) -> (u32, usize) {
        (self.core.in_flight + self.core.block_in_flight, self.core.orphans.len())
    }

    fn kind(&self, input: In) -> InKind {
        self.links.ins[input.index()]
    }

    fn flush(&mut self, outs: &mut Outs) -> Busy {
        let mut sent = false;
        let mut left = false;
        for shard in 0..self.links.shards.len() {
            let out = self.links.shards[shard];
            loop {
                match self.core.outboxes[shard].front() {
                    Front::Empty => break,
                    _ if outs.credit(out) == 0 => {
                        left = true;
                        break;
                    }
                    Front::Items => {
                        let epoch = self.core.epoch;
                        let outbox = &mut self.core.outboxes[shard];
                        outs.publish_with(out, 0, |frag| outbox.fill(frag, epoch));
                        sent = true;
                    }
                    Front::Large { slot, context } => {
                        if !self.send_large(shard, slot, context, outs) {
                            left = true;
                            break;
                        }
                        sent = true;
                    }
                }
            }
        }
        let block_verdict = self.links.block_verdict.unwrap_or(self.links.verdict);
        let queues = [
            (&mut self.core.block_verdicts, block_verdict),
            (&mut self.core.verdicts, self.links.verdict),
        ];
        for (queue, out) in queues {
            while outs.credit(out) > 0 {
                let Some((verdict, born)) = queue.pop_front() else { break };
                outs.set_born(Stamp(born));
                outs.publish(out, verdict.token, &verdict.encode());
                sent = true;
            }
            left |= !queue.is_empty();
        }
        let (long_sent, long_left) = self.flush_long(outs);
        if sent || long_sent {
            Busy::Yes
        } else if left || long_left {
            Busy::Waiting
        } else {
            Busy::No
        }
    }

    /// An announcement above the mtu goes out of the slot's own memory, piece by piece.
    fn send_large(
        &mut self,
        shard: usize,
        slot: u32,
        context: crate::msg::Context,
        outs: &mut Outs,
    ) -> bool {
        let out = self.links.shards[shard];
        let view = self.core.view(slot);
        let ticket = self.core.ticket(slot);
        let txid = self.core.slots[slot as usize].txid;
        let head = crate::msg::request::large_announce_head(
            self.core.epoch,
            &context,
            ticket,
            &txid,
            view.raw_size() as u32,
        );
        let bytes = head.len() as u64 + view.raw_size();
        let mut frag = match outs.admit(out, bytes, u64::from(slot)) {
            Ok(frag) => frag,
            Err(refused) => {
                assert!(
                    refused != Refused::TooLarge,
                    "an announcement of {bytes} bytes never fits the arena of validate_shard: the bounds of validate take \
                     larger transactions than the topology carries"
                );
                return false;
            }
        };
        outs.append(out, &mut frag, &head);
        if view.is_extended() {
            let n = view.input_count();
            let all = view.bytes();
            outs.append(out, &mut frag, &all[..4]);
            let count_len = consensus::wire::compact_size_len(n as u64);
            outs.append(out, &mut frag, &all[10..10 + count_len]);
            let mut inputs_len = 0;
            for i in 0..n {
                let input = view.input_bytes(i);
                inputs_len += input.len();
                outs.append(out, &mut frag, input);
            }
            let tail = view.raw_size() as usize - 4 - count_len - inputs_len;
            outs.append(out, &mut frag, &all[all.len() - tail..]);
        } else {
            outs.append(out, &mut frag, view.bytes());
        }
        let published = outs.publish_large(out, 0, frag);
        assert!(published.is_ok(), "credit was there a moment ago");
        self.core.outboxes[shard].pop_large();
        self.core.large_sent(slot);
        true
    }

    /// Sends what the slow lane has credit for; whether anything went, and whether anything is left.
    fn flush_long(&mut self, outs: &mut Outs) -> (bool, bool) {
        let Some(out) = self.links.long else { return (false, false) };
        let mut sent = false;
        while let Some(job) = self.core.long.front().copied() {
            if outs.credit(out) < 2 {
                return (sent, true);
            }
            let ticket = Ticket { slot: job.slot, attempt: job.run };
            let s = &self.core.slots[job.slot as usize];
            if job.vin == NONE {
                let _ = send_long(out, &LongRequest::End { ticket }, outs);
            } else if s.run == job.run {
                if !s.long_begun {
                    let context = self.core.context(s.block);
                    let tx = self.core.arena.get(s.tx);
                    let begin = LongRequest::Begin { ticket, txid: s.txid, context, tx };
                    match send_long(out, &begin, outs) {
                        Ok(()) => self.core.slots[job.slot as usize].long_begun = true,
                        Err(Refused::TooLarge) => {
                            self.core.long_refused(job);
                            sent = true;
                            continue;
                        }
                        Err(_) => return (sent, true),
                    }
                }
                let script = job.script.map_or(&[][..], |span| self.core.arena.get(span));
                let input = LongRequest::Input {
                    ticket,
                    vin: job.vin,
                    value_sat: job.value_sat,
                    coin_height: job.coin_height,
                    locking_script: script,
                };
                match send_long(out, &input, outs) {
                    Ok(()) => {}
                    Err(Refused::TooLarge) => {
                        self.core.long_refused(job);
                        sent = true;
                        continue;
                    }
                    Err(_) => return (sent, true),
                }
            }
            sent = true;
            if let Some(span) = job.script {
                self.core.arena.give(span);
            }
            self.core.long.pop_front();
        }
        // What waits here for credit is bounded, and what finds no room there is verified at once.
        while outs.credit(out) >= 2 {
            let Some(audit) = self.core.verifier.take_audit() else { break };
            let mut bytes = [0; Audit::LEN_MAX];
            let len = audit.encode(&mut bytes);
            let message = LongRequest::Audit { audit: &bytes[..len] };
            if send_long(out, &message, outs).is_err() {
                break;
            }
            sent = true;
        }
        (sent, false)
    }
}

/// One message to the slow lane; the caller has seen credit for two.
fn send_long(out: Out, message: &LongRequest<'_>, outs: &mut Outs) -> Result<(), Refused> {
    let len = message.encoded_len();
    if len <= outs.mtu(out) {
        outs.publish_with(out, 0, |frag| {
            message.encode(frag).expect("a frag of an mtu holds what is not longer")
        });
        return Ok(());
    }
    let mut head = [0; LongRequest::HEAD_LEN];
    let (head_len, tail) = message.split(&mut head);
    let mut frag = outs.admit(out, len as u64, 0)?;
    outs.append(out, &mut frag, &head[..head_len]);
    outs.append(out, &mut frag, tail);
    let published = outs.publish_large(out, 0, frag);
    assert!(published.is_ok(), "credit was there a moment ago");
    Ok(())
}

/// How many shards' requests may be written in one call; nothing is published outside of hooks.
const BURST: u32 = 8;

impl Tile for Validate {
    const NAME: &'static str = "validate";
    const BURST: u32 = BURST;
    const COUNTERS: &'static [CounterDef] = ValidateCount::DEFS;

    fn boot(&mut self) {
        Coordinator::warm_up();
    }

    fn housekeeping(&mut self, house: &mut House<'_>) {
        self.core.tick(house.now());
        let counts = &self.core.counts;
        house.count(ValidateCount::Offered, counts.offered - self.shown.offered);
        for (i, verdict) in TxVerdict::ALL.into_iter().enumerate() {
            let cell = ValidateCount::Accepted as usize + i;
            house.count(cell, counts.of(verdict) - self.shown.of(verdict));
        }
        let pairs = [
            (ValidateCount::Joined, counts.joined, self.shown.joined),
            (ValidateCount::RepliesStale, counts.replies_stale, self.shown.replies_stale),
            (
                ValidateCount::SignaturesBatched,
                counts.signatures_batched,
                self.shown.signatures_batched,
            ),
            (ValidateCount::SignaturesWrong, counts.signatures_wrong, self.shown.signatures_wrong),
            (
                ValidateCount::SignatureBatches,
                counts.signature_batches,
                self.shown.signature_batches,
            ),
            (
                ValidateCount::SignaturesByKernel,
                counts.signatures_by_kernel,
                self.shown.signatures_by_kernel,
            ),
            (
                ValidateCount::SignaturesAudited,
                counts.signatures_audited,
                self.shown.signatures_audited,
            ),
            (ValidateCount::InputsRun, counts.inputs_run, self.shown.inputs_run),
            (ValidateCount::InputsLong, counts.inputs_long, self.shown.inputs_long),
            (ValidateCount::Restarts, counts.restarts, self.shown.restarts),
            (ValidateCount::Orphaned, counts.orphaned, self.shown.orphaned),
            (ValidateCount::OrphansEvicted, counts.orphans_evicted, self.shown.orphans_evicted),
            (ValidateCount::Differed, counts.differed, self.shown.differed),
            (ValidateCount::Commits, counts.commits, self.shown.commits),
            (ValidateCount::OutboxFull, counts.outbox_full, self.shown.outbox_full),
        ];
        for (counter, now, before) in pairs {
            house.count(counter, now - before);
        }
        house.set(ValidateCount::OffersInFlight, counts.offers_in_flight);
        house.set(ValidateCount::OrphanOffers, counts.orphan_offers);
        let in_flight = self.core.in_flight + self.core.block_in_flight;
        house.set(ValidateCount::InFlight, in_flight.into());
        house.set(ValidateCount::Orphans, self.core.orphans.len() as u64);
        house.set(ValidateCount::ArenaBytes, self.core.arena.used_bytes() as u64);
        self.shown.clone_from(counts);
    }

    fn before(&mut self, outs: &mut Outs) -> Busy {
        self.core.begin_turn();
        self.took_frags = false;
        self.block_frags = (0, 0);
        self.core.pump_waiting();
        self.flush(outs)
    }

    fn wants(&mut self, input: In, _outs: &Outs) -> u32 {
        match self.kind(input) {
            InKind::Control | InKind::Shard | InKind::Long => u32::MAX,
            InKind::Block => {
                let most = self.core.admits(true, self.links.ingest_mtu).min(Self::FRAGS_PER_TURN);
                self.block_frags.0 += most;
                most
            }
            InKind::Ingest => self.core.admits(false, self.links.ingest_mtu),
        }
    }

    fn filter(&mut self, input: In, _seq: Seq, sig: Sig, _outs: &Outs) -> Filter {
        // Frags of a block carry its number; the word that it is open comes on another link.
        let waits = self.kind(input) == InKind::Block && !self.core.knows_block(sig as u32);
        if waits { Filter::Later } else { Filter::Take }
    }

    fn frag(&mut self, input: In, frag: Frag<'_>, _outs: &mut Outs) {
        self.took_frags = true;
        match self.kind(input) {
            InKind::Control => {
                let message = ValidateControl::decode(frag.bytes);
                self.core.on_control(message.expect("control_validate carries ValidateControl"));
            }
            InKind::Shard => {
                let sound = self.core.on_replies(frag.bytes);
                assert!(sound, "shard_validate carried bytes that are no batch of replies");
            }
            InKind::Long => {
                let reply = LongReply::decode(frag.bytes);
                self.core.on_long(&reply.expect("long_validate carries LongReply"));
            }
            kind @ (InKind::Block | InKind::Ingest) => {
                self.block_frags.1 += u32::from(kind == InKind::Block);
                let (header, tx) =
                    IngestHeader::read(frag.bytes).expect("an ingest frag begins with its header");
                self.core.on_ingest(&header, tx, frag.born.0);
            }
        }
    }

    fn after(&mut self, outs: &mut Outs) -> Busy {
        if self.block_frags.0 > self.block_frags.1 {
            self.core.block_link_empty();
        }
        let worked = self.core.end_turn(!self.took_frags, outs.now());
        Busy::if_so(worked) | self.flush(outs)
    }

    fn is_drained(&self) -> bool {
        self.core.is_drained()
    }
}
