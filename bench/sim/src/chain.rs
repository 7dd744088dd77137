//! The chain: what the control plane would tell the tiles. Imports, epochs, and blocks of our own in the middle of everything.
//!
//! A block goes its way in pieces, one step at a time, while transactions are in flight: a candidate is asked for, its leaves are
//! streamed and checked (parents before children, the root of the branch equal to the flat root), every shard is told what is
//! mined, each at its own time, then pack, then the coordinators hear of the new height.

use crate::auditor::{Auditor, TxInfo};
use crate::fault::{Checked, FailureKind, ensure};
use crate::machine::Machine;
use crate::script::Lock;
use crate::wire::publish;
use crate::workload::Purse;
use consensus::hash::{TxId, merkle_parent};
use consensus::merkle::merkle_root;
use consensus::params::ChainParams;
use consensus::rules::coinbase_height_script;
use consensus::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use dataplane::msg::admin::{Admin, AdminReply};
use dataplane::msg::pack_control::{CandidateId, PackCommand, PackReply, Records, SeqRange, Want};
use dataplane::msg::{BatchReader, BatchWriter, Context, Epoch, ValidateControl};
use dataplane::partition::Partition;
use dataplane::tile::Stamp;
use std::collections::VecDeque;

/// Median time of every context.
const MEDIAN_TIME: u32 = 1_600_000_000;

/// What is done about the next block.
#[derive(Debug)]
enum Stage {
    Rest,
    Candidate {
        token: u64,
    },
    Leaves {
        token: u64,
        candidate: Candidate,
    },
    /// Orders are with the shards; how many answers are missing.
    Shards {
        candidate: Candidate,
        coinbase: Coinbase,
    },
    Pack {
        leaves: Vec<TxId>,
        coinbase: Coinbase,
    },
}

/// What it means when a shard refuses an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It must not.
    Never,
    /// The order came too late, or met another state.
    Fine,
    /// The shard is full: this coin is not there.
    NoCoinbase(OutPoint),
}

#[derive(Clone, Debug, Default)]
struct Candidate {
    id: CandidateId,
    fees_sat: u64,
    size_bytes: u64,
    branch: Vec<TxId>,
    leaves: Vec<TxId>,
    ranges: Vec<SeqRange>,
    roots: u64,
}

#[derive(Clone, Debug)]
struct Coinbase {
    txid: TxId,
    value_sat: u64,
    lock: Lock,
}

/// See the module.
#[derive(Debug)]
pub struct Chain {
    params: ChainParams,
    partition: Partition,
    /// Height of the next block, at which the pool is judged.
    pub height: u32,
    block: u32,
    epoch: u64,
    token: u64,
    stage: Stage,
    /// Orders that wait for credit, by shard.
    orders: Vec<VecDeque<Vec<u8>>>,
    /// Answers expected of each shard.
    expected: Vec<VecDeque<Refusal>>,
    controls: Vec<VecDeque<[u8; ValidateControl::LEN]>>,
    commands: VecDeque<Vec<u8>>,
    /// Shards may be too full for a coinbase.
    pub full: bool,
    /// Blocks made.
    pub blocks: u64,
    replies: u64,
    /// Candidates given and thrown away as stale.
    pub stale: u64,
    /// Leaves of the last candidate.
    pub last_leaves: Option<u64>,
}

/// What a block gave.
#[derive(Debug)]
pub struct NewBlock {
    pub coin: Purse,
    pub height: u32,
}

impl Chain {
    /// Before the first block, which will be at `height`.
    pub fn new(params: ChainParams, partition: Partition, height: u32) -> Self {
        let (v, s) = (usize::from(partition.validators()), usize::from(partition.shards()));
        Self {
            params,
            partition,
            height,
            block: 0,
            epoch: 1,
            token: 0,
            stage: Stage::Rest,
            orders: vec![VecDeque::new(); s],
            expected: vec![VecDeque::new(); s],
            controls: vec![VecDeque::new(); v],
            commands: VecDeque::new(),
            full: false,
            blocks: 0,
            replies: 0,
            stale: 0,
            last_leaves: None,
        }
    }

    fn context(&self, block: u32) -> Context {
        Context {
            block,
            height: self.height,
            median_time_past: MEDIAN_TIME,
            rule_set: self.params.flags_for_block(self.height),
        }
    }

    /// Tells every coordinator against what the pool is judged.
    pub fn set_pool(&mut self) {
        let message = ValidateControl::SetPool { context: self.context(0) }.encode();
        self.controls.iter_mut().for_each(|queue| queue.push_back(message));
    }

    /// Nothing is under way.
    pub fn is_resting(&self) -> bool {
        matches!(self.stage, Stage::Rest) && !self.has_mail()
    }

