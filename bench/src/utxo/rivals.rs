//! The rivals: RocksDB, LMDB, redb, fjall, each doing what the table does and no more.
//!
//! A row a coin: key = txid, output (36 bytes); value = height and coinbase flag, value, form of the script, its 20 bytes (33).
//! A batch is one atomic write of the engine; each coin is read and must be there before it is deleted. Durability none: no log
//! is synced (RocksDB: there is none). Settings are those their documents recommend for point reads of small rows in memory.
//!
//! Durability epoch, each in the way its documents give: RocksDB and fjall write their log with every batch and sync it when an epoch
//! is over; redb commits every batch and makes the last commit of an epoch durable, and with it those before; LMDB, whose commit is
//! its sync, gets as many batches in one transaction as take an epoch. What is loaded before the measured work is synced once.

use super::work::{BATCH_TXS, COIN_BYTES, LOADED_HEIGHT, Work};
use super::{Args, Durability, Engine};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use lmdb::{Cursor, Transaction};
use redb::{ReadableDatabase, ReadableTable};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use utxo_shard::state_hash::StateHash;
use utxo_shard::store::{Coin, UNMINED_HEIGHT};

/// Memory a rival may keep of its files.
const CACHE_BYTES: usize = 1 << 30;
/// Address space of LMDB's map.
const MAP_BYTES: usize = 64 << 30;
/// Most batches in one transaction of LMDB.
const LMDB_BATCHES_MAX: usize = 256;
/// Batches between commits that let redb give back what it has replaced; without them its file only grows.
const REDB_BATCHES: u32 = 256;

const KEY_BYTES: usize = 36;
const VALUE_BYTES: usize = COIN_BYTES - KEY_BYTES;
type Key = [u8; KEY_BYTES];
type Row = [u8; VALUE_BYTES];

const TABLE: redb::TableDefinition<'_, &Key, &Row> = redb::TableDefinition::new("coins");

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn key(coin: &OutPoint) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..32].copy_from_slice(&coin.txid.0);
    key[32..].copy_from_slice(&coin.vout.to_be_bytes());
    key
}

fn rows(work: &Work, height: u32) -> [(Key, Row); 2] {
    [0, 1].map(|vout| {
        let (value_sat, script) = work.output(vout);
        let mut row = [0; VALUE_BYTES];
        row[..4].copy_from_slice(&(height << 1).to_le_bytes());
        row[4..12].copy_from_slice(&value_sat.to_le_bytes());
        row[12] = 1;
        row[13..].copy_from_slice(&script[3..23]);
        (key(&OutPoint { txid: work.txid, vout: vout as u32 }), row)
    })
}

fn add(hash: &mut StateHash, key: &[u8], row: &[u8]) -> Result<(), String> {
    let key: &Key = key.try_into().map_err(|_| format!("a key of {} bytes", key.len()))?;
    let row: &Row = row.try_into().map_err(|_| format!("a row of {} bytes", row.len()))?;
    let (txid, vout) = key.split_first_chunk::<32>().expect("36 bytes");
    let vout = u32::from_be_bytes(vout.try_into().expect("four bytes"));
    let height = u32::from_le_bytes(row[..4].try_into().expect("four bytes")) >> 1;
    let value_sat = u64::from_le_bytes(row[4..12].try_into().expect("eight bytes"));
    let script = [&[0x76, 0xa9, 0x14][..], &row[13..], &[0x88, 0xac]].concat();
    let coin = Coin { value_sat, height, coinbase: false, locking_script: &script };
    hash.add(&OutPoint { txid: TxId(*txid), vout }, &coin);
    Ok(())
}

fn missing(key: &Key) -> String {
    format!("coin {} is not there", hex::encode(key))
}

/// The engine of a name.
pub fn open(name: &str, dir: &Path, args: &Args) -> Option<Result<Box<dyn Engine>, String>> {
    let dir = dir.to_owned();
    let epochs = args.durability == Durability::Epoch;
    let period = epochs.then(|| Duration::from_millis(args.epoch_ms));
    Some(match name {
        "rocksdb" => Rocks::new(dir, epochs).map(|e| Box::new(e) as Box<dyn Engine>),
        "lmdb" => Lmdb::new(dir, period).map(|e| Box::new(e) as Box<dyn Engine>),
        "redb" => Redb::new(dir).map(|e| Box::new(e) as Box<dyn Engine>),
        "fjall" => Fjall::new(dir).map(|e| Box::new(e) as Box<dyn Engine>),
        _ => return None,
    })
}

