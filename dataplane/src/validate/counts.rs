//! What a validate tile counts: every offered copy exactly once, so that the sums reconcile at any moment.
//!
//! `offered = verdicts (all) + offers in flight + offers of orphans`.

use crate::msg::TxVerdict;

/// The tallies of one coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Copies taken from ingest links.
    pub offered: u64,
    /// Copies that ended, by verdict.
    pub verdicts: [u64; TxVerdict::ALL.len()],
    /// Copies without a verdict whose transaction is in flight.
    pub offers_in_flight: u64,
    /// Copies without a verdict whose transaction is an orphan.
    pub orphan_offers: u64,
    /// Copies that joined a transaction that was there already.
    pub joined: u64,
    /// Copies that found no place to wait.
    pub joined_refused: u64,
    /// Answers to older attempts.
    pub replies_stale: u64,
    /// Signatures verified in batches.
    pub signatures_batched: u64,
    /// Signatures of a batch that were wrong.
    pub signatures_wrong: u64,
    /// Batches.
    pub signature_batches: u64,
    /// Signatures that the kernel accepted; the others were decided by libsecp256k1.
    pub signatures_by_kernel: u64,
    /// Of them, those verified again, here or on the slow lane.
    pub signatures_audited: u64,
    /// Inputs verified (scripts run to an end on this tile).
    pub inputs_run: u64,
    /// Inputs handed to the slow lane.
    pub inputs_long: u64,
    /// Transactions started anew.
    pub restarts: u64,
    /// Transactions that became orphans.
    pub orphaned: u64,
    /// Orphans thrown out for want of room.
    pub orphans_evicted: u64,
    /// Coins that were not what the scripts were run with.
    pub differed: u64,
    /// Single-message commits.
    pub commits: u64,
    /// Turns in which a slot waited for room in an outbox.
    pub outbox_full: u64,
}

impl Counts {
    /// Copies that ended.
    pub fn ended(&self) -> u64 {
        self.verdicts.iter().sum()
    }

    /// Whether every offered copy is somewhere.
    pub fn reconcile(&self) -> bool {
        self.offered == self.ended() + self.offers_in_flight + self.orphan_offers
    }

    /// Copies that ended so.
    pub fn of(&self, verdict: TxVerdict) -> u64 {
        self.verdicts[verdict as usize]
    }
}

crate::counters! {
    /// The counters observers see.
    pub enum ValidateCount {
        /// Copies taken from ingest links.
        Offered = counter "offered_total",
        /// Copies accepted.
        Accepted = counter "verdict_accepted_total",
        /// Copies of accepted transactions.
        Known = counter "verdict_known_total",
        /// Copies that are no transaction.
        Malformed = counter "verdict_malformed_total",
        /// Copies that break a rule.
        Invalid = counter "verdict_invalid_total",
        /// Copies that are not final.
        NonFinal = counter "verdict_non_final_total",
        /// Copies against policy.
        Policy = counter "verdict_policy_total",
        /// Copies whose scripts fail.
        ScriptFailed = counter "verdict_script_failed_total",
        /// Copies that spend what an accepted transaction spends.
        DoubleSpend = counter "verdict_double_spend_total",
        /// Copies that spend a frozen coin.
        Frozen = counter "verdict_frozen_total",
        /// Copies that spend an immature coin.
        Immature = counter "verdict_immature_total",
        /// Orphans dropped.
        OrphanExpired = counter "verdict_orphan_expired_total",
        /// Copies whose parent was rejected.
        ParentRejected = counter "verdict_parent_rejected_total",
        /// Copies turned away at a bound.
        Overloaded = counter "verdict_overloaded_total",
        /// Copies whose scripts cost too much.
        TooCostly = counter "verdict_too_costly_total",
        /// Copies that claimed a wrong coin.
        CoinMismatch = counter "verdict_coin_mismatch_total",
        /// Block transactions without a coin.
        MissingInput = counter "verdict_missing_input_total",
        /// Copies that spend a locked coin.
        Locked = counter "verdict_locked_total",
        /// Copies without a verdict, in flight.
        OffersInFlight = gauge "offers_in_flight",
        /// Copies without a verdict, as orphans.
        OrphanOffers = gauge "orphan_offers",
        /// Transactions in flight.
        InFlight = gauge "transactions_in_flight",
        /// Orphans.
        Orphans = gauge "orphans",
        /// Bytes of the arena in use.
        ArenaBytes = gauge "arena_bytes",
        /// Copies that joined a transaction that was there already.
        Joined = counter "joined_total",
        /// Answers to older attempts.
        RepliesStale = counter "replies_stale_total",
        /// Signatures verified in batches.
        SignaturesBatched = counter "signatures_batched_total",
        /// Signatures of a batch that were wrong.
        SignaturesWrong = counter "signatures_wrong_total",
        /// Batches of signatures.
        SignatureBatches = counter "signature_batches_total",
        /// Signatures that the kernel accepted.
        SignaturesByKernel = counter "signatures_by_kernel_total",
        /// Of them, those verified again.
        SignaturesAudited = counter "signatures_audited_total",
        /// Inputs verified on this tile.
        InputsRun = counter "inputs_run_total",
        /// Inputs handed to the slow lane.
        InputsLong = counter "inputs_long_total",
        /// Transactions started anew.
        Restarts = counter "restarts_total",
        /// Transactions that became orphans.
        Orphaned = counter "orphaned_total",
        /// Orphans thrown out for want of room.
        OrphansEvicted = counter "orphans_evicted_total",
        /// Coins that were not what the scripts were run with.
        Differed = counter "differed_total",
        /// Single-message commits.
        Commits = counter "commits_total",
        /// Sends that waited for room in an outbox.
        OutboxFull = counter "outbox_full_total",
    }
}
