//! Mining: candidates out, solutions in, and blocks of our own on regtest.
//!
//! A candidate is what pack offers on the tip, with the coinbase's merkle branch; whoever solves it may bring a coinbase of his own.
//! The block's bytes are put together from the pool's only when a solution meets its target. A block of our own takes the way of all
//! blocks, but the engine is told which candidate it is, so that nothing is validated twice.
//!
//! Sources: SV Node `rpc/mining.cpp` `generateBlocks`, `mining/assembler.cpp`, `rpc/miningcandidate` `submitminingsolution`;
//! the time of a new block is the later of now and the first second after the median (`UpdateTime`).

use super::answers::{BlockOutcome, Candidate, Solution, TemplateTx};
use super::candidates::Held;
use super::handle::ChainError;
use super::state::State;
use crate::engine::{self, Engine, Leaves};
use crate::mine;
use crate::service::Stop;
use consensus::hash::{BlockHash, MerkleHash, TxId, merkle_parent};
use consensus::header::{Header, HeaderReject, check_header_work};
use consensus::params::{Era, Network};
use consensus::rules::count_tx_sigops;
use consensus::script::opcode;
use consensus::tx::{Limits, TxLayout, parse_prefix};
use consensus::wire::write_compact_size;
use dataplane::msg::pack_control::Want;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Version of a block made here. Source: BIP9's top bits, as SV Node's `VERSIONBITS_TOP_BITS`.
const BLOCK_VERSION: i32 = 0x2000_0000;
/// Blocks of one `generate`.
pub const GENERATE_MAX: u32 = 100_000;
/// How long the pool may lag behind pack.
const POOL_LAG_MAX: Duration = Duration::from_secs(30);
/// Nonces tried with one coinbase. Source: SV Node `rpc/mining.cpp` `nInnerLoopCount`.
const NONCES_A_COINBASE: u32 = 0x1_0000;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

impl<E: Engine> State<E> {
    /// A candidate on the tip, kept in the table.
    pub(crate) fn candidate(&mut self, want: Want) -> Result<Candidate, ChainError> {
        let any = vec![opcode::OP_1];
        let held = self.make_candidate(want, any)?;
        let candidate = held.candidate.clone();
        self.candidates.keep_on(&candidate.prev);
        self.candidates.add(held);
        Ok(candidate)
    }

    fn make_candidate(&mut self, want: Want, pays_to: Vec<u8>) -> Result<Held, ChainError> {
        let offered = self.engine.candidate(want)?;
        let offered = self.within_sigops(offered)?;
        let (prev, height, min_time_s, time_s, n_bits) = {
            let tree = self.view.tree();
            let tip = tree.tip();
            let entry = tree.entry(tip);
            let min_time_s = entry.median_time_past + 1;
            let time_s = (self.clock.now_s() as u32).max(min_time_s);
            let n_bits = tree.required_bits(&self.params, tip, time_s);
            (entry.hash, entry.height + 1, min_time_s, time_s, n_bits)
        };
        let coinbase_value_sat = self.params.subsidy_sat(height) + offered.fees_sat;
        let coinbase = mine::coinbase(height, coinbase_value_sat, pays_to, &random::<8>());
        let candidate = Candidate {
            id: random(),
            prev,
            height,
            coinbase_value_sat,
            n_bits,
            time_s,
            min_time_s,
            version: BLOCK_VERSION,
            branch: offered.branch.iter().map(|node| node.0).collect(),
            tx_count: offered.id.leaves,
            size_bytes: offered.size_bytes,
            fees_sat: offered.fees_sat,
            coinbase: coinbase.to_bytes(),
        };
        Ok(Held { candidate, leaves: offered.id })
    }

