//! The transactions every engine is given: the same ones for the same number of records.
//!
//! A coin is named by the number of its transaction and its output; ids, scripts and values follow from the numbers, so the list of
//! unspent coins takes eight bytes each and nothing else is kept. A batch spends only what earlier batches created.

use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::Context;
use utxo_shard::store::{MinedTx, Spending};

/// Transactions of a batch.
pub const BATCH_TXS: usize = 1_024;
/// Every run draws from it.
pub const SEED: u64 = 5;
/// Height of what is loaded.
pub const LOADED_HEIGHT: u32 = 500;
/// The context of what is measured.
pub const POOL: Context = Context { block: 0, height: 501, median_time_past: 0, rule_set: 0 };
/// Key and value of a coin, as the rivals store it.
pub const COIN_BYTES: usize = 36 + 33;
/// Bytes of an unlocking script: a signature and a key.
const UNLOCKING_BYTES: usize = 107;
const INPUT_BYTES: usize = 36 + 1 + UNLOCKING_BYTES + 4;
const OUTPUT_BYTES: usize = 8 + 1 + 25;
const RAW_BYTES: usize = 4 + 1 + 2 * INPUT_BYTES + 1 + 2 * OUTPUT_BYTES + 4;
const OUTPUTS_AT: usize = 4 + 1 + 2 * INPUT_BYTES + 1;

/// One transaction of two inputs and two P2PKH outputs.
#[derive(Clone, Debug)]
pub struct Work {
    pub txid: TxId,
    pub inputs: [OutPoint; 2],
    raw: [u8; RAW_BYTES],
}

impl Work {
    /// Value and P2PKH script of an output.
    pub fn output(&self, vout: usize) -> (u64, &[u8; 25]) {
        let (value, script) = self.raw[OUTPUTS_AT + vout * OUTPUT_BYTES..].split_at(9);
        let value = value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        (value, script.first_chunk().expect("an output has 34 bytes"))
    }

    /// Both outputs as a store takes them.
    pub fn coins(&self) -> [(u32, u64, &[u8]); 2] {
        [0, 1].map(|vout| {
            let (value, script) = self.output(vout);
            (vout as u32, value, &script[..])
        })
    }

    /// As a mined transaction with these coins.
    pub fn mined<'a>(&self, coins: &'a [(u32, u64, &'a [u8])]) -> MinedTx<'a> {
        MinedTx { txid: self.txid, height: LOADED_HEIGHT, coinbase: false, coins }
    }

    /// As a transaction to be decided.
    pub fn spending(&self) -> Spending<'_> {
        Spending { txid: self.txid, inputs: &self.inputs, raw: &self.raw }
    }
}

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn id(number: u64) -> TxId {
    let mut bytes = [0; 32];
    for (i, part) in (0_u64..).zip(bytes.chunks_exact_mut(8)) {
        part.copy_from_slice(&mix(number << 2 | i).to_le_bytes());
    }
    TxId(bytes)
}

/// See the module.
#[derive(Debug)]
pub struct Workload {
    /// Unspent: transaction number << 1 | output.
    coins: Vec<u64>,
    next_tx: u64,
    loads: u64,
    state: u64,
    template: [u8; RAW_BYTES],
}

impl Workload {
    /// For this many coins, two a transaction.
    pub fn new(records: u64) -> Self {
        let mut template = [0; RAW_BYTES];
        template[0] = 2;
        template[4] = 2;
        for n in 0..2 {
            template[5 + n * INPUT_BYTES + 36] = UNLOCKING_BYTES as u8;
        }
        template[OUTPUTS_AT - 1] = 2;
        for n in 0..2 {
            let script = &mut template[OUTPUTS_AT + n * OUTPUT_BYTES + 8..][..26];
            script[..4].copy_from_slice(&[25, 0x76, 0xa9, 0x14]);
            script[24..].copy_from_slice(&[0x88, 0xac]);
        }
        let coins = Vec::with_capacity(records as usize + 4 * BATCH_TXS);
        Self { coins, next_tx: 0, loads: records / 2, state: SEED, template }
    }

    fn random(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(1);
        ((u128::from(mix(self.state << 20)) * below as u128) >> 64) as usize
    }

    fn make(&mut self, spends: [u64; 2]) -> Work {
        let number = self.next_tx;
        self.next_tx += 1;
        let mut raw = self.template;
        let inputs = spends.map(|coin| OutPoint { txid: id(coin >> 1), vout: coin as u32 & 1 });
        for (n, input) in inputs.iter().enumerate() {
            let at = 5 + n * INPUT_BYTES;
            raw[at..at + 32].copy_from_slice(&input.txid.0);
            raw[at + 32..at + 36].copy_from_slice(&input.vout.to_le_bytes());
        }
        for n in 0..2 {
            let at = OUTPUTS_AT + n * OUTPUT_BYTES;
            let drawn = mix(number << 1 | n as u64);
            raw[at..at + 8].copy_from_slice(&(drawn >> 34).to_le_bytes());
            raw[at + 12..at + 20].copy_from_slice(&drawn.to_le_bytes());
            raw[at + 20..at + 28].copy_from_slice(&mix(drawn).to_le_bytes());
        }
        Work { txid: id(number), inputs, raw }
    }

    /// The next transactions to load; false when all are.
    pub fn next_loads(&mut self, batch: &mut Vec<Work>) -> bool {
        batch.clear();
        let more = (self.loads - self.next_tx.min(self.loads)).min(BATCH_TXS as u64);
        for _ in 0..more {
            let number = self.next_tx;
            let work = self.make([0, 0]);
            batch.push(work);
            self.coins.extend([number << 1, number << 1 | 1]);
        }
        more > 0
    }

    /// The next transactions to measure.
    pub fn next_batch(&mut self, txs: usize, batch: &mut Vec<Work>) {
        batch.clear();
        let mut made = Vec::with_capacity(2 * txs);
        for _ in 0..txs {
            let spends = [(); 2].map(|()| {
                let place = self.random(self.coins.len());
                self.coins.swap_remove(place)
            });
            let number = self.next_tx;
            let work = self.make(spends);
            batch.push(work);
            made.extend([number << 1, number << 1 | 1]);
        }
        self.coins.extend(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::tx::Tx;

    #[test]
    fn what_is_made_is_a_transaction_and_spends_only_what_earlier_batches_made() {
        let mut workload = Workload::new(4_000);
        let mut batch = Vec::new();
        let mut known = std::collections::BTreeSet::new();
        while workload.next_loads(&mut batch) {
            for work in &batch {
                known.extend([0, 1].map(|vout| OutPoint { txid: work.txid, vout }));
            }
        }
        assert_eq!(known.len(), 4_000);
        for _ in 0..3 {
            workload.next_batch(300, &mut batch);
            for work in &batch {
                let tx = Tx::parse(work.spending().raw).expect("a transaction");
                assert_eq!(tx.inputs.len(), 2);
                for (vout, output) in tx.outputs.iter().enumerate() {
                    let (value, script) = work.output(vout);
                    assert_eq!(output.value_sat as u64, value);
                    assert_eq!(output.locking_script, script);
                }
                assert!(work.inputs.iter().all(|coin| known.remove(coin)));
            }
            for work in &batch {
                known.extend([0, 1].map(|vout| OutPoint { txid: work.txid, vout }));
            }
        }
        assert_eq!(known.len(), 4_000);
    }
}
