//! Redo: every decision that the journals still have, looked at once more.
//!
//! In: the shards as of the last complete epoch, and their journals. Out: the decisions that are in no block, with their bytes, and
//! every spend that a cut took away done again. That all spends of a decision are there is the rule, so all shards are asked side by
//! side, a piece of every journal at a time: each home reads its piece and writes down what it must ask; each owner looks for the spends
//! that it is asked for; what is missing is done one by one.

use super::mend::Mender;
use super::pool::Kept;
use super::replay::inputs_of;
use super::{Records, RecoverError, Tables, failed, side_by_side};
use crate::disk::Disk;
use crate::folder::Folder;
use crate::journal::{DecisionRecord, Frames, NoRecord, Record, SpendRecord};
use crate::shard::Shard;
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::Context;
use dataplane::msg::request::SpentInput;
use dataplane::partition::Partition;

/// Bytes of each journal that are looked at in one round: what is asked meanwhile is bounded by it.
const PIECE_BYTES: usize = 16 << 20;

/// A decision whose spends are not known to be there.
#[derive(Debug)]
struct Open {
    txid: TxId,
    publish_seq: u64,
    decided: u64,
    context: Context,
}

/// Whether an owner has a spend of an open decision.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Which of the piece's.
    open: u32,
    vin: u32,
    outpoint: OutPoint,
    by: TxId,
}

/// What one home found in its piece.
#[derive(Debug, Default)]
struct Piece {
    open: Vec<Open>,
    /// For each owner.
    asked: Vec<Vec<Asked>>,
}

/// The journal of one home, as far as it was read.
struct Reader<'a> {
    home: u16,
    disk: Box<dyn Disk>,
    frames: Frames<'a>,
    records: Records,
    done: bool,
    kept: Vec<Kept>,
}

impl Folder {
    /// See the module. Gives the decisions of each home that are in no block, in the order of its journal.
    pub(super) fn redo(
        &self,
        mender: &mut Mender<'_>,
        found: &Tables,
    ) -> Result<Vec<Vec<Kept>>, RecoverError> {
        let Tables { ground, cuts, complete, .. } = found;
        let threads = mender.threads;
        let mut readers = Vec::new();
        for (home, cut) in (0..).zip(cuts) {
            let disk = self.disk.another().map_err(failed(home, "opening its files"))?;
            let frames = Frames::new(ground.expect(home), cut.segments.clone());
            let (records, kept) = (Records::default(), Vec::new());
            readers.push(Reader { home, disk, frames, records, done: false, kept });
        }
        let partition = mender.partition.clone();
        while readers.iter().any(|reader| !reader.done) {
            let homes: Vec<_> = mender.shards.iter_mut().zip(&mut readers).collect();
            let pieces = side_by_side(homes, threads, |(shard, reader)| {
                reader.piece(shard, *complete, &partition)
            });
            let pieces = pieces.into_iter().collect::<Result<Vec<Piece>, _>>()?;
            let owners: Vec<_> = mender.shards.iter_mut().enumerate().collect();
            let missing = side_by_side(owners, threads, |(owner, shard)| {
                let asked = |piece: &Piece| missing_of(shard, &piece.asked[owner]);
                pieces.iter().map(asked).collect::<Vec<_>>()
            });
            for (owner, missing) in missing.iter().enumerate() {
                for (piece, asked) in
                    pieces.iter().zip(missing).flat_map(|(p, m)| m.iter().map(move |a| (p, a)))
                {
                    mender.redo(owner, &piece.open[asked.open as usize], asked)?;
                }
            }
        }
        Ok(readers.into_iter().map(|reader| reader.kept).collect())
    }
}

