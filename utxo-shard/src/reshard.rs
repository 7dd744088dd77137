//! Another number of shards: the data directory that a stopped node would go on with, written anew for more or fewer shards.
//!
//! In: a data directory that nobody else has, only looked at, and an empty one. Out: the second one holds what a recovery of the
//! first would have kept, and goes on behind its last epoch: one checkpoint with every record at its new owner, the chain, and a
//! journal with the bytes of the transactions that are in no block. Whoever calls this puts the second in place of the first; until
//! then nothing has changed, so a crash at any moment leaves the first.
//!
//! ```text
//! look       the tables as a recovery would mend them, as of epoch c + 1
//! move       records one by one to their new owners; mined ones bear their block's number, unmined ones are published anew
//! write      a checkpoint as of epoch c + 1, synced, then the manifest
//! open       as a node would; coins are compared, the bytes of unmined transactions go to the journal, and that is complete
//! ```
//!
//! Memory: what the shards take, twice while records move.

use crate::adopt::Places;
use crate::config::ShardConfig;
use crate::disk::{Disk, FileId, Op, run, write_all};
use crate::folder::{Folder, FolderError, Manifest};
use crate::journal::{BLOCK_BYTES, BlockNote, DecisionRecord, Health};
use crate::keeper::{Keeper, Limits};
use crate::memory::SnapshotStep;
use crate::mined::Mined;
use crate::recovery::{Examined, RecoverError, Unmined};
use crate::shard::Shard;
use crate::slot::{CHUNK_PAGES, Chunks, SlotEntry, SlotName, slot_path};
use crate::store::Coin;
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::request::List;
use dataplane::msg::{Context, Epoch, ParentSeq};
use dataplane::partition::Partition;
use std::io;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SLOT: FileId = FileId(1);
/// Records moved between two words about how far it is.
const TELL_EVERY: u64 = 1 << 16;

/// Why a directory could not be written for another number of shards. The one that was there is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReshardError {
    /// The directory that is there, or the new one, cannot be recovered.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A file of the directory.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The system refused.
    #[error("{doing} of new shard {shard}: {source}; make room on the disk, then run it again")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Of which shard.
        shard: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A new shard cannot hold its share.
    #[error(
        "new shard {shard} has no room for its share ({slab_bytes} bytes, {transactions} transactions); \
         take more --shards"
    )]
    TooSmall {
        /// Which.
        shard: u16,
        /// Bytes of its slab.
        slab_bytes: usize,
        /// Transactions it may hold.
        transactions: usize,
    },
    /// Somebody said so.
    #[error("interrupted; nothing was changed, and running it again begins anew")]
    Stopped,
    /// The journal of the new directory could not be written.
    #[error("writing the journal of the new shards: {what}; look at the disk, then run it again")]
    Journal {
        /// What happened.
        what: String,
    },
    /// What was written is not what was there.
    #[error(
        "the new shards have {got} (coins, satoshi, sum), expected {expected}; nothing was changed: run \
         `metanode utxo verify` on the directory, and report this"
    )]
    Differs {
        /// What is in the new directory.
        got: String,
        /// What was in the old one.
        expected: String,
    },
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReshardStep {
    /// The directory is read.
    Looking,
    /// So many records of so many are at their new owners.
    Moving {
        /// Moved.
        done: u64,
        /// All.
        of: u64,
    },
    /// The checkpoint of this shard is written.
    Writing {
        /// Which.
        shard: u16,
    },
    /// The new directory is opened and compared.
    Opening,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resharded {
    /// Shards there were.
    pub from: u16,
    /// Shards there are.
    pub to: u16,
    /// Everything up to here is in the new directory.
    pub epoch: u64,
    /// The tip.
    pub tip: Option<BlockNote>,
    /// Records.
    pub transactions: u64,
    /// Unspent outputs.
    pub utxos: u64,
    /// Their value.
    pub value_sat: u64,
    /// Transactions that are in no block.
    pub unmined: u64,
}

/// What is compared of coins before and after: their number, value, and a sum over what each of them is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    coins: u64,
    value_sat: u64,
    sums: [u64; 2],
}

