//! The conductor's links to the machine, and the bugs that can be planted between the two.

use super::{Ground, IDLE_MAX, LinesError};
use crate::fault::{Checked, FailureKind};
use crate::wire::publish;
use consensus::hash::TxId;
use dataplane::blocks::{Conductor, Lines, Trouble};
use dataplane::msg::admin::{Admin, AdminReply, EvictStep, SpendState};
use dataplane::msg::pack_control::{CandidateId, PackCommand, PackReply, Restored, Want};
use dataplane::msg::{
    BatchReader, BatchWriter, ParentSeq, Records, TxVerdict, ValidateControl, VerdictFrag,
};
use dataplane::tile::Stamp;

/// Acts of the machine in one rest of the conductor.
const ACTS_PER_REST: u64 = 6;

/// A bug between the conductor and the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockPlant {
    /// A coin of an evicted transaction is not given back.
    UnspendForgotten,
    /// Nobody asks who lost to a block.
    LosersKept,
    /// A shard does not hear that a block is off the chain.
    UnsetMinedLost,
    /// A disconnected block's transactions are put back in the wrong order.
    RestoredBackwards,
    /// A verdict against a block's transaction is read as one for it.
    FailurePassed,
    /// Pack does not wait for what was published before a block.
    NotDrained,
    /// A descendant of an evicted transaction stays.
    DescendantKept,
    /// A shard does not hear that a block is on the chain.
    SetMinedLost,
}

impl BlockPlant {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::UnspendForgotten,
        Self::LosersKept,
        Self::UnsetMinedLost,
        Self::RestoredBackwards,
        Self::FailurePassed,
        Self::NotDrained,
        Self::DescendantKept,
        Self::SetMinedLost,
    ];
}

/// What is planted, and how often it struck.
#[derive(Clone, Copy, Debug)]
pub struct Strikes {
    plant: Option<BlockPlant>,
    /// How often.
    pub count: u32,
}

impl Strikes {
    pub(super) fn new(plant: Option<BlockPlant>) -> Self {
        Self { plant, count: 0 }
    }

    fn strikes(&mut self, plant: BlockPlant) -> bool {
        let hit = self.plant == Some(plant);
        self.count += u32::from(hit);
        hit
    }