impl Reader<'_> {
    /// The next piece of the journal: keeps what is in no block, and gives what is open.
    fn piece(
        &mut self,
        shard: &mut Shard,
        complete: u64,
        partition: &Partition,
    ) -> Result<Piece, RecoverError> {
        let mut piece = Piece::default();
        piece.asked.resize(usize::from(partition.shards()), Vec::new());
        let io = |source| failed(self.home, "reading its journal")(source);
        let mut bytes = 0;
        let mut ahead = Vec::new();
        while bytes < PIECE_BYTES {
            let Some((head, at)) = self.frames.next(&mut *self.disk).map_err(io)? else {
                self.done = true;
                break;
            };
            bytes += at.bytes as usize;
            let payload = self.frames.payload(&head);
            ahead.clear();
            let peeked = self.records.clone().feed(head.begins, payload, |record| {
                if let Record::Decision(decision) = record {
                    ahead.push(decision.txid);
                }
                Ok::<(), NoRecord>(())
            });
            shard.warm_all(&ahead);
            let kept = &mut self.kept;
            let mut bad =
                peeked.err().map(|NoRecord| "a frame without records that this version knows");
            let fed = self.records.feed(head.begins, payload, |record| {
                if let Record::Decision(decision) = record
                    && look(shard, decision, complete, partition, &mut piece, kept).is_none()
                {
                    bad = Some("a decision that is no transaction");
                }
                Ok::<(), NoRecord>(())
            });
            assert!(fed.is_ok() || bad.is_some(), "the same bytes were read before");
            if let Some(what) = bad {
                return Err(RecoverError::Contradiction {
                    shard: self.home,
                    epoch: head.epoch,
                    what,
                });
            }
        }
        Ok(piece)
    }
}

/// One decision, at its home; `None` if it is no transaction.
fn look(
    shard: &mut Shard,
    decision: &DecisionRecord<'_>,
    complete: u64,
    partition: &Partition,
    piece: &mut Piece,
    kept: &mut Vec<Kept>,
) -> Option<()> {
    let Some(rec) = shard.decided_as(decision) else { return Some(()) };
    if shard.mined_height(rec).is_none() {
        kept.push(Kept {
            context: decision.context,
            publish_seq: decision.publish_seq,
            txid: decision.txid,
            fee_sat: decision.fee_sat,
            parents: decision.parents.iter().collect(),
            raw: decision.tx.to_vec(),
        });
    }
    if shard.table.is_spends_done(rec) {
        return Some(());
    }
    let open = piece.open.len() as u32;
    for (vin, outpoint) in (0..).zip(inputs_of(decision.tx)?) {
        let owner = usize::from(partition.shard(&outpoint.txid));
        piece.asked[owner].push(Asked { open, vin, outpoint, by: decision.txid });
    }
    let DecisionRecord { txid, publish_seq, decided, context, .. } = *decision;
    piece.open.push(Open { txid, publish_seq, decided, context });
    // What is missing is done before the round ends.
    let epoch = complete.max(shard.table.epoch_number(rec));
    shard.table.put_epoch_number(rec, epoch);
    shard.table.put_spends_done(rec);
    Some(())
}

/// The spends that are not there. A parent whose record is pruned was spent.
fn missing_of(shard: &Shard, asked: &[Asked]) -> Vec<Asked> {
    let mut missing = Vec::new();
    for asked in asked.chunks(crate::table::WARM_MAX) {
        shard.warm_ids(asked.iter().map(|asked| &asked.outpoint.txid));
        missing.extend(asked.iter().filter(|asked| {
            shard.table.find(&asked.outpoint.txid).is_some()
                && shard.spend_at(&asked.outpoint, &asked.by).is_none()
        }));
    }
    missing
}

impl Mender<'_> {
    /// A spend that was cut off is done now. The coin is free: it was held for it.
    fn redo(&mut self, owner: usize, open: &Open, asked: &Asked) -> Result<(), RecoverError> {
        let &Open { txid: by, publish_seq, decided, context } = open;
        let &Asked { vin, outpoint, .. } = asked;
        let publish_seq = if context.is_pool() { publish_seq } else { 0 };
        let home = usize::from(self.partition.shard(&by));
        let spend = SpendRecord { outpoint, by, vin, block: context.block, publish_seq, decided };
        let at = &mut self.shards[owner];
        at.replay_spend(&spend).map_err(|what| RecoverError::Contradiction {
            shard: home as u16,
            epoch: decided,
            what,
        })?;
        at.log_spend(&context, &by, &SpentInput { vin, outpoint }, publish_seq, decided);
        let newest = at.epoch().number;
        let table = &mut self.shards[home].table;
        let rec = table.find(&by).expect("the home of an open decision has its record");
        table.put_epoch_number(rec, newest.max(table.epoch_number(rec)));
        self.mended.redone_spends += 1;
        Ok(())
    }
}