impl Sum {
    fn of(shards: &[Shard]) -> Self {
        let mut sum = Self::default();
        let mut bytes = Vec::new();
        for shard in shards {
            shard.for_each_unspent(&mut |outpoint: &OutPoint, coin: &Coin<'_>| {
                bytes.clear();
                bytes.extend_from_slice(&outpoint.txid.0);
                bytes.extend_from_slice(&outpoint.vout.to_le_bytes());
                bytes.extend_from_slice(&coin.value_sat.to_le_bytes());
                bytes.extend_from_slice(&coin.height.to_le_bytes());
                bytes.push(u8::from(coin.coinbase));
                bytes.extend_from_slice(coin.locking_script);
                sum.coins += 1;
                sum.value_sat += coin.value_sat;
                for (seed, sum) in sum.sums.iter_mut().enumerate() {
                    *sum = sum.wrapping_add(xxh3_64_with_seed(&bytes, seed as u64));
                }
            });
        }
        sum
    }

    fn show(&self) -> String {
        let Self { coins, value_sat, sums } = self;
        format!("{coins}, {value_sat}, {:016x}{:016x}", sums[0], sums[1])
    }
}

/// Writes what a recovery of `from` would go on with into `to`, which was just made. Configurations are one a shard; their partitions
/// are those of the two directories, index keys are replaced by theirs. `tell` is told how far it is, and says whether to go on.
pub fn reshard(
    from: &Folder,
    old: &[ShardConfig],
    to: &mut Folder,
    new: &[ShardConfig],
    limits: &Limits,
    tell: &mut dyn FnMut(ReshardStep) -> bool,
) -> Result<Resharded, ReshardError> {
    say(tell, ReshardStep::Looking)?;
    let examined = from.examine(old, limits)?;
    let expected = Sum::of(&examined.shards);
    let (incarnation, epoch) = (examined.incarnation, examined.complete + 1);
    let tip = examined.chain.last().copied();
    let keyed = |config: &ShardConfig| {
        let index_key = to.index_key(config.shard);
        ShardConfig { index_key, ..config.clone() }
    };
    let new: &[ShardConfig] = &new.iter().map(keyed).collect::<Vec<_>>();
    let (shards, unmined) = distribute(&examined, new, tell)?;
    drop(examined);
    let transactions = shards.iter().map(|shard| shard.totals().transactions).sum();
    write(to, shards, incarnation, epoch, tell)?;
    say(tell, ReshardStep::Opening)?;
    let recovered = to.recover(new, limits)?;
    let got = Sum::of(&recovered.shards);
    if got != expected {
        let (got, expected) = (got.show(), expected.show());
        return Err(ReshardError::Differs { got, expected });
    }
    let epoch = keep_bytes(recovered.shards, recovered.keepers, recovered.epoch, &unmined)?;
    Ok(Resharded {
        from: from.shards(),
        to: to.shards(),
        epoch,
        tip,
        transactions,
        utxos: got.coins,
        value_sat: got.value_sat,
        unmined: unmined.len() as u64,
    })
}

fn say(tell: &mut dyn FnMut(ReshardStep) -> bool, step: ReshardStep) -> Result<(), ReshardError> {
    if tell(step) { Ok(()) } else { Err(ReshardError::Stopped) }
}