    /// Changes whenever anything was sent, answered or begun.
    pub fn progress(&self) -> [u64; 6] {
        let orders: usize = self.orders.iter().map(VecDeque::len).sum();
        let expected: usize = self.expected.iter().map(VecDeque::len).sum();
        let controls: usize = self.controls.iter().map(VecDeque::len).sum();
        let commands = self.commands.len();
        [
            orders as u64,
            expected as u64,
            controls as u64,
            commands as u64,
            self.replies,
            self.blocks,
        ]
    }

    /// Something waits to be sent or answered.
    pub fn has_mail(&self) -> bool {
        !self.commands.is_empty()
            || self.orders.iter().any(|q| !q.is_empty())
            || self.expected.iter().any(|q| !q.is_empty())
            || self.controls.iter().any(|q| !q.is_empty())
    }

    /// One batch of orders to a shard, in as many frags as it takes.
    fn order(&mut self, shard: usize, context: Context, items: &[Admin<'_>], refusal: Refusal) {
        let mut at = 0;
        while at < items.len() {
            let mut size = 8_192;
            let bytes = loop {
                let mut buffer = vec![0; size];
                let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), context);
                let mut taken = 0;
                while at + taken < items.len() && batch.push(&items[at + taken]) {
                    taken += 1;
                }
                if taken > 0 {
                    let len = batch.finish();
                    buffer.truncate(len);
                    at += taken;
                    break buffer;
                }
                size *= 4;
            };
            self.orders[shard].push_back(bytes);
            self.expected[shard].push_back(refusal);
        }
    }

    /// Coins that are there from the start.
    pub fn import(&mut self, machine: &Machine, coins: &[(Purse, u32, bool)]) {
        let scripts: Vec<Vec<u8>> = coins.iter().map(|(c, ..)| c.lock.locking_script()).collect();
        let context = self.context(0);
        for shard in 0..self.orders.len() {
            let own = coins.iter().zip(&scripts).filter(|((coin, ..), _)| {
                usize::from(machine.partition.shard(&coin.at.txid)) == shard
            });
            let items: Vec<Admin<'_>> = own
                .map(|((coin, height, coinbase), script)| Admin::Import {
                    outpoint: coin.at,
                    value_sat: coin.value_sat,
                    height: *height,
                    coinbase: *coinbase,
                    locking_script: script,
                })
                .collect();
            self.order(shard, context, &items, Refusal::Never);
        }
    }

    /// Every shard is told of the next epoch, each when it reads it.
    pub fn next_epoch(&mut self) {
        self.epoch += 1;
        let epoch = Epoch { incarnation: 1, number: self.epoch };
        for shard in 0..self.orders.len() {
            // A message may have brought the news already.
            self.order(shard, self.context(0), &[Admin::NextEpoch { epoch }], Refusal::Fine);
        }
        self.command(&PackCommand::EpochComplete {
            epoch: Epoch { incarnation: 1, number: self.epoch.saturating_sub(2) },
        });
    }

    /// A coin is frozen or let go, unless somebody holds or has spent it.
    pub fn freeze(&mut self, outpoint: OutPoint, frozen: bool) {
        let shard = usize::from(self.partition.shard(&outpoint.txid));
        self.order(shard, self.context(0), &[Admin::Freeze { outpoint, frozen }], Refusal::Fine);
    }

    fn command(&mut self, command: &PackCommand<'_>) {
        let mut buffer = vec![0; 8_192];
        let len = command.encode(&mut buffer).expect("a command without a list fits a frag");
        buffer.truncate(len);
        self.commands.push_back(buffer);
    }

    /// Begins a block; false if one is under way.
    pub fn begin_block(&mut self, want: Want) -> bool {
        if !matches!(self.stage, Stage::Rest) {
            return false;
        }
        self.token += 1;
        self.command(&PackCommand::GetCandidate {
            token: self.token,
            want,
            drained: Records::Own(&[]),
        });
        self.stage = Stage::Candidate { token: self.token };
        true
    }

    /// Sends what there is credit for and reads what was answered. A block that was finished, if one was.
    pub fn step(&mut self, m: &mut Machine, auditor: &mut Auditor) -> Checked<Option<NewBlock>> {
        for (queue, out) in self.controls.iter_mut().zip(&mut m.control_validate) {
            while queue.front().is_some_and(|bytes| publish(out, 0, Stamp(0), bytes, 0)) {
                queue.pop_front();
            }
        }
        for (queue, out) in self.orders.iter_mut().zip(&mut m.control_shard) {
            while queue.front().is_some_and(|bytes| {
                let source = auditor.checks ^ bytes.len() as u64;
                publish(out, 0, Stamp(0), bytes, source)
            }) {
                queue.pop_front();
            }
        }
        let sig = |bytes: &[u8]| u64::from(bytes[0]);
        while self
            .commands
            .front()
            .is_some_and(|bytes| publish(&mut m.control_pack, sig(bytes), Stamp(0), bytes, 0))
        {
            self.commands.pop_front();
        }
        self.read_shards(m, auditor)?;
        let mut new = None;
        while let Some(frag) = m.pack_control.poll() {
            self.replies += 1;
            let bytes = frag.bytes.to_vec();
            let reply = PackReply::decode(&bytes);
            let reply = reply.ok_or((FailureKind::Incorrect, "pack sent no reply".to_owned()))?;
            new = self.on_reply(&reply, auditor)?.or(new);
        }
        m.pack_control.return_credit();
        if matches!(self.stage, Stage::Shards { .. })
            && self.expected.iter().all(VecDeque::is_empty)
        {
            let Stage::Shards { candidate, coinbase } =
                std::mem::replace(&mut self.stage, Stage::Rest)
            else {
                unreachable!("asked a line before")
            };
            self.command(&PackCommand::MinedOurs { block: self.block, candidate: candidate.id });
            self.stage = Stage::Pack { leaves: candidate.leaves, coinbase };
        }
        Ok(new)
    }

    fn read_shards(&mut self, m: &mut Machine, auditor: &mut Auditor) -> Checked {
        for (shard, input) in m.shard_control.iter_mut().enumerate() {
            while let Some(frag) = input.poll() {
                let Some(mut batch) = BatchReader::new(frag.bytes) else {
                    return ensure(false, || format!("shard {shard} answered no batch"));
                };
                while let Some(reply) = batch.next_item::<AdminReply<'_>>() {
                    let AdminReply::Done { refused, .. } = reply else { continue };
                    let Some(refusal) = self.expected[shard].pop_front() else {
                        return ensure(false, || format!("shard {shard} answered twice"));
                    };
                    if refused == 0 {
                        continue;
                    }
                    if let Refusal::NoCoinbase(at) = refusal {
                        auditor.drop_base(&at);
                    }
                    ensure(refusal != Refusal::Never, || {
                        format!("shard {shard} refused {refused} orders")
                    })?;
                }
            }
            input.return_credit();
        }
        Ok(())
    }

    fn on_reply(
        &mut self,
        reply: &PackReply<'_>,
        auditor: &mut Auditor,
    ) -> Checked<Option<NewBlock>> {
        let stage = std::mem::replace(&mut self.stage, Stage::Rest);
        match (*reply, stage) {
            (
                PackReply::Candidate { token: t, id, fees_sat, size_bytes, branch, .. },
                Stage::Candidate { token },
            ) if t == token => {
                let branch: Vec<TxId> = branch.iter().collect();
                self.last_leaves = Some(id.leaves);
                self.token += 1;
                self.command(&PackCommand::GetLeaves { token: self.token, candidate: id });
                let candidate =
                    Candidate { id, fees_sat, size_bytes, branch, ..Candidate::default() };
                self.stage = Stage::Leaves { token: self.token, candidate };
            }
            (PackReply::Roots { roots, .. }, Stage::Leaves { token, mut candidate }) => {
                candidate.roots += roots.len() as u64;
                self.stage = Stage::Leaves { token, candidate };
            }
            (PackReply::Leaves { from, txids, .. }, Stage::Leaves { token, mut candidate }) => {
                let expected = candidate.leaves.len() as u64 + 1;
                ensure(from == expected, || format!("leaves from {from}, expected {expected}"))?;
                candidate.leaves.extend(txids.iter());
                self.stage = Stage::Leaves { token, candidate };
            }
            (PackReply::Ranges { ranges, .. }, Stage::Leaves { token, mut candidate }) => {
                candidate.ranges.extend(ranges.iter());
                self.stage = Stage::Leaves { token, candidate };
            }
            (PackReply::Streamed { txids, ranges, .. }, Stage::Leaves { candidate, .. }) => {
                let got = (candidate.leaves.len() as u64, candidate.ranges.len() as u64);
                ensure(got == (txids, ranges) && txids + 1 == candidate.id.leaves, || {
                    format!("a stream of {txids} leaves and {ranges} ranges brought {got:?}")
                })?;
                self.connect(candidate, auditor)?;
            }
            (
                PackReply::BlockDone { block, changed, passed_over },
                Stage::Pack { leaves, coinbase },
            ) => {
                ensure(
                    block == self.block && changed == leaves.len() as u64 && passed_over == 0,
                    || {
                        format!(
                            "block {block} took out {changed}, passed over {passed_over}, of {}",
                            leaves.len()
                        )
                    },
                )?;
                self.blocks += 1;
                let height = self.height;
                self.height += 1;
                auditor.height = self.height;
                self.set_pool();
                let at = OutPoint { txid: coinbase.txid, vout: 0 };
                let coin = Purse { at, value_sat: coinbase.value_sat, lock: coinbase.lock };
                return Ok(Some(NewBlock { coin, height }));
            }
            // The list was disturbed since; another time.
            (PackReply::Refused { .. }, Stage::Leaves { .. }) => self.stale += 1,
            (other, stage) => {
                ensure(false, || format!("pack sent {other:?} while the chain was at {stage:?}"))?;
            }
        }
        Ok(None)
    }

    /// The candidate is whole: checked, and given to the shards as our block.
    fn connect(&mut self, candidate: Candidate, auditor: &mut Auditor) -> Checked {
        auditor.checks += 4;
        let sums = auditor.check_leaves(&candidate.leaves)?;
        let told = (candidate.fees_sat, candidate.size_bytes);
        ensure(sums == told, || format!("fees and sizes {told:?}, expected {sums:?}"))?;
        check_ranges(&candidate, auditor)?;
        let value_sat = self.params.subsidy_sat(self.height) + candidate.fees_sat;
        let lock = Lock::Number(self.height);
        let tx = coinbase(self.height, value_sat, lock);
        let bytes = tx.to_bytes();
        let txid = TxId::of(&bytes);
        let all = std::iter::once(&txid.0).chain(candidate.leaves.iter().map(|t| &t.0));
        let flat = merkle_root(all);
        let root =
            candidate.branch.iter().fold(txid.0, |node, sibling| merkle_parent(&node, &sibling.0));
        ensure(flat.root.0 == root, || {
            format!(
                "the branch of a candidate of {} leaves gives another root",
                candidate.id.leaves
            )
        })?;
        for leaf in &candidate.leaves {
            let info: &mut TxInfo = auditor.txs.get_mut(leaf).expect("leaves were checked");
            info.mined = true;
        }
        self.block += 1;
        let (block, height) = (self.block, self.height);
        let context = self.context(block);
        let home = usize::from(self.partition.shard(&txid));
        for shard in 0..self.orders.len() {
            let mut items: Vec<Admin<'_>> = candidate
                .ranges
                .iter()
                .map(|r| Admin::SetMined {
                    shard: r.shard,
                    block,
                    height,
                    from_seq: r.from_seq,
                    to_seq: r.to_seq,
                })
                .collect();
            if items.is_empty() {
                // An empty block still moves the chain.
                items.push(Admin::SetMined { shard: 0, block, height, from_seq: 1, to_seq: 0 });
            }
            self.order(shard, context, &items, Refusal::Never);
            if shard == home {
                let at = OutPoint { txid, vout: 0 };
                let refusal = if self.full { Refusal::NoCoinbase(at) } else { Refusal::Never };
                self.order(shard, context, &[Admin::Coinbase { txid, tx: &bytes }], refusal);
            }
        }
        let at = OutPoint { txid, vout: 0 };
        auditor.add_base(at, value_sat, lock, height, true);
        // The fees come back in the coinbase.
        self.stage = Stage::Shards { candidate, coinbase: Coinbase { txid, value_sat, lock } };
        Ok(())
    }
}

