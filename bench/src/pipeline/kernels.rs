//! What the work itself costs, without any machine around it: nanoseconds a transaction for each kernel.
//!
//! Every kernel runs on as many threads at once as the machine has cores, because cores that share a physical one (SMT) or a
//! power budget are slower together, and the machine does not run them alone either.

use super::rounds::prepare;
use consensus::params::{ChainParams, Network};
use consensus::script::Budget;
use consensus::sighash::SighashCache;
use consensus::tx::{OutPoint, TxLayout, parse};
use dataplane::msg::request::{Decision, List};
use dataplane::msg::{
    Accepted, BatchHeader, Context, Expect, InputRef, ParentSeq, Reply, Request, Ticket,
};
use dataplane::partition::Partition;
use load::{Offer, Options, Workload};
use serde_json::{Value, json};
use sigbatch::{Backend, Check, Hasher, SigVerdict, Signature, Verifier};
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;
use utxo_shard::{Outbox, Shard, ShardConfig};

/// Transactions of the sample.
const SAMPLE_TXS: usize = 4_000;
/// Signatures of the sample that are verified.
const SAMPLE_SIGNATURES: usize = 1_000;
/// Nanoseconds a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernels {
    parse: f64,
    txid: f64,
    sighash: f64,
    ecdsa: f64,
    probe: f64,
    merkle: f64,
}

impl Kernels {
    /// All of them.
    pub fn sum_ns(&self) -> f64 {
        self.parse + self.txid + self.sighash + self.ecdsa + self.probe + self.merkle
    }

    /// Each kernel's median over several measurements.
    pub fn median(all: &[Self]) -> Self {
        let of = |kernel: fn(&Self) -> f64| {
            let mut ns: Vec<f64> = all.iter().map(kernel).collect();
            ns.sort_by(f64::total_cmp);
            ns.get(ns.len() / 2).copied().unwrap_or(0.0)
        };
        Self {
            parse: of(|k| k.parse),
            txid: of(|k| k.txid),
            sighash: of(|k| k.sighash),
            ecdsa: of(|k| k.ecdsa),
            probe: of(|k| k.probe),
            merkle: of(|k| k.merkle),
        }
    }

    /// By name, whole nanoseconds.
    pub fn to_json(self) -> Value {
        json!({
            "parse": self.parse.round(),
            "txid": self.txid.round(),
            "sighash": self.sighash.round(),
            "ecdsa": self.ecdsa.round(),
            "probe": self.probe.round(),
            "merkle": self.merkle.round(),
        })
    }
}

/// One signature of the sample, taken apart.
#[derive(Debug)]
struct Signed {
    key: Vec<u8>,
    der: Vec<u8>,
    digest: [u8; 32],
}

/// A sample of a workload.
#[derive(Debug)]
pub struct Sample {
    offer: Offer,
    shard: ShardInput,
    signed: Vec<Signed>,
    signatures_per_tx: f64,
}

/// What a shard needs to play its part.
#[derive(Debug)]
struct ShardInput {
    coins: Vec<(consensus::tx::OutPoint, u64, Vec<u8>)>,
}

/// Times every kernel on `threads` threads at once.
pub fn measure(sample: &Sample, threads: usize, backend: Option<Backend>) -> Kernels {
    let n = sample.offer.len() as f64;
    let timed = |work: &(dyn Fn() + Sync)| {
        let each: Vec<f64> = std::thread::scope(|scope| {
            let timed = || {
                let began = Instant::now();
                work();
                began.elapsed().as_nanos() as f64
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(timed)).collect();
            handles.into_iter().map(|h| h.join().expect("a kernel does not panic")).collect()
        });
        each.iter().sum::<f64>() / each.len() as f64 / n
    };
    let mut kernels = Kernels {
        parse: timed(&|| {
            let mut layout = TxLayout::with_capacity(64, 64);
            for tx in sample.offer.iter() {
                black_box(parse(tx.bytes, &mut layout).is_ok());
            }
        }),
        txid: timed(&|| {
            let hasher = Hasher::new();
            let mut out = vec![[0; 32]; sample.offer.len()];
            hasher.sha256d_each(|i| sample.offer.get(i).bytes, &mut out);
            black_box(&out);
        }),
        merkle: timed(&|| {
            let hasher = Hasher::new();
            let mut nodes: Vec<[u8; 32]> = sample.offer.iter().map(|t| t.txid.0).collect();
            while nodes.len() > 1 {
                nodes.truncate(nodes.len() & !1);
                let mut parents = vec![[0; 32]; nodes.len() / 2];
                hasher.merkle_level(&nodes, &mut parents);
                nodes = parents;
            }
            black_box(&nodes);
        }),
        probe: 0.0,
        sighash: timed(&|| {
            let mut layout = TxLayout::with_capacity(64, 64);
            let mut cache = SighashCache::new();
            for tx in sample.offer.iter() {
                let view = parse(tx.bytes, &mut layout).expect("the sample is well-formed");
                cache.reset();
                for (i, input) in view.inputs().enumerate() {
                    if !input.unlocking_script.is_empty() {
                        // A script code as long as any P2PKH one; its bytes make no difference to the cost.
                        let code = &tx.bytes[..25];
                        let mut budget = Budget::UNLIMITED;
                        black_box(cache.digest(&view, i, 0x41, 1, code, true, &mut budget).is_ok());
                    }
                }
            }
        }),
        ecdsa: 0.0,
    };
    if !sample.signed.is_empty() {
        let per_check = timed(&|| {
            let mut verifier = backend.and_then(Verifier::with_backend).unwrap_or_default();
            let mut verdicts = vec![SigVerdict::default(); sample.signed.len()];
            verifier.verify_each(
                |i| {
                    let s = &sample.signed[i];
                    Check {
                        public_key: &s.key,
                        digest: &s.digest,
                        signature: Signature::Der(&s.der),
                    }
                },
                &mut verdicts,
            );
            black_box(&verdicts);
        }) * n
            / sample.signed.len() as f64;
        kernels.ecdsa = per_check * sample.signatures_per_tx;
    }
    kernels.probe = shard_ns(sample, threads);
    kernels
}