struct Rocks {
    dir: PathBuf,
    db: Option<rocksdb::DB>,
    /// What is applied goes to its log.
    epochs: bool,
}

impl Rocks {
    fn new(dir: PathBuf, epochs: bool) -> Result<Self, String> {
        let db = Some(Self::open(&dir)?);
        Ok(Self { dir, db, epochs })
    }

    fn open(dir: &Path) -> Result<rocksdb::DB, String> {
        let mut table = rocksdb::BlockBasedOptions::default();
        let cache = rocksdb::Cache::new_lru_cache(CACHE_BYTES).map_err(text)?;
        table.set_block_cache(&cache);
        table.set_bloom_filter(10.0, false);
        table.set_data_block_index_type(rocksdb::DataBlockIndexType::BinaryAndHash);
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_compression_type(rocksdb::DBCompressionType::None);
        options.set_write_buffer_size(256 << 20);
        options.set_max_background_jobs(2);
        options.set_max_open_files(-1);
        rocksdb::DB::open(&options, dir).map_err(text)
    }

    fn db(&self) -> &rocksdb::DB {
        self.db.as_ref().expect("open between calls")
    }

    fn write(&self, batch: rocksdb::WriteBatch, log: bool) -> Result<(), String> {
        let mut options = rocksdb::WriteOptions::default();
        options.disable_wal(!log);
        self.db().write_opt(batch, &options).map_err(text)
    }
}

impl Engine for Rocks {
    fn load(&mut self, batch: &[Work]) -> Result<(), String> {
        let mut write = rocksdb::WriteBatch::default();
        for (key, row) in batch.iter().flat_map(|work| rows(work, LOADED_HEIGHT)) {
            write.put(key, row);
        }
        self.write(write, false)
    }

    fn loaded(&mut self) -> Result<(), String> {
        self.db().flush().map_err(text)
    }

    fn end_group(&mut self) -> Result<(), String> {
        self.db().flush_wal(true).map_err(text)
    }

    fn finished(&mut self) -> Result<(), String> {
        self.end_group()
    }

    fn apply(&mut self, batch: &[Work]) -> Result<(), String> {
        let keys: Vec<Key> = batch.iter().flat_map(|work| work.inputs.iter().map(key)).collect();
        let mut write = rocksdb::WriteBatch::default();
        for (key, found) in keys.iter().zip(self.db().multi_get(&keys)) {
            found.map_err(text)?.ok_or_else(|| missing(key))?;
            write.delete(key);
        }
        for (key, row) in batch.iter().flat_map(|work| rows(work, UNMINED_HEIGHT)) {
            write.put(key, row);
        }
        self.write(write, self.epochs)
    }

    fn coins(&mut self, hash: &mut StateHash) -> Result<(), String> {
        for item in self.db().iterator(rocksdb::IteratorMode::Start) {
            let (key, row) = item.map_err(text)?;
            add(hash, &key, &row)?;
        }
        Ok(())
    }

    fn resident_bytes(&mut self) -> Option<u64> {
        None
    }

    fn reopen(&mut self) -> Result<Option<()>, String> {
        if !self.epochs {
            self.db().flush().map_err(text)?;
        }
        self.db = None;
        self.db = Some(Self::open(&self.dir)?);
        Ok(Some(()))
    }
}

struct Lmdb {
    dir: PathBuf,
    env: Option<(lmdb::Environment, lmdb::Database)>,
    /// How long a transaction is to take, its sync included, where commits sync.
    period: Option<Duration>,
    group_txs: usize,
}

impl Lmdb {
    fn new(dir: PathBuf, period: Option<Duration>) -> Result<Self, String> {
        let env = Some(Self::open(&dir, false)?);
        Ok(Self { dir, env, period, group_txs: BATCH_TXS })
    }

    fn open(dir: &Path, syncs: bool) -> Result<(lmdb::Environment, lmdb::Database), String> {
        let mut flags = lmdb::EnvironmentFlags::WRITE_MAP | lmdb::EnvironmentFlags::NO_READAHEAD;
        if !syncs {
            flags |= lmdb::EnvironmentFlags::NO_SYNC | lmdb::EnvironmentFlags::MAP_ASYNC;
        }
        let mut builder = lmdb::Environment::new();
        builder.set_flags(flags).set_map_size(MAP_BYTES);
        let env = builder.open(dir).map_err(text)?;
        let db = env.open_db(None).map_err(text)?;
        Ok((env, db))
    }

