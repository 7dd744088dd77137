//! Orders and questions to shards and pack, and their answers.

use super::links::{publish, wait_for};
use super::{ImportCoin, Node, NodeError, Totals};
use crate::topology;
use dataplane::msg::admin::{Admin, AdminReply};
use dataplane::msg::pack_control::{PackCommand, PackReply};
use dataplane::msg::{BatchReader, BatchWriter, Context, Epoch, ParentSeq};

impl Node {
    /// Imports coins, each to its owner.
    pub fn import<'a>(
        &mut self,
        coins: impl Iterator<Item = ImportCoin<'a>>,
    ) -> Result<(), NodeError> {
        let mut by_shard: Vec<Vec<ImportCoin<'a>>> =
            vec![Vec::new(); usize::from(self.partition.shards())];
        for coin in coins {
            by_shard[usize::from(self.partition.shard(&coin.outpoint.txid))].push(coin);
        }
        let context = self.pool_context();
        for (shard, coins) in by_shard.iter().enumerate() {
            let items: Vec<Admin<'_>> = coins
                .iter()
                .map(|c| Admin::Import {
                    outpoint: c.outpoint,
                    value_sat: c.value_sat,
                    height: c.height,
                    coinbase: c.coinbase,
                    locking_script: c.locking_script,
                })
                .collect();
            self.administer(shard, context, &items, "imported coins")?;
        }
        Ok(())
    }

    /// Sends items to a shard and waits until they are done.
    pub(crate) fn administer(
        &mut self,
        shard: usize,
        context: Context,
        items: &[Admin<'_>],
        what: &'static str,
    ) -> Result<(), NodeError> {
        let mut sent = 0;
        while sent < items.len() {
            let from = sent;
            let mut buffer = vec![0; topology::BATCH_BYTES as usize];
            let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), context);
            while sent < items.len() && batch.push(&items[sent]) {
                sent += 1;
            }
            if sent == from {
                // Larger than a batch in line: one item by itself in the arena.
                buffer = vec![0; 1 << 26];
                let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), context);
                assert!(batch.push(&items[sent]), "one item of a control message is above 64 MiB");
                sent += 1;
                let len = batch.finish();
                publish(&mut self.drive, &mut self.ends.control_shard[shard], 0, &buffer[..len])?;
            } else {
                let len = batch.finish();
                publish(&mut self.drive, &mut self.ends.control_shard[shard], 0, &buffer[..len])?;
            }
            let items = (sent - from) as u32;
            let refused = self.shard_answer(shard, what, |reply| match reply {
                AdminReply::Done { refused, .. } => Some(refused),
                _ => None,
            })?;
            if refused > 0 {
                return Err(NodeError::Refused { shard, refused, items, what });
            }
        }
        Ok(())
    }

    pub(super) fn shard_answer<T>(
        &mut self,
        shard: usize,
        what: &'static str,
        mut take: impl FnMut(AdminReply<'_>) -> Option<T>,
    ) -> Result<T, NodeError> {
        let input = &mut self.ends.shard_control[shard];
        let answer = wait_for(&mut self.drive, input, |bytes| {
            let mut batch = BatchReader::new(bytes)?;
            std::iter::from_fn(|| batch.next_item::<AdminReply<'_>>()).find_map(&mut take)
        });
        answer.ok_or_else(|| NodeError::NoAnswer { asked: format!("shard:{shard} about {what}") })
    }

    /// One short order to one shard.
    pub(super) fn order(&mut self, shard: usize, order: &Admin<'_>) -> Result<(), NodeError> {
        let mut buffer = [0; 256];
        let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), self.pool_context());
        assert!(batch.push(order), "a question fits a batch");
        let len = batch.finish();
        publish(&mut self.drive, &mut self.ends.control_shard[shard], 0, &buffer[..len])
    }

    /// How far each shard has told pack what it accepted: whoever had his verdict by now is in it.
    pub(super) fn published(&mut self) -> Result<Vec<ParentSeq>, NodeError> {
        let mut published = Vec::with_capacity(self.ends.control_shard.len());
        for shard in 0..self.ends.control_shard.len() {
            self.token += 1;
            let asked = self.token;
            self.order(shard, &Admin::Totals { token: asked })?;
            let seq = self.shard_answer(shard, "its totals", |reply| match reply {
                AdminReply::Totals { token, publish_seq, .. } if token == asked => {
                    Some(publish_seq)
                }
                _ => None,
            })?;
            published.push(ParentSeq { shard: shard as u16, seq });
        }
        Ok(published)
    }

    /// Sums over all shards.
    pub fn totals(&mut self) -> Result<Totals, NodeError> {
        let mut sum = Totals::default();
        for shard in 0..self.ends.control_shard.len() {
            self.token += 1;
            let asked = self.token;
            self.order(shard, &Admin::Totals { token: asked })?;
            self.shard_answer(shard, "its totals", |reply| match reply {
                AdminReply::Totals {
                    token,
                    utxos,
                    transactions,
                    value_sat,
                    reserved,
                    announced,
                    waiting,
                    ..
                } if token == asked => {
                    sum.utxos += utxos;
                    sum.transactions += transactions;
                    sum.value_sat += value_sat;
                    sum.reserved += reserved;
                    sum.announced += announced;
                    sum.waiting += waiting;
                    Some(())
                }
                _ => None,
            })?;
        }
        Ok(sum)
    }

    pub(super) fn ask_pack(&mut self, command: &PackCommand<'_>) -> Result<(), NodeError> {
        let mut buffer = vec![0; topology::BATCH_BYTES as usize];
        let len = command.encode(&mut buffer).expect("a command without a list fits a batch");
        publish(
            &mut self.drive,
            &mut self.ends.control_pack[0],
            u64::from(command.tag()),
            &buffer[..len],
        )
    }

    pub(super) fn pack_answer<T>(
        &mut self,
        what: &'static str,
        mut take: impl FnMut(PackReply<'_>) -> Option<T>,
    ) -> Result<T, NodeError> {
        let input = &mut self.ends.pack_control[0];
        let mut refused = None;
        let answer = wait_for(&mut self.drive, input, |bytes| {
            let reply = PackReply::decode(bytes)?;
            if let PackReply::Refused { why, .. } = reply {
                refused = Some(why);
                return Some(None);
            }
            take(reply).map(Some)
        });
        match answer {
            Some(Some(answer)) => Ok(answer),
            Some(None) => {
                let why = refused.expect("only a refusal ends without an answer");
                Err(NodeError::PackRefused { what, why })
            }
            None => Err(NodeError::NoAnswer { asked: format!("pack about {what}") }),
        }
    }
}
