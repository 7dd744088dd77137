//! Teranode's UTXO set as a file: read and written a transaction at a time, whatever its size.
//!
//! ```text
//! magic "U-S-1.0 " 8 | block hash 32 | height u32 | previous block hash 32
//! transaction ...  : txid 32 | height << 1 | coinbase u32 | n u32 | n x (index u32 | value u64 | length u32 | script)
//! (older files: 32 zero bytes) | transactions u64 | outputs u64
//! ```
//!
//! Little endian. The last byte of the magic may be zero. Nothing in the file is believed: lengths are held against the bytes that
//! are left, indices must rise, values be below 2^51, and the numbers at the end must be those of what was read.
//!
//! Source: Teranode `services/utxopersister`, `pkg/fileformat`; checked on its seed files.

use crate::store::{Coin, MinedTx, UNMINED_HEIGHT, UtxoStore};
use consensus::hash::{BlockHash, TxId};
use consensus::tx::OutPoint;
use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = *b"U-S-1.0 ";
const HEAD_BYTES: u64 = 8 + 32 + 4 + 32;
const COUNTS_BYTES: u64 = 16;
const VALUE_SAT_END: u64 = 1 << 51;

/// Why a UTXO set could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The operating system said no.
    #[error("reading a seed file at byte {at}: {source}")]
    Io {
        /// Where.
        at: u64,
        /// What came back.
        source: io::Error,
    },
    /// Another kind of file.
    #[error(
        "the file begins with {got:02x?}, expected \"{}\" (a .utxo-set begins with U-S-1.0, a .utxo-headers with U-H-1.0); \
         is it the one beside it?",
        String::from_utf8_lossy(expected)
    )]
    Magic {
        /// The first eight bytes.
        got: [u8; 8],
        /// What they should be.
        expected: [u8; 8],
    },
    /// Headers that are no chain.
    #[error("the header at height {height} {what}; the file is damaged: fetch it again")]
    Unlinked {
        /// Its height, as the file says.
        height: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The file says what cannot be.
    #[error("byte {at}: {what} is {got}, expected {expected}; the file is damaged: fetch it again")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
        /// What the file says.
        got: u64,
        /// What it could be.
        expected: String,
    },
}

/// What stands at the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedHead {
    /// The block after which these are the coins.
    pub block: BlockHash,
    /// Its height.
    pub height: u32,
    /// The block before it.
    pub previous: BlockHash,
}

/// One transaction's coins, reused from one to the next.
#[derive(Clone, Debug, Default)]
pub struct SeedTx {
    /// Its id.
    pub txid: TxId,
    /// Height of its block.
    pub height: u32,
    /// Whether it is a coinbase.
    pub coinbase: bool,
    /// Index and value of each coin, and where its script lies in `scripts`.
    coins: Vec<(u32, u64, usize, usize)>,
    scripts: Vec<u8>,
}

impl SeedTx {
    /// Index, value and locking script of each coin.
    pub fn coins(&self) -> impl Iterator<Item = (u32, u64, &[u8])> {
        self.coins.iter().map(|&(vout, value, at, len)| (vout, value, &self.scripts[at..at + len]))
    }