    /// One order as the shard is to read it.
    fn order<'a>(&mut self, order: Admin<'a>) -> Admin<'a> {
        let nothing = Admin::Overruled { token: u64::MAX, block: 0 };
        match order {
            Admin::Unspend { token, outpoint, .. }
                if self.strikes(BlockPlant::UnspendForgotten) =>
            {
                Admin::Unspend { token, outpoint, by: TxId::ZERO }
            }
            Admin::Overruled { token, .. } if self.strikes(BlockPlant::LosersKept) => {
                Admin::Overruled { token, block: 0 }
            }
            Admin::UnsetMined { .. } if self.strikes(BlockPlant::UnsetMinedLost) => nothing,
            Admin::SetMined { .. } if self.strikes(BlockPlant::SetMinedLost) => nothing,
            order => order,
        }
    }

    fn changes_orders(self) -> bool {
        matches!(
            self.plant,
            Some(
                BlockPlant::UnspendForgotten
                    | BlockPlant::LosersKept
                    | BlockPlant::UnsetMinedLost
                    | BlockPlant::SetMinedLost
            )
        )
    }

    fn batch(&mut self, bytes: &[u8]) -> Vec<u8> {
        if !self.changes_orders() {
            return bytes.to_vec();
        }
        let mut reader = BatchReader::new(bytes).expect("the conductor writes batches");
        let header = *reader.header();
        let mut buffer = vec![0; bytes.len() + 64];
        let mut writer = BatchWriter::new(&mut buffer, header.epoch, header.context);
        while let Some(order) = reader.next_item::<Admin<'_>>() {
            assert!(writer.push(&self.order(order)), "no order grows by that much");
        }
        let len = writer.finish();
        buffer.truncate(len);
        buffer
    }

    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.plant != Some(BlockPlant::DescendantKept) {
            return bytes.to_vec();
        }
        let mut reader = BatchReader::new(bytes).expect("shards write batches");
        let header = *reader.header();
        let mut buffer = vec![0; bytes.len() + 64];
        let mut writer = BatchWriter::new(&mut buffer, header.epoch, header.context);
        while let Some(reply) = reader.next_item::<AdminReply<'_>>() {
            let reply = match reply {
                AdminReply::Evict { token, step: EvictStep::Spent { .. } }
                    if self.strikes(BlockPlant::DescendantKept) =>
                {
                    AdminReply::Evict { token, step: EvictStep::Done }
                }
                AdminReply::Unspent { token, state: SpendState::Held } => {
                    AdminReply::Unspent { token, state: SpendState::Held }
                }
                reply => reply,
            };
            assert!(writer.push(&reply), "no answer grows by that much");
        }
        let len = writer.finish();
        buffer.truncate(len);
        buffer
    }

    fn command(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; bytes.len() + 1_024];
        let command = PackCommand::decode(bytes).expect("the conductor writes commands");
        let mut turned: Vec<Restored> = Vec::new();
        let command = match command {
            PackCommand::Disconnected { block, last, drained, leaves }
                if leaves.len() > 1 && self.strikes(BlockPlant::RestoredBackwards) =>
            {
                turned.extend(leaves.iter());
                turned.reverse();
                PackCommand::Disconnected { block, last, drained, leaves: Records::Own(&turned) }
            }
            PackCommand::Mined { block, last, txids, .. }
                if self.strikes(BlockPlant::NotDrained) =>
            {
                PackCommand::Mined { block, last, drained: Records::Own(&[]), txids }
            }
            command => command,
        };
        let len = command.encode(&mut buffer).expect("no command grows by that much");
        buffer.truncate(len);
        buffer
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct GroundLines<'a>(pub &'a mut Ground);