    /// The longest part of what pack offers that a block may hold: before Genesis a block's signature operations are counted.
    ///
    /// While the order of pack's list stands, any first part of it is a candidate; sums are kept as the list grows.
    fn within_sigops(
        &mut self,
        mut offered: engine::Candidate,
    ) -> Result<engine::Candidate, ChainError> {
        let era = self.params.era(self.view.tip().height + 1);
        if era != Era::PreGenesis || offered.id.leaves == 1 {
            return Ok(offered);
        }
        let leaves = self.engine.leaves(offered.id)?;
        let leaves = leaves.ok_or(ChainError::StaleCandidate)?;
        let mut sums = std::mem::take(&mut self.candidates.sums);
        sums.begin(offered.id.generation);
        for txid in leaves.txids.iter().skip(sums.len()) {
            let tx = self.pooled(txid)?;
            let mut layout = TxLayout::new();
            let view = parse_prefix(&tx.raw, &mut layout, Limits::CONSENSUS);
            let sigops = view.map_or(0, |view| count_tx_sigops(view, era).unwrap_or(0));
            sums.add(sigops, tx.raw.len() as u64, tx.fee_sat);
        }
        let fit = sums.fitting(leaves.txids.len());
        if fit < leaves.txids.len() {
            let (size_bytes, fees_sat) = sums.bytes_and_fees(fit);
            offered.id.leaves = fit as u64 + 1;
            (offered.size_bytes, offered.fees_sat) = (size_bytes, fees_sat);
            offered.branch = coinbase_branch(&leaves.txids[..fit]);
        }
        self.candidates.sums = sums;
        Ok(offered)
    }

    /// The transactions of a candidate.
    pub(crate) fn candidate_txs(&mut self, id: &[u8; 16]) -> Result<Vec<TemplateTx>, ChainError> {
        let held = self.held(id)?;
        let leaves = self.leaves(&held)?;
        let mut places = HashMap::with_capacity(leaves.txids.len());
        let mut txs = Vec::with_capacity(leaves.txids.len());
        let mut layout = TxLayout::new();
        for (place, txid) in leaves.txids.iter().enumerate() {
            let tx = self.pooled(txid)?;
            let mut depends = Vec::new();
            if let Ok(view) = parse_prefix(&tx.raw, &mut layout, Limits::CONSENSUS) {
                depends.extend(view.inputs().filter_map(|i| places.get(&i.prev.txid).copied()));
            }
            depends.sort_unstable();
            depends.dedup();
            places.insert(*txid, place);
            txs.push(TemplateTx { txid: *txid, raw: tx.raw, fee_sat: tx.fee_sat, depends });
        }
        Ok(txs)
    }

    fn held(&self, id: &[u8; 16]) -> Result<Held, ChainError> {
        self.candidates.find(id).cloned().ok_or(ChainError::UnknownCandidate)
    }

    fn leaves(&mut self, held: &Held) -> Result<Leaves, ChainError> {
        if held.candidate.prev != self.view.tip().hash {
            return Err(ChainError::StaleCandidate);
        }
        let leaves = self.engine.leaves(held.leaves)?;
        leaves.ok_or(ChainError::StaleCandidate)
    }