    /// As a store takes it, with the coins that [`SeedTx::coins`] gave.
    pub fn mined<'a>(&self, coins: &'a [(u32, u64, &'a [u8])]) -> MinedTx<'a> {
        MinedTx { txid: self.txid, height: self.height, coinbase: self.coinbase, coins }
    }

    /// Hands the coins to a store's order.
    pub fn with_mined<R>(&self, take: impl FnOnce(&MinedTx<'_>) -> R) -> R {
        let coins: Vec<_> = self.coins().collect();
        let Self { txid, height, coinbase, .. } = *self;
        take(&MinedTx { txid, height, coinbase, coins: &coins })
    }

    fn clear(&mut self) {
        self.coins.clear();
        self.scripts.clear();
    }
}

/// Reads a set.
#[derive(Debug)]
pub struct SeedReader<R> {
    bytes: Bytes<R>,
    head: SeedHead,
    txs: u64,
    utxos: u64,
    ended: bool,
}

impl<R: Read> SeedReader<R> {
    /// Begins to read a file of `len` bytes.
    pub fn new(from: R, len: u64) -> Result<Self, SeedError> {
        let no = BlockHash([0; 32]);
        let head = SeedHead { block: no, height: 0, previous: no };
        let mut reader =
            Self { bytes: Bytes::new(from, len), head, txs: 0, utxos: 0, ended: false };
        let bytes = &mut reader.bytes;
        bytes.needs(HEAD_BYTES + COUNTS_BYTES, "bytes in the file")?;
        bytes.magic(MAGIC)?;
        reader.head.block = BlockHash(bytes.array()?);
        reader.head.height = bytes.u32()?;
        reader.head.previous = BlockHash(bytes.array()?);
        Ok(reader)
    }

    /// What stands at the front.
    pub fn head(&self) -> SeedHead {
        self.head
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.bytes.into_inner()
    }

    /// Bytes read.
    pub fn at(&self) -> u64 {
        self.bytes.at
    }

    /// Transactions and coins read.
    pub fn counts(&self) -> (u64, u64) {
        (self.txs, self.utxos)
    }

    /// The next transaction; false behind the last, when the numbers at the end were right.
    pub fn next_tx(&mut self, tx: &mut SeedTx) -> Result<bool, SeedError> {
        tx.clear();
        if self.ended {
            return Ok(false);
        }
        if self.bytes.left() == COUNTS_BYTES {
            return self.end();
        }
        self.bytes.needs(32 + COUNTS_BYTES, "bytes for a transaction")?;
        tx.txid = TxId(self.bytes.array()?);
        if tx.txid.0 == [0; 32] && self.bytes.left() == COUNTS_BYTES {
            return self.end();
        }
        self.bytes.needs(4 + 4 + COUNTS_BYTES, "bytes for a transaction")?;
        let height = self.bytes.u32()?;
        tx.height = height >> 1;
        tx.coinbase = height & 1 == 1;
        let n = self.bytes.u32()?;
        self.bytes.most(u64::from(n), self.bytes.left() / 16, "number of outputs")?;
        let mut last = None;
        for _ in 0..n {
            self.bytes.needs(16, "bytes for an output")?;
            let (vout, value) = (self.bytes.u32()?, self.bytes.u64()?);
            if last.is_some_and(|last| vout <= last) {
                return Err(self.bytes.damaged(
                    "index of an output",
                    u64::from(vout),
                    &"a larger one than the last",
                ));
            }
            last = Some(vout);
            self.bytes.most(value, VALUE_SAT_END - 1, "value of an output")?;
            let len = self.bytes.u32()?;
            self.bytes.most(u64::from(len), self.bytes.left(), "length of a script")?;
            let at = tx.scripts.len();
            tx.scripts.resize(at + len as usize, 0);
            self.bytes.read(&mut tx.scripts[at..])?;
            tx.coins.push((vout, value, at, len as usize));
        }
        self.txs += 1;
        self.utxos += u64::from(n);
        Ok(true)
    }

    fn end(&mut self) -> Result<bool, SeedError> {
        let (txs, utxos) = (self.bytes.u64()?, self.bytes.u64()?);
        for (what, got, counted) in [
            ("number of transactions at the end", txs, self.txs),
            ("number of outputs at the end", utxos, self.utxos),
        ] {
            if got != counted {
                return Err(self.bytes.damaged(what, got, &counted));
            }
        }
        self.ended = true;
        Ok(false)
    }
}

/// Bytes of a file of known length, held against what is left of it.
#[derive(Debug)]
pub(crate) struct Bytes<R> {
    from: R,
    at: u64,
    len: u64,
}

impl<R: Read> Bytes<R> {
    pub fn new(from: R, len: u64) -> Self {
        Self { from, at: 0, len }
    }

    pub fn into_inner(self) -> R {
        self.from
    }

    /// The kind of the file; its last byte may be zero.
    pub fn magic(&mut self, expected: [u8; 8]) -> Result<(), SeedError> {
        let got: [u8; 8] = self.array()?;
        if got[..7] != expected[..7] || !matches!(got[7], b' ' | 0) {
            return Err(SeedError::Magic { got, expected });
        }
        Ok(())
    }

    pub fn left(&self) -> u64 {
        self.len - self.at
    }

    pub fn damaged(&self, what: &'static str, got: u64, expected: &dyn ToString) -> SeedError {
        SeedError::Damaged { at: self.at, what, got, expected: expected.to_string() }
    }

    pub fn needs(&self, bytes: u64, what: &'static str) -> Result<(), SeedError> {
        if self.left() < bytes {
            return Err(self.damaged(what, self.left(), &format!("{bytes} or more")));
        }
        Ok(())
    }

    pub fn most(&self, got: u64, most: u64, what: &'static str) -> Result<(), SeedError> {
        if got > most { Err(self.damaged(what, got, &format!("{most} or less"))) } else { Ok(()) }
    }

    pub fn read(&mut self, into: &mut [u8]) -> Result<(), SeedError> {
        self.from.read_exact(into).map_err(|source| SeedError::Io { at: self.at, source })?;
        self.at += into.len() as u64;
        Ok(())
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], SeedError> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32, SeedError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, SeedError> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Writes a set.
#[derive(Debug)]
pub struct SeedWriter<W> {
    to: W,
    txs: u64,
    utxos: u64,
}

impl<W: Write> SeedWriter<W> {
    /// Begins a file.
    pub fn new(mut to: W, head: &SeedHead) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        to.write_all(&head.block.0)?;
        to.write_all(&head.height.to_le_bytes())?;
        to.write_all(&head.previous.0)?;
        Ok(Self { to, txs: 0, utxos: 0 })
    }

    /// One transaction.
    pub fn write(&mut self, tx: &MinedTx<'_>) -> io::Result<()> {
        self.to.write_all(&tx.txid.0)?;
        self.to.write_all(&(tx.height << 1 | u32::from(tx.coinbase)).to_le_bytes())?;
        self.to.write_all(&(tx.coins.len() as u32).to_le_bytes())?;
        for (vout, value_sat, script) in tx.coins {
            self.to.write_all(&vout.to_le_bytes())?;
            self.to.write_all(&value_sat.to_le_bytes())?;
            self.to.write_all(&(script.len() as u32).to_le_bytes())?;
            self.to.write_all(script)?;
        }
        self.txs += 1;
        self.utxos += tx.coins.len() as u64;
        Ok(())
    }

    /// Writes the numbers at the end and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&self.txs.to_le_bytes())?;
        self.to.write_all(&self.utxos.to_le_bytes())?;
        self.to.flush()?;
        Ok(self.to)
    }
}

/// Writes coins that come one by one, those of a transaction one behind the other.
#[derive(Debug)]
pub struct CoinWriter<W> {
    writer: SeedWriter<W>,
    tx: SeedTx,
    result: io::Result<()>,
}

impl<W: Write> CoinWriter<W> {
    /// Begins a file.
    pub fn new(to: W, head: &SeedHead) -> io::Result<Self> {
        Ok(Self { writer: SeedWriter::new(to, head)?, tx: SeedTx::default(), result: Ok(()) })
    }

    /// One coin. The first error is told by [`CoinWriter::finish`]; nothing is written behind it.
    pub fn take(&mut self, outpoint: &OutPoint, coin: &Coin<'_>) {
        let tx = &mut self.tx;
        if outpoint.txid != tx.txid && !tx.coins.is_empty() {
            if self.result.is_ok() {
                self.result = tx.with_mined(|mined| self.writer.write(mined));
            }
            tx.clear();
        }
        tx.txid = outpoint.txid;
        tx.height = coin.height;
        tx.coinbase = coin.coinbase;
        let at = tx.scripts.len();
        tx.scripts.extend_from_slice(coin.locking_script);
        tx.coins.push((outpoint.vout, coin.value_sat, at, coin.locking_script.len()));
    }

    /// Whether everything so far could be written.
    pub fn is_good(&self) -> bool {
        self.result.is_ok()
    }

    /// Transactions and coins written, and what they were written to.
    pub fn finish(mut self) -> io::Result<(u64, u64, W)> {
        self.result?;
        if !self.tx.coins.is_empty() {
            self.tx.with_mined(|mined| self.writer.write(mined))?;
        }
        let (txs, utxos) = (self.writer.txs, self.writer.utxos);
        Ok((txs, utxos, self.writer.finish()?))
    }
}

/// Writes every mined coin of a store; the coins of a transaction come one after the other from any store of ours.
pub fn export<W: Write>(store: &mut dyn UtxoStore, head: &SeedHead, to: W) -> io::Result<W> {
    let mut writer = CoinWriter::new(to, head)?;
    store.for_each_coin(&mut |outpoint: &OutPoint, coin: &Coin<'_>| {
        if coin.height != UNMINED_HEIGHT {
            writer.take(outpoint, coin);
        }
    });
    writer.finish().map(|(_, _, to)| to)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::reference::Reference;
    use crate::state_hash::StateHash;
    use crate::verdict::Verdict;
    use crate::{ShardConfig, Shards, conformance, testing};

    /// Teranode's seed, the file with this extension.
    pub(crate) fn seed_file(extension: &str) -> Option<Vec<u8>> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shared/vectors/bsv-blockchain+teranode/test/utils/data/seed/",
            "6d0e693024653c9dde15b731f09bf31aa3174302890ec751500250c2a4ea0984."
        );
        let path = path.to_owned() + extension;
        // A checkout in another place finds them beside the main one.
        let other = path.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "/work");
        std::fs::read(&path).or_else(|_| std::fs::read(other)).ok()
    }

    fn read(bytes: &[u8]) -> Result<(SeedHead, Vec<SeedTx>), SeedError> {
        let mut reader = SeedReader::new(bytes, bytes.len() as u64)?;
        let (mut all, mut tx) = (Vec::new(), SeedTx::default());
        while reader.next_tx(&mut tx)? {
            all.push(tx.clone());
        }
        Ok((reader.head(), all))
    }

    fn load(txs: &[SeedTx], store: &mut dyn UtxoStore) -> [u8; 32] {
        let mut out = Vec::new();
        for tx in txs {
            tx.with_mined(|mined| store.create_many(&[*mined], &mut out));
        }
        assert!(out.iter().all(|verdict| *verdict == Verdict::Done));
        let mut hash = StateHash::new();
        store.for_each_coin(&mut |outpoint, coin| hash.add(outpoint, coin));
        hash.finish()
    }

    fn shards() -> Shards {
        let config = ShardConfig { params: conformance::params(), ..testing::config(0, 3) };
        Shards::new(&config, false)
    }

    fn sample() -> (SeedHead, Vec<u8>) {
        let head = SeedHead { block: BlockHash([1; 32]), height: 77, previous: BlockHash([2; 32]) };
        let mut store = Reference::new(conformance::params());
        let mut out = Vec::new();
        for n in 1..40_u8 {
            let script = vec![n; usize::from(n) * 20];
            let coins = [(0, 5, &script[..]), (u32::from(n) * 9, u64::from(n), &[])];
            let txid = TxId([n; 32]);
            let tx =
                MinedTx { txid, height: 70 + u32::from(n) / 8, coinbase: n == 1, coins: &coins };
            store.create_many(&[tx], &mut out);
        }
        (head, export(&mut store, &head, Vec::new()).expect("a vector takes all"))
    }

    #[test]
    fn teranode_s_seed_is_read_and_kept_by_every_engine_alike() {
        let Some(bytes) = seed_file("utxo-set") else { return };
        let (head, txs) = read(&bytes).expect("its seed");
        assert_eq!(head.height, 101);
        let name = "6d0e693024653c9dde15b731f09bf31aa3174302890ec751500250c2a4ea0984";
        assert_eq!(head.block.to_string(), name);
        assert_eq!(txs.len(), 101);
        assert!(txs.iter().all(|tx| tx.coinbase && tx.coins().count() == 1));
        let value: u64 = txs.iter().flat_map(SeedTx::coins).map(|coin| coin.1).sum();
        assert_eq!(value, 101 * 50 * 100_000_000);
        let mut ours = shards();
        let plain = load(&txs, &mut Reference::new(conformance::params()));
        assert_eq!(load(&txs, &mut ours), plain);
        // Written again and read again: the newer kind, 32 bytes shorter, in the engine's order.
        let written = export(&mut ours, &head, Vec::new()).expect("a vector takes all");
        assert_eq!(written.len(), bytes.len() - 32);
        let (again, txs) = read(&written).expect("what we wrote");
        assert_eq!(again, head);
        assert_eq!(load(&txs, &mut shards()), plain);
    }

    #[test]
    fn what_was_written_is_read_back_and_every_cut_and_changed_length_is_noticed() {
        let (head, bytes) = sample();
        let (again, txs) = read(&bytes).expect("what we wrote");
        assert_eq!((again, txs.len()), (head, 39));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{cut} bytes pass");
        }
        let mut other = bytes.clone();
        other[7] = 0;
        assert!(read(&other).is_ok(), "a zero in place of the magic's space");
        other[6] = b'1';
        assert!(matches!(read(&other), Err(SeedError::Magic { .. })));
        let count = bytes.len() - 16;
        let mut other = bytes.clone();
        other[count] ^= 1;
        assert!(matches!(read(&other), Err(SeedError::Damaged { .. })));
        // The number of outputs of the first transaction.
        let mut other = bytes;
        other[8 + 32 + 4 + 32 + 36..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read(&other), Err(SeedError::Damaged { .. })));
    }
}