    fn env(&self) -> (&lmdb::Environment, lmdb::Database) {
        let (env, db) = self.env.as_ref().expect("open between calls");
        (env, *db)
    }
}

impl Engine for Lmdb {
    fn load(&mut self, batch: &[Work]) -> Result<(), String> {
        let (env, db) = self.env();
        let mut write = env.begin_rw_txn().map_err(text)?;
        for (key, row) in batch.iter().flat_map(|work| rows(work, LOADED_HEIGHT)) {
            write.put(db, &key, &row, lmdb::WriteFlags::empty()).map_err(text)?;
        }
        write.commit().map_err(text)
    }

    fn loaded(&mut self) -> Result<(), String> {
        self.env().0.sync(true).map_err(text)?;
        self.env = None;
        self.env = Some(Self::open(&self.dir, self.period.is_some())?);
        Ok(())
    }

    fn group_txs(&self) -> usize {
        self.group_txs
    }

    fn apply(&mut self, batch: &[Work]) -> Result<(), String> {
        let began = Instant::now();
        let (env, db) = self.env();
        let mut write = env.begin_rw_txn().map_err(text)?;
        for work in batch {
            for coin in &work.inputs {
                let key = key(coin);
                write.get(db, &key).map_err(|_| missing(&key))?;
                write.del(db, &key, None).map_err(text)?;
            }
            for (key, row) in rows(work, UNMINED_HEIGHT) {
                write.put(db, &key, &row, lmdb::WriteFlags::empty()).map_err(text)?;
            }
        }
        write.commit().map_err(text)?;
        if let Some(period) = self.period {
            let fits = period.as_secs_f64() / began.elapsed().as_secs_f64() * batch.len() as f64;
            let batches = (fits / BATCH_TXS as f64).round() as usize;
            self.group_txs = batches.clamp(1, LMDB_BATCHES_MAX) * BATCH_TXS;
        }
        Ok(())
    }

    fn coins(&mut self, hash: &mut StateHash) -> Result<(), String> {
        let (env, db) = self.env();
        let read = env.begin_ro_txn().map_err(text)?;
        let mut cursor = read.open_ro_cursor(db).map_err(text)?;
        for item in cursor.iter() {
            let (key, row) = item.map_err(text)?;
            add(hash, key, row)?;
        }
        Ok(())
    }

    fn resident_bytes(&mut self) -> Option<u64> {
        // All of it is the map's, as much as was ever written.
        Some(super::disk_bytes(&self.dir))
    }

    fn reopen(&mut self) -> Result<Option<()>, String> {
        self.loaded().map(Some)
    }
}

struct Redb {
    file: PathBuf,
    db: Option<redb::Database>,
    batches: u32,
}

impl Redb {
    fn new(dir: PathBuf) -> Result<Self, String> {
        let file = dir.join("coins.redb");
        let db = Some(Self::open(&file)?);
        Ok(Self { file, db, batches: 0 })
    }

    fn open(file: &Path) -> Result<redb::Database, String> {
        redb::Database::builder().set_cache_size(CACHE_BYTES).create(file).map_err(text)
    }

    fn db(&self) -> &redb::Database {
        self.db.as_ref().expect("open between calls")
    }

    fn in_one(
        &mut self,
        work: impl FnOnce(&mut redb::Table<'_, &Key, &Row>) -> Result<(), String>,
    ) -> Result<(), String> {
        self.batches += 1;
        let lasting = self.batches.is_multiple_of(REDB_BATCHES);
        let mut write = self.db().begin_write().map_err(text)?;
        let durability = if lasting { redb::Durability::Immediate } else { redb::Durability::None };
        write.set_durability(durability).map_err(text)?;
        work(&mut write.open_table(TABLE).map_err(text)?)?;
        write.commit().map_err(text)
    }
}

impl Redb {
    /// An empty commit that is durable, and with it all before.
    fn sync(&mut self) -> Result<(), String> {
        self.batches = REDB_BATCHES - 1;
        self.in_one(|_| Ok(()))
    }
}

impl Engine for Redb {
    fn load(&mut self, batch: &[Work]) -> Result<(), String> {
        self.in_one(|table| {
            for (key, row) in batch.iter().flat_map(|work| rows(work, LOADED_HEIGHT)) {
                table.insert(&key, &row).map_err(text)?;
            }
            Ok(())
        })
    }