/// Every record at its new owner, and the unmined transactions with their new places.
fn distribute(
    examined: &Examined,
    new: &[ShardConfig],
    tell: &mut dyn FnMut(ReshardStep) -> bool,
) -> Result<(Vec<Shard>, Vec<Unmined>), ReshardError> {
    let partition: &Partition = &new[0].partition;
    let home = |txid: &TxId| usize::from(partition.shard(txid));
    let shards = partition.shards();
    let mut made: Vec<Shard> = new.iter().map(Shard::new).collect();
    let places_before: std::collections::HashSet<TxId> =
        examined.unmined.iter().map(|tx| tx.txid).collect();
    // What is in a block stands in front, so that what is not has places without a gap.
    let mut published = vec![0_u64; made.len()];
    let mut of = 0;
    for shard in &examined.shards {
        shard.for_each_live(|rec| {
            of += 1;
            let txid = shard.table.txid(rec);
            if shard.table.publish_seq(rec) != 0 && !places_before.contains(&txid) {
                published[home(&txid)] += 1;
            }
        });
    }
    let mut unmined = examined.unmined.clone();
    let mut places = Places::with_capacity(unmined.len());
    for tx in &mut unmined {
        tx.shard = partition.shard(&tx.txid);
        published[usize::from(tx.shard)] += 1;
        tx.publish_seq = published[usize::from(tx.shard)];
        places.insert(tx.txid, tx.publish_seq);
        tx.parents = parents_of(&tx.raw, &places, partition);
    }
    let mut next = vec![0_u64; made.len()];
    let (mut done, mut full, mut stopped) = (0, None, false);
    for shard in &examined.shards {
        shard.for_each_live(|rec| {
            if full.is_some() || stopped {
                return;
            }
            let txid = shard.table.txid(rec);
            let owner = home(&txid);
            let publish_seq = match (shard.table.publish_seq(rec), places.get(&txid)) {
                (0, _) => 0,
                (_, Some(&place)) => place,
                (_, None) => {
                    next[owner] += 1;
                    next[owner]
                }
            };
            if !made[owner].adopt(shard, rec, publish_seq, &places) {
                full = Some(owner);
            }
            done += 1;
            if done % TELL_EVERY == 0 {
                stopped = !tell(ReshardStep::Moving { done, of });
            }
        });
    }
    if let Some(owner) = full {
        let ShardConfig { shard, slab_bytes, transactions_max, .. } = new[owner];
        return Err(ReshardError::TooSmall { shard, slab_bytes, transactions: transactions_max });
    }
    if stopped {
        return Err(ReshardError::Stopped);
    }
    say(tell, ReshardStep::Moving { done, of })?;
    let block_max = examined.shards.iter().map(|shard| shard.block_max).max().unwrap_or(0);
    let evicted_any = examined.shards.iter().any(|shard| shard.evicted_any);
    let blocks = examined.shards[0].mined.blocks();
    for (shard, published) in made.iter_mut().zip(published) {
        shard.publish_seq = published;
        shard.mined = Mined::standing(shards, blocks);
        shard.block_max = block_max;
        shard.evicted_any = evicted_any;
    }
    made[0].chain = examined.chain.iter().copied().collect();
    Ok((made, unmined))
}

/// What the homes of a transaction's unmined parents have published when it follows them.
fn parents_of(raw: &[u8], places: &Places, partition: &Partition) -> Vec<ParentSeq> {
    let mut parents: Vec<ParentSeq> = Vec::new();
    for input in crate::recovery::inputs_of(raw).unwrap_or_default() {
        let Some(&seq) = places.get(&input.txid) else { continue };
        let shard = partition.shard(&input.txid);
        match parents.iter_mut().find(|parent| parent.shard == shard) {
            Some(parent) => parent.seq = parent.seq.max(seq),
            None => parents.push(ParentSeq { shard, seq }),
        }
    }
    parents.sort_unstable_by_key(|parent| parent.shard);
    parents
}

/// One checkpoint of all shards, and the manifest that names it.
fn write(
    to: &mut Folder,
    shards: Vec<Shard>,
    incarnation: u32,
    epoch: u64,
    tell: &mut dyn FnMut(ReshardStep) -> bool,
) -> Result<(), ReshardError> {
    let mut slots = Vec::new();
    for mut shard in shards {
        let number = shard.number();
        say(tell, ReshardStep::Writing { shard: number })?;
        let io = |source| {
            let doing = "writing the checkpoint";
            ReshardError::Io { doing, shard: number, source }
        };
        let mut disk = to.disk.another().map_err(io)?;
        let name = SlotName { shard: number, folder: to.folder, epoch };
        slots.push(write_slot(&mut *disk, &mut shard, name).map_err(io)?);
    }
    let manifest = Manifest { incarnation, checkpoint: epoch, slots, ..Manifest::default() };
    Ok(to.write_manifest(manifest)?)
}