impl Lines for GroundLines<'_> {
    type Error = LinesError;

    fn tell_validator(&mut self, validator: usize, message: &[u8]) -> bool {
        debug_assert!(ValidateControl::decode(message).is_some());
        publish(&mut self.0.machine.control_validate[validator], 0, Stamp(0), message, 0)
    }

    fn send_block_tx(&mut self, validator: usize, block: u32, frag: &[u8]) -> bool {
        let out = &mut self.0.machine.block_validate[validator];
        publish(out, u64::from(block), Stamp(0), frag, u64::from(block))
    }

    fn verdict(&mut self, validator: usize) -> Option<VerdictFrag> {
        let input = &mut self.0.machine.validate_block[validator];
        let verdict = input.poll().and_then(|frag| VerdictFrag::decode(frag.bytes));
        input.return_credit();
        let mut verdict = verdict?;
        if verdict.verdict != TxVerdict::Accepted
            && verdict.detail == 0
            && self.0.strikes.strikes(BlockPlant::FailurePassed)
        {
            verdict.verdict = TxVerdict::Accepted;
        }
        Some(verdict)
    }

    fn order_shard(&mut self, shard: usize, batch: &[u8]) -> bool {
        if self.0.machine.control_shard[shard].producer().credit() == 0 {
            self.0.machine.control_shard[shard].producer().refresh();
        }
        if self.0.machine.control_shard[shard].producer().credit() == 0 {
            return false;
        }
        let batch = self.0.strikes.batch(batch);
        publish(&mut self.0.machine.control_shard[shard], 0, Stamp(0), &batch, batch.len() as u64)
    }

    fn shard_answer(&mut self, shard: usize, take: &mut dyn FnMut(&[u8])) -> bool {
        let Ground { machine, strikes, .. } = &mut *self.0;
        let input = &mut machine.shard_control[shard];
        let heard = input.poll().map(|frag| take(&strikes.answer(frag.bytes))).is_some();
        input.return_credit();
        heard
    }

    fn command_pack(&mut self, tag: u8, command: &[u8]) -> bool {
        let out = &mut self.0.machine.control_pack;
        if out.producer().credit() == 0 {
            out.producer().refresh();
        }
        if out.producer().credit() == 0 {
            return false;
        }
        let command = self.0.strikes.command(command);
        publish(&mut self.0.machine.control_pack, u64::from(tag), Stamp(0), &command, 0)
    }

    fn pack_answer(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let input = &mut self.0.machine.pack_control;
        let heard = input.poll().map(|frag| take(frag.bytes)).is_some();
        input.return_credit();
        heard
    }

    fn rest(&mut self, what: &'static str, idle: u64) -> Result<(), LinesError> {
        if idle > IDLE_MAX {
            let what = format!("the conductor waits for {what}");
            return Err(LinesError::Machine(FailureKind::Stuck, what));
        }
        let acts = 1 + self.0.rng.below(ACTS_PER_REST);
        self.0.act_often(acts).map_err(|(kind, what)| LinesError::Machine(kind, what))
    }

    fn pool_tx(&mut self, txid: &TxId) -> Result<Vec<u8>, LinesError> {
        let tx = self.0.shadow.made.get(txid).map(consensus::tx::Tx::to_bytes);
        tx.ok_or_else(|| Trouble::Gone { txid: *txid, what: "nobody made it" }.into())
    }

    fn pooled(&mut self, drained: &[ParentSeq]) -> Result<Vec<TxId>, LinesError> {
        let mut idle = 0;
        while drained.iter().any(|at| self.0.published[usize::from(at.shard)] < at.seq) {
            self.rest("publications that were made", idle)?;
            idle += 1;
        }
        Ok(self.0.shadow.pool.iter().copied().collect())
    }

    fn time_locked(&mut self, drained: &[ParentSeq]) -> Result<Vec<TxId>, LinesError> {
        let mut pooled = self.pooled(drained)?;
        pooled.retain(|txid| self.0.shadow.made[txid].lock_time != 0);
        Ok(pooled)
    }
}

/// What pack offers, all of it: asked until nothing it does is unfinished.
pub(super) fn leaves(_: &mut Conductor, ground: &mut Ground) -> Checked<Vec<TxId>> {
    let ask = |ground: &mut Ground, command: &PackCommand<'_>| -> Checked {
        let mut buffer = [0; 64];
        let len = command.encode(&mut buffer).expect("a short command");
        let tag = u64::from(command.tag());
        while !publish(&mut ground.machine.control_pack, tag, Stamp(0), &buffer[..len], 0) {
            ground.settle()?;
        }
        ground.settle()
    };
    let drained = Records::Own(&[]);
    ask(ground, &PackCommand::GetCandidate { token: 1, want: Want::Everything, drained })?;
    let mut candidate = CandidateId::default();
    while let Some(frag) = ground.machine.pack_control.poll() {
        if let Some(PackReply::Candidate { id, .. }) = PackReply::decode(frag.bytes) {
            candidate = id;
        }
    }
    ground.machine.pack_control.return_credit();
    ask(ground, &PackCommand::GetLeaves { token: 2, candidate })?;
    let (mut txids, mut done) = (Vec::new(), false);
    while !done {
        while let Some(frag) = ground.machine.pack_control.poll() {
            match PackReply::decode(frag.bytes) {
                Some(PackReply::Leaves { txids: more, .. }) => txids.extend(more.iter()),
                Some(PackReply::Streamed { .. }) => done = true,
                Some(PackReply::Refused { .. }) | None => {
                    return Err((FailureKind::Incorrect, "a fresh candidate is stale".to_owned()));
                }
                Some(_) => {}
            }
        }
        ground.machine.pack_control.return_credit();
        if !done {
            ground.settle()?;
        }
    }
    Ok(txids)
}