/// Transactions of a workload, other than those of any round, taken apart for the kernels.
pub fn sample(workload: Workload, seed: u64) -> Sample {
    let options = Options { keys: 1_000, ..Options::new(workload, SAMPLE_TXS, seed ^ 0x5a5a) };
    let (plan, fan_out, offer) = prepare(options);
    let mut signed = Vec::new();
    let mut signatures = 0usize;
    let mut layout = TxLayout::new();
    let mut cache = SighashCache::new();
    // The coins of the sample: imported ones, and those its own transactions make.
    let imported = fan_out.coins.iter().map(|c| (c.outpoint, (c.value_sat, plan.script_of(c))));
    let mut made: HashMap<OutPoint, (u64, Vec<u8>)> = imported.collect();
    for tx in offer.iter() {
        let view = parse(tx.bytes, &mut layout).expect("the sample is well-formed");
        for (vout, output) in view.outputs().enumerate() {
            let outpoint = OutPoint { txid: tx.txid, vout: vout as u32 };
            made.insert(outpoint, (output.value_sat as u64, output.locking_script.to_vec()));
        }
        cache.reset();
        for (vin, input) in view.inputs().enumerate() {
            if input.unlocking_script.is_empty() {
                continue;
            }
            signatures += 1;
            if signed.len() < SAMPLE_SIGNATURES {
                let script = input.unlocking_script;
                let len = usize::from(script[0]);
                // The right digest: a kernel hands what it does not accept to libsecp256k1, so a wrong one costs both.
                let (value_sat, code) = &made[&input.prev];
                let mut budget = Budget::UNLIMITED;
                let digest = cache.digest(&view, vin, 0x41, *value_sat, code, true, &mut budget);
                let digest = digest.expect("an unlimited budget");
                let (der, key) = (script[1..len].to_vec(), script[len + 2..].to_vec());
                signed.push(Signed { key, der, digest });
            }
        }
    }
    let coins =
        fan_out.coins.iter().map(|c| (c.outpoint, c.value_sat, plan.script_of(c))).collect();
    let signatures_per_tx = signatures as f64 / offer.len() as f64;
    Sample { offer, shard: ShardInput { coins }, signed, signatures_per_tx }
}

/// Swallows what the shard says.
struct Sink(u64);

impl Outbox for Sink {
    fn reply(&mut self, _to: u16, reply: &Reply<'_>) {
        self.0 += u64::from(matches!(reply, Reply::Decided { .. }));
    }

    fn publish(&mut self, accepted: &Accepted<'_>) {
        black_box(accepted.txid);
    }
}

/// The owner's whole part for one transaction: announce, seen, resolve every input, commit.
fn shard_ns(sample: &Sample, threads: usize) -> f64 {
    let partition = Partition::new([7; 16], 1, 1);
    let params = ChainParams::of(Network::Regtest);
    let context = Context {
        block: 0,
        height: 102,
        median_time_past: 1_600_000_000,
        rule_set: params.flags_for_block(102),
    };
    let work = || {
        let config = ShardConfig::small(0, partition.clone(), (1, 2), params.clone());
        let mut shard = Shard::new(&config);
        let mut sink = Sink(0);
        for (outpoint, value_sat, script) in &sample.shard.coins {
            let imported = shard.import(outpoint, *value_sat, 1, false, script);
            assert!(imported, "a small shard holds the sample's coins");
        }
        let header = BatchHeader { context, ..BatchHeader::default() };
        let mut layout = TxLayout::with_capacity(64, 64);
        let mut inputs: Vec<InputRef> = Vec::with_capacity(64);
        let mut ns = 0;
        for tx in sample.offer.iter() {
            let view = parse(tx.bytes, &mut layout).expect("the sample is well-formed");
            inputs.clear();
            inputs.extend(view.inputs().enumerate().map(|(vin, input)| InputRef {
                vin: vin as u32,
                outpoint: input.prev,
                expect: Expect::default(),
            }));
            let ticket = Ticket { slot: tx.place & 1_023, attempt: tx.place };
            let txid = tx.txid;
            let began = Instant::now();
            shard.request_all(
                0,
                &header,
                [Request::Announce { ticket, txid, tx: tx.bytes }],
                &mut sink,
            );
            shard.request_all(0, &header, [Request::Seen { ticket, txid }], &mut sink);
            let resolves = inputs.iter().map(|i| Request::Resolve {
                ticket,
                vin: i.vin,
                outpoint: i.outpoint,
            });
            shard.request_all(0, &header, resolves, &mut sink);
            let decision = Decision { fee_sat: 1, parents: List::<ParentSeq>::Own(&[]), tx: &[] };
            let commit = Request::Commit { ticket, txid, inputs: List::Own(&inputs), decision };
            shard.request_all(0, &header, [commit], &mut sink);
            ns += began.elapsed().as_nanos() as u64;
        }
        assert!(
            sink.0 == sample.offer.len() as u64,
            "the shard decided {} of {}",
            sink.0,
            sample.offer.len()
        );
        ns as f64 / sample.offer.len() as f64
    };
    let each: Vec<f64> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().expect("a shard does not panic")).collect()
    });
    each.iter().sum::<f64>() / each.len() as f64
}