/// Ranges name exactly the leaves.
fn check_ranges(candidate: &Candidate, auditor: &Auditor) -> Checked {
    let mut named: Vec<TxId> = Vec::new();
    for r in &candidate.ranges {
        for seq in r.from_seq..=r.to_seq {
            let of_shard = &auditor.by_seq[usize::from(r.shard)];
            let txid = of_shard.get((seq - 1) as usize);
            let Some(txid) = txid else {
                return ensure(false, || {
                    format!("{r:?} names a sequence that was never published")
                });
            };
            named.push(*txid);
        }
    }
    let mut leaves = candidate.leaves.clone();
    leaves.sort_unstable();
    named.sort_unstable();
    ensure(leaves == named, || {
        format!(
            "{} ranges name {} transactions of {}",
            candidate.ranges.len(),
            named.len(),
            leaves.len()
        )
    })
}

fn coinbase(height: u32, value_sat: u64, lock: Lock) -> Tx {
    let (script, len) = coinbase_height_script(height);
    let mut unlocking_script = script[..len].to_vec();
    unlocking_script.extend_from_slice(b"\x03sim");
    Tx {
        version: 1,
        inputs: vec![TxIn {
            prev: OutPoint::NULL,
            unlocking_script,
            sequence: SEQUENCE_FINAL,
            coin: None,
        }],
        outputs: vec![TxOut { value_sat: value_sat as i64, locking_script: lock.locking_script() }],
        lock_time: 0,
    }
}