    fn loaded(&mut self) -> Result<(), String> {
        self.sync()
    }

    fn end_group(&mut self) -> Result<(), String> {
        self.sync()
    }

    fn finished(&mut self) -> Result<(), String> {
        self.sync()
    }

    fn apply(&mut self, batch: &[Work]) -> Result<(), String> {
        self.in_one(|table| {
            for work in batch {
                for coin in &work.inputs {
                    // What it removes it gives back: that is the look-up.
                    let key = key(coin);
                    table.remove(&key).map_err(text)?.ok_or_else(|| missing(&key))?;
                }
                for (key, row) in rows(work, UNMINED_HEIGHT) {
                    table.insert(&key, &row).map_err(text)?;
                }
            }
            Ok(())
        })
    }

    fn coins(&mut self, hash: &mut StateHash) -> Result<(), String> {
        let read = self.db().begin_read().map_err(text)?;
        let table = read.open_table(TABLE).map_err(text)?;
        for item in table.iter().map_err(text)? {
            let (key, row) = item.map_err(text)?;
            add(hash, key.value(), row.value())?;
        }
        Ok(())
    }

    fn resident_bytes(&mut self) -> Option<u64> {
        None
    }

    fn reopen(&mut self) -> Result<Option<()>, String> {
        self.sync()?;
        self.db = None;
        self.db = Some(Self::open(&self.file)?);
        Ok(Some(()))
    }
}

struct Fjall {
    dir: PathBuf,
    db: Option<(fjall::Database, fjall::Keyspace)>,
}

impl Fjall {
    fn new(dir: PathBuf) -> Result<Self, String> {
        let db = Some(Self::open(&dir)?);
        Ok(Self { dir, db })
    }

    fn open(dir: &Path) -> Result<(fjall::Database, fjall::Keyspace), String> {
        let db = fjall::Database::builder(dir)
            .cache_size(CACHE_BYTES as u64)
            .manual_journal_persist(true)
            .worker_threads(2)
            .open()
            .map_err(text)?;
        let options = || {
            fjall::KeyspaceCreateOptions::default()
                .expect_point_read_hits(true)
                .max_memtable_size(256 << 20)
        };
        let coins = db.keyspace("coins", options).map_err(text)?;
        Ok((db, coins))
    }

    fn db(&self) -> (&fjall::Database, &fjall::Keyspace) {
        let (db, coins) = self.db.as_ref().expect("open between calls");
        (db, coins)
    }
}

impl Engine for Fjall {
    fn load(&mut self, batch: &[Work]) -> Result<(), String> {
        let (db, coins) = self.db();
        let mut write = db.batch();
        for (key, row) in batch.iter().flat_map(|work| rows(work, LOADED_HEIGHT)) {
            write.insert(coins, key, row);
        }
        write.commit().map_err(text)
    }

    fn loaded(&mut self) -> Result<(), String> {
        self.db().0.persist(fjall::PersistMode::SyncData).map_err(text)
    }

    fn end_group(&mut self) -> Result<(), String> {
        self.db().0.persist(fjall::PersistMode::SyncData).map_err(text)
    }

    fn finished(&mut self) -> Result<(), String> {
        self.end_group()
    }

    fn apply(&mut self, batch: &[Work]) -> Result<(), String> {
        let (db, coins) = self.db();
        let mut write = db.batch();
        for work in batch {
            for coin in &work.inputs {
                let key = key(coin);
                coins.get(key).map_err(text)?.ok_or_else(|| missing(&key))?;
                write.remove(coins, key);
            }
            for (key, row) in rows(work, UNMINED_HEIGHT) {
                write.insert(coins, key, row);
            }
        }
        write.commit().map_err(text)
    }

    fn coins(&mut self, hash: &mut StateHash) -> Result<(), String> {
        for item in self.db().1.iter() {
            let (key, row) = item.into_inner().map_err(text)?;
            add(hash, &key, &row)?;
        }
        Ok(())
    }

    fn resident_bytes(&mut self) -> Option<u64> {
        None
    }

    fn reopen(&mut self) -> Result<Option<()>, String> {
        self.db().0.persist(fjall::PersistMode::SyncAll).map_err(text)?;
        self.db = None;
        self.db = Some(Self::open(&self.dir)?);
        Ok(Some(()))
    }
}