/// Everything a shard holds, into its first slot.
fn write_slot(disk: &mut dyn Disk, shard: &mut Shard, name: SlotName) -> io::Result<SlotEntry> {
    const FIRST: u32 = 1;
    let path = slot_path(name.shard, FIRST);
    run(disk, Op::Create { file: SLOT, path, room_bytes: 0 })?;
    let mut chunks = Chunks::new();
    chunks.begin(name);
    shard.checkpoint_begin(0);
    let (mut at, mut block) = (0, Vec::with_capacity(BLOCK_BYTES));
    let mut put = |block: Vec<u8>| {
        let len = block.len() as u64;
        let back = write_all(disk, SLOT, at, block)?;
        at += len;
        Ok::<_, io::Error>(back)
    };
    let roots = shard.checkpoint_roots().to_vec();
    let mut rest = &roots[..];
    loop {
        rest = chunks.roots(rest, &mut block);
        block = put(block)?;
        if rest.is_empty() {
            break;
        }
    }
    loop {
        let room = chunks.room();
        let step = shard.checkpoint_step(room, &mut |of, number, bytes| {
            chunks.page(of, number, bytes);
        });
        assert!(step != SnapshotStep::Lost, "nothing changes while it is written");
        let ended = step == SnapshotStep::Idle;
        if chunks.has_pages() && (ended || chunks.room() < CHUNK_PAGES) {
            chunks.pages(&mut block);
            block = put(block)?;
        }
        if ended {
            break;
        }
    }
    let checksum = chunks.end(&mut block);
    put(block)?;
    run(disk, Op::Sync { file: SLOT })?;
    run(disk, Op::Close { file: SLOT })?;
    run(disk, Op::SyncDir { path: crate::journal::shard_folder(name.shard) })?;
    Ok(SlotEntry { slot: FIRST, epoch: name.epoch, bytes: at, checksum })
}

/// Logs the bytes of what is in no block, and waits until that is complete; gives the epoch.
fn keep_bytes(
    mut shards: Vec<Shard>,
    mut keepers: Vec<Keeper>,
    epoch: Epoch,
    unmined: &[Unmined],
) -> Result<u64, ReshardError> {
    for tx in unmined.iter().filter(|tx| !tx.raw.is_empty()) {
        let home = usize::from(tx.shard);
        let record = DecisionRecord {
            copy: true,
            commit: false,
            context: Context::default(),
            fee_sat: tx.fee_sat,
            publish_seq: tx.publish_seq,
            decided: epoch.number,
            txid: tx.txid,
            parents: List::Own(&tx.parents),
            tx: &tx.raw,
        };
        while !shards[home].log_copy(&record) {
            turn(&mut shards, &mut keepers)?;
        }
    }
    // A second one says in every journal that the first is complete.
    for last in [epoch.number, epoch.number + 1] {
        for shard in &mut shards {
            shard.meet_epoch(Epoch { number: last + 1, ..epoch });
        }
        while keepers.iter().any(|keeper| keeper.durable().number < last) {
            turn(&mut shards, &mut keepers)?;
        }
        keepers.iter_mut().for_each(|keeper| keeper.complete(last));
    }
    Ok(epoch.number + 1)
}

fn turn(shards: &mut [Shard], keepers: &mut [Keeper]) -> Result<(), ReshardError> {
    let mut moved = false;
    for (shard, keeper) in shards.iter_mut().zip(keepers) {
        moved |= keeper.turn(shard);
        match keeper.health() {
            Health::Good => {}
            Health::DiskFull { .. } => {
                return Err(ReshardError::Journal { what: "the disk is full".to_owned() });
            }
            Health::Failed { text } => return Err(ReshardError::Journal { what: text }),
        }
    }
    if !moved {
        std::thread::yield_now();
    }
    Ok(())
}