    /// The bytes of a transaction pack knows; the pool reads the same link and may be a moment behind.
    fn pooled(&self, txid: &TxId) -> Result<crate::store::PoolTx, ChainError> {
        let deadline = Instant::now() + POOL_LAG_MAX;
        loop {
            if let Some(tx) = self.pool.get(txid).map_err(|e| self.read_error(e))? {
                return Ok(tx);
            }
            if Instant::now() > deadline {
                let what = format!("transaction {txid} is in a candidate but not in the pool");
                return Err(ChainError::Engine { what });
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Hands in a solved candidate.
    pub(crate) fn submit_solution(
        &mut self,
        solution: &Solution,
    ) -> Result<BlockOutcome, ChainError> {
        let held = self.held(&solution.id)?;
        let candidate = &held.candidate;
        let coinbase = solution.coinbase.as_ref().unwrap_or(&candidate.coinbase);
        let mut layout = TxLayout::new();
        let view = consensus::tx::parse(coinbase, &mut layout)
            .map_err(|error| ChainError::Malformed { what: format!("the coinbase: {error}") })?;
        let header = Header {
            version: solution.version.unwrap_or(candidate.version),
            prev: candidate.prev,
            merkle_root: root_of(&view.txid(), candidate),
            time_s: solution.time_s.unwrap_or(candidate.time_s),
            n_bits: candidate.n_bits,
            nonce: solution.nonce,
        };
        if check_header_work(&header, &self.params).is_err() {
            let reason = HeaderReject::HighHash.reason().to_owned();
            return Ok(BlockOutcome::Rejected { reason, detail: String::new() });
        }
        let leaves = self.leaves(&held)?;
        let raw = self.assemble(&header, coinbase, &leaves)?;
        self.take_block(&raw, Some(&leaves))
    }

    fn assemble(
        &self,
        header: &Header,
        coinbase: &[u8],
        leaves: &Leaves,
    ) -> Result<Vec<u8>, ChainError> {
        let mut raw = Vec::new();
        raw.extend_from_slice(&header.to_bytes());
        write_compact_size(&mut raw, leaves.txids.len() as u64 + 1);
        raw.extend_from_slice(coinbase);
        let mut done = 0;
        while done < leaves.txids.len() {
            done += self
                .pool
                .append(&leaves.txids[done..], &mut raw)
                .map_err(|e| self.read_error(e))?;
            // The pool may be a moment behind pack.
            if let Some(missing) = leaves.txids.get(done) {
                self.pooled(missing)?;
            }
        }
        Ok(raw)
    }

    /// Mines blocks on regtest until there are `count`, `tries_max` nonces are used up, or the node stops.
    pub(crate) fn generate(
        &mut self,
        count: u32,
        locking_script: &[u8],
        mut tries_max: u64,
        stop: &Stop,
    ) -> Result<Vec<BlockHash>, ChainError> {
        if self.params.network != Network::Regtest {
            return Err(ChainError::NotRegtest { network: self.params.network });
        }
        if count > GENERATE_MAX {
            let (asked, most) = (u64::from(count), u64::from(GENERATE_MAX));
            return Err(ChainError::TooMany { asked, what: "blocks", most });
        }
        let mut hashes = Vec::new();
        while hashes.len() < count as usize && tries_max > 0 && !stop.is_requested() {
            let held = self.make_candidate(Want::Everything, locking_script.to_vec())?;
            let candidate = &held.candidate;
            let coinbase_txid = TxId::of(&candidate.coinbase);
            let mut header = Header {
                version: candidate.version,
                prev: candidate.prev,
                merkle_root: root_of(&coinbase_txid, candidate),
                time_s: candidate.time_s,
                n_bits: candidate.n_bits,
                nonce: 0,
            };
            let mut solved = false;
            while !solved && tries_max > 0 && header.nonce < NONCES_A_COINBASE {
                solved = check_header_work(&header, &self.params).is_ok();
                tries_max -= 1;
                header.nonce += u32::from(!solved);
            }
            if !solved {
                continue;
            }
            let leaves = self.leaves(&held)?;
            let raw = self.assemble(&header, &candidate.coinbase, &leaves)?;
            match self.take_block(&raw, Some(&leaves))? {
                BlockOutcome::Connected => hashes.push(header.hash()),
                BlockOutcome::Rejected { reason, .. } => {
                    return Err(ChainError::OwnBlock { reason });
                }
                other => {
                    let reason = format!("{other:?}");
                    return Err(ChainError::OwnBlock { reason });
                }
            }
        }
        Ok(hashes)
    }
}

/// The merkle branch of leaf 0 over these other leaves.
fn coinbase_branch(others: &[TxId]) -> Vec<TxId> {
    // The coinbase's own place is in no sibling.
    let mut level: Vec<[u8; 32]> =
        std::iter::once([0; 32]).chain(others.iter().map(|t| t.0)).collect();
    let mut branch = Vec::new();
    while level.len() > 1 {
        branch.push(TxId(level[1]));
        let pair = |p: &[[u8; 32]]| merkle_parent(&p[0], &p[p.len() - 1]);
        level = level.chunks(2).map(pair).collect();
    }
    branch
}

/// The root of a candidate's block with this coinbase.
fn root_of(coinbase: &TxId, candidate: &Candidate) -> MerkleHash {
    let up = |node: [u8; 32], sibling: &[u8; 32]| merkle_parent(&node, sibling);
    MerkleHash(candidate.branch.iter().fold(coinbase.0, up))
}
