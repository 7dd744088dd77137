//! The suite every engine must pass: stories with their expected verdicts, and random programs beside [`Reference`].
//!
//! [`run`] tells every story to a fresh engine. [`differential`] takes any bytes as a program of operations over a small family of
//! transactions, runs it on an engine and on the reference, and compares every verdict, and the whole state at the end; fuzzing
//! and property tests feed it. A difference is a panic that says which operation it was.

use crate::config::ShardConfig;
use crate::engine::Shards;
use crate::reference::Reference;
use crate::state_hash::StateHash;
use crate::store::*;
use crate::verdict::Verdict;
use consensus::hash::TxId;
use consensus::params::{ChainParams, Network};
use consensus::tx::{OutPoint, Tx, TxIn, TxOut};
use dataplane::msg::Context;
use dataplane::partition::Partition;
use std::collections::{BTreeMap, BTreeSet};

/// Chain parameters an engine under test is made with.
pub fn params() -> ChainParams {
    ChainParams::of(Network::Regtest)
}

/// Shards with small bounds, for tests of the whole engine.
pub fn small_shards(shards: u16) -> Shards {
    let partition = Partition::new([9; 16], shards, 1);
    let config = ShardConfig {
        transactions_max: 4096,
        slab_bytes: 32 << 20,
        announced_max: 64,
        watched_max: 64,
        waiters_max: 256,
        ..ShardConfig::small(0, partition, (3, 4), params())
    };
    Shards::new(&config, true)
}

/// Height of the newest block when a test begins.
const TIP_HEIGHT: u32 = 500;

/// The context of the pool on top of a height.
fn pool(tip_height: u32, rule_set: u32) -> Context {
    Context { block: 0, height: tip_height + 1, median_time_past: 1_600_000_000, rule_set }
}

/// The context of a block on top of a height.
fn block(number: u32, tip_height: u32) -> Context {
    Context { block: number, ..pool(tip_height, 7) }
}

/// A transaction of the family.
#[derive(Clone, Debug)]
struct Made {
    txid: TxId,
    inputs: Vec<OutPoint>,
    raw: Vec<u8>,
    outputs: Vec<TxOut>,
}

impl Made {
    fn new(inputs: &[OutPoint], outputs: Vec<TxOut>, salt: u32) -> Self {
        let one = |&prev: &OutPoint| TxIn {
            prev,
            unlocking_script: vec![0x51],
            sequence: u32::MAX,
            coin: None,
        };
        let inputs_of = inputs.iter().map(one).collect();
        let tx = Tx { version: 1, inputs: inputs_of, outputs, lock_time: salt };
        Self { txid: tx.txid(), inputs: inputs.to_vec(), raw: tx.to_bytes(), outputs: tx.outputs }
    }

    fn coin(&self, vout: u32) -> OutPoint {
        OutPoint { txid: self.txid, vout }
    }

    fn spending(&self) -> Spending<'_> {
        Spending { txid: self.txid, inputs: &self.inputs, raw: &self.raw }
    }
}

/// One script of each form that a record stores.
fn script(n: usize) -> Vec<u8> {
    let around = |front: &[u8], n: usize, back: &[u8]| [front, &vec![n as u8; n], back].concat();
    match n % 8 {
        0 | 1 => around(&[0x76, 0xa9, 0x14], 20, &[0x88, 0xac]),
        2 => around(&[0xa9, 0x14], 20, &[0x87]),
        3 => around(&[0x21], 33, &[0xac]),
        4 => around(&[0x41], 65, &[0xac]),
        5 => around(&[0x04], 4, &[0x75, 0x51]),
        6 => vec![0x51; 700],
        _ => vec![0x52; 300],
    }
}

fn outputs(count: usize, salt: usize) -> Vec<TxOut> {
    (0..count)
        .map(|i| TxOut {
            value_sat: (1000 * salt + i + 1) as i64,
            locking_script: script(salt + i),
        })
        .collect()
}

fn one<T>(answers: &mut Vec<T>) -> T {
    assert_eq!(answers.len(), 1, "one item, one answer");
    answers.pop().expect("one")
}

/// The engine at hand, asked one item at a time.
struct Desk<'a> {
    store: &'a mut dyn UtxoStore,
    out: Vec<Verdict>,
}

impl<'a> Desk<'a> {
    fn new(store: &'a mut dyn UtxoStore) -> Self {
        Self { store, out: Vec::new() }
    }

    fn create(&mut self, tx: &Made, height: u32, coinbase: bool) -> Verdict {
        let coins: Vec<(u32, u64, &[u8])> = (0..)
            .zip(&tx.outputs)
            .map(|(vout, o)| (vout, o.value_sat as u64, &o.locking_script[..]))
            .collect();
        let mined = MinedTx { txid: tx.txid, height, coinbase, coins: &coins };
        self.store.create_many(&[mined], &mut self.out);
        one(&mut self.out)
    }

    fn commit(&mut self, ctx: &Context, tx: &Made) -> Verdict {
        self.store.commit_many(ctx, &[tx.spending()], &mut self.out);
        one(&mut self.out)
    }

    fn settle(&mut self, ctx: &Context, tx: &Made) -> Verdict {
        self.store.settle_many(ctx, &[tx.spending()], &mut self.out);
        one(&mut self.out)
    }

    fn reserve(&mut self, ctx: &Context, tx: &Made) -> Vec<Verdict> {
        let wanted: Vec<_> = (0..)
            .zip(&tx.inputs)
            .map(|(vin, &outpoint)| Wanted { by: tx.txid, vin, outpoint, expect: None })
            .collect();
        self.store.reserve_many(ctx, &wanted, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn release(&mut self, tx: &Made) {
        let held: Vec<_> = tx.inputs.iter().map(|&coin| (tx.txid, coin)).collect();
        self.store.release_many(&held, &mut self.out);
        assert!(self.out.drain(..).all(|v| v == Verdict::Done));
    }

    fn resolve(
        &mut self,
        ctx: &Context,
        coin: OutPoint,
    ) -> Result<(u64, u32, bool, Vec<u8>), Verdict> {
        let mut answer = Vec::new();
        self.store.resolve_many(ctx, &[coin], &mut |place, found| {
            assert_eq!(place, 0);
            answer.push(
                found.map(|c| (c.value_sat, c.height, c.coinbase, c.locking_script.to_vec())),
            );
        });
        one(&mut answer)
    }

    fn freeze(&mut self, coin: OutPoint, frozen: bool) -> Verdict {
        self.store.freeze_many(&[coin], frozen, &mut self.out);
        one(&mut self.out)
    }

    fn lock(&mut self, coin: OutPoint, locked: bool) -> Verdict {
        self.store.lock_many(&[coin], locked, &mut self.out);
        one(&mut self.out)
    }

    fn reassign(&mut self, order: Reassigned<'_>) -> Verdict {
        self.store.reassign_many(&[order], &mut self.out);
        one(&mut self.out)
    }

    fn preserve(&mut self, txid: TxId, until_height: u32) -> Verdict {
        self.store.preserve_many(&[txid], until_height, &mut self.out);
        one(&mut self.out)
    }

    fn unspend(&mut self, coin: OutPoint, by: TxId) -> Verdict {
        self.store.unspend_many(&[(coin, by)], &mut self.out);
        one(&mut self.out)
    }

    fn known(&mut self, ctx: &Context, tx: &Made) -> Option<Known> {
        let mut out = Vec::new();
        self.store.known_many(ctx, &[(tx.txid, &tx.inputs)], &mut out);
        one(&mut out)
    }

    fn evict(&mut self, txid: &TxId) -> Verdict {
        for _ in 0..100_000 {
            if let Evicting::Ended(verdict) = self.store.evict_step(txid) {
                return verdict;
            }
        }
        panic!("{}: the eviction of {txid} does not end", self.store.name());
    }

    fn prune(&mut self, height: u32) {
        while self.store.prune_step(height) {}
    }

    fn coins(&mut self) -> BTreeMap<OutPoint, (u64, u32, bool, Vec<u8>)> {
        let mut all = BTreeMap::new();
        self.store.for_each_coin(&mut |outpoint, c| {
            let coin = (c.value_sat, c.height, c.coinbase, c.locking_script.to_vec());
            assert!(all.insert(*outpoint, coin).is_none(), "{outpoint} is told twice");
        });
        all
    }
}

/// Names of the stories, and the stories.
type Story = (&'static str, fn(&mut Desk<'_>));

/// Every story.
const STORIES: [Story; 10] = [
    ("a coin is resolved, reserved, settled, and then spent", spend_in_three_parts),
    ("a commit takes all or nothing", all_or_nothing),
    ("scripts of every form come back byte for byte", forms),
    ("frozen, locked and reassigned coins are refused in their own words", orders),
    ("a coinbase is spent when it is mature and not before", maturity),
    ("a block sees the chain and not the pool", contexts),
    ("an evicted transaction takes its descendants with it and gives its coins back", eviction),
    ("pruning drops what is spent out on the chain and keeps parents of the unmined", pruning),
    ("unmined transactions come parents first", topological),
    ("a transaction of very many outputs is one among others", many_outputs),
];

/// Tells every story to a fresh engine of `make`; the number of stories.
///
/// # Panics
/// Where an engine answers anything else than the story says.
pub fn run(mut make: impl FnMut() -> Box<dyn UtxoStore>) -> usize {
    for (name, story) in STORIES {
        let mut store = make();
        let engine = store.name();
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            story(&mut Desk::new(&mut *store));
        }));
        assert!(told.is_ok(), "{engine} does not conform: {name}");
    }
    STORIES.len()
}

fn base(n: usize, outs: usize) -> Made {
    Made::new(&[], outputs(outs, n), n as u32)
}

fn spend_in_three_parts(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    let a = base(1, 2);
    let b = Made::new(&[a.coin(0)], outputs(1, 9), 1);
    let rival = Made::new(&[a.coin(0)], outputs(1, 9), 2);
    assert_eq!(desk.resolve(&ctx, a.coin(0)), Err(Verdict::TxMissing));
    assert_eq!(desk.create(&a, 10, false), Verdict::Done);
    assert_eq!(desk.create(&a, 10, false), Verdict::Exists);
    assert_eq!(desk.resolve(&ctx, a.coin(2)), Err(Verdict::CoinMissing));
    assert_eq!(desk.resolve(&ctx, a.coin(0)), Ok((1001, 10, false, script(1))));
    assert_eq!(desk.settle(&ctx, &b), Verdict::NotReserved);
    let expect = |value, script| Wanted {
        by: b.txid,
        vin: 0,
        outpoint: a.coin(0),
        expect: Some((value, script)),
    };
    let right = script(1);
    desk.store.reserve_many(&ctx, &[expect(1002, &right)], &mut desk.out);
    assert_eq!(one(&mut desk.out), Verdict::Differs);
    desk.store.reserve_many(&ctx, &[expect(1001, &[0x51])], &mut desk.out);
    assert_eq!(one(&mut desk.out), Verdict::Differs);
    desk.store.reserve_many(&ctx, &[expect(1001, &right)], &mut desk.out);
    assert_eq!(one(&mut desk.out), Verdict::Reserved);
    assert_eq!(desk.reserve(&ctx, &b), [Verdict::Reserved], "twice is once");
    assert_eq!(desk.reserve(&ctx, &rival), [Verdict::Busy { by: b.txid }]);
    assert_eq!(desk.freeze(a.coin(0), true), Verdict::Busy { by: b.txid });
    assert_eq!(desk.store.totals().reserved, 1);
    assert!(desk.settle(&ctx, &b).is_good());
    assert_eq!(desk.settle(&ctx, &b), Verdict::Exists);
    assert_eq!(desk.commit(&ctx, &b), Verdict::Exists);
    assert_eq!(desk.reserve(&ctx, &rival), [Verdict::Spent { by: b.txid }]);
    assert_eq!(desk.resolve(&ctx, a.coin(0)), Err(Verdict::Spent { by: b.txid }));
    assert_eq!(desk.unspend(a.coin(0), rival.txid), Verdict::InvalidSpend);
    assert_eq!(desk.unspend(rival.coin(0), rival.txid), Verdict::TxMissing);
    let totals = desk.store.totals();
    assert_eq!((totals.utxos, totals.transactions, totals.reserved), (2, 2, 0));
}

fn all_or_nothing(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    let (a, b) = (base(1, 2), base(2, 2));
    desk.create(&a, 10, false);
    desk.create(&b, 10, false);
    let before = desk.coins();
    let missing = OutPoint { txid: TxId([3; 32]), vout: 0 };
    let bad = Made::new(&[a.coin(0), b.coin(1), missing], outputs(2, 5), 1);
    assert_eq!(desk.commit(&ctx, &bad), Verdict::TxMissing);
    let bad = Made::new(&[a.coin(0), b.coin(7)], outputs(2, 5), 1);
    assert_eq!(desk.commit(&ctx, &bad), Verdict::CoinMissing);
    let large = TxOut { value_sat: 1 << 51, locking_script: vec![] };
    let bad = Made::new(&[a.coin(0)], vec![large], 1);
    assert_eq!(desk.commit(&ctx, &bad), Verdict::InvalidSize);
    assert_eq!(desk.coins(), before, "nothing is left of them");
    assert_eq!(desk.store.totals().reserved, 0);
    // In one batch, in order: the child after its parent, the rival after the child.
    let parent = Made::new(&[a.coin(0), b.coin(1)], outputs(2, 5), 2);
    let child = Made::new(&[parent.coin(1)], outputs(1, 6), 3);
    let rival = Made::new(&[parent.coin(1)], outputs(1, 6), 4);
    let batch = [parent.spending(), child.spending(), rival.spending()];
    desk.store.commit_many(&ctx, &batch, &mut desk.out);
    let out = std::mem::take(&mut desk.out);
    assert!(out[0].is_good() && out[1].is_good(), "{out:?}");
    assert_eq!(out[2], Verdict::Spent { by: child.txid });
    let left: BTreeSet<_> = desk.coins().into_keys().collect();
    assert_eq!(left, [a.coin(1), b.coin(0), parent.coin(0), child.coin(0)].into());
}

fn forms(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    let a = base(0, 8);
    let sizes = [0, 1, 255, 256, 512, 513, 70_000];
    let odd = sizes.map(|len| TxOut { value_sat: 5, locking_script: vec![0x53; len] });
    let b = Made::new(&[a.coin(0)], outputs(8, 0), 1);
    let c = Made::new(&[a.coin(1)], odd.to_vec(), 2);
    assert_eq!(desk.create(&a, 10, true), Verdict::Done);
    assert!(desk.commit(&ctx, &b).is_good());
    // Before Genesis a script of more than 10,000 bytes is no coin.
    let era = Context { height: params().genesis_height.max(TIP_HEIGHT) + 1, ..ctx };
    assert!(desk.commit(&era, &c).is_good());
    let late = pool(TIP_HEIGHT + 1, 7);
    for (tx, from, height, coinbase) in
        [(&a, 2, 10, true), (&b, 0, 502, false), (&c, 0, 502, false)]
    {
        for (vout, output) in (0..).zip(&tx.outputs).skip(from) {
            let coin = (output.value_sat as u64, height, coinbase, output.locking_script.clone());
            assert_eq!(desk.resolve(&late, tx.coin(vout)), Ok(coin), "output {vout}");
        }
    }
    // What can never be spent is no coin.
    let data = TxOut { value_sat: 0, locking_script: vec![0x00, 0x6a, 0x01, 0x02] };
    let d = Made::new(&[a.coin(2)], vec![data], 3);
    assert!(desk.commit(&era, &d).is_good());
    assert_eq!(desk.resolve(&era, d.coin(0)), Err(Verdict::CoinMissing));
}

fn orders(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    let a = base(1, 3);
    desk.create(&a, 10, false);
    let (coin, spend) = (a.coin(0), Made::new(&[a.coin(0)], outputs(1, 5), 1));
    assert_eq!(desk.freeze(OutPoint { txid: spend.txid, vout: 0 }, true), Verdict::TxMissing);
    assert_eq!(desk.freeze(a.coin(3), true), Verdict::CoinMissing);
    assert_eq!(desk.freeze(coin, false), Verdict::NotFrozen);
    assert_eq!(desk.freeze(coin, true), Verdict::Done);
    assert_eq!(desk.freeze(coin, true), Verdict::AlreadyFrozen);
    assert_eq!(desk.commit(&ctx, &spend), Verdict::Frozen);
    assert_eq!(desk.resolve(&ctx, coin), Err(Verdict::Frozen));
    assert_eq!(desk.freeze(coin, false), Verdict::Done);
    assert_eq!(desk.lock(coin, true), Verdict::Done);
    assert_eq!(desk.commit(&ctx, &spend), Verdict::Locked);
    assert_eq!(desk.lock(coin, false), Verdict::Done);
    let (old, new) = (script(1), script(3));
    let order = Reassigned { outpoint: coin, old: &old, new: &new, from_height: TIP_HEIGHT + 1000 };
    assert_eq!(desk.reassign(order), Verdict::NotFrozen);
    assert_eq!(desk.freeze(coin, true), Verdict::Done);
    assert_eq!(desk.reassign(Reassigned { old: &new, ..order }), Verdict::Differs);
    assert_eq!(desk.reassign(order), Verdict::Done);
    let until_height = TIP_HEIGHT + 1000;
    assert_eq!(desk.commit(&ctx, &spend), Verdict::FrozenUntil { until_height });
    let later = pool(until_height, 7);
    assert_eq!(desk.resolve(&later, coin), Ok((1001, 10, false, new.clone())));
    assert!(desk.commit(&later, &spend).is_good());
    assert_eq!(desk.freeze(coin, true), Verdict::Spent { by: spend.txid });
    assert_eq!(desk.lock(coin, true), Verdict::Spent { by: spend.txid });
    // Undone, it is the reassigned coin again.
    assert_eq!(desk.unspend(coin, spend.txid), Verdict::Done);
    assert_eq!(desk.resolve(&later, coin), Ok((1001, 10, false, new)));
}

fn maturity(desk: &mut Desk<'_>) {
    let a = base(1, 1);
    desk.create(&a, TIP_HEIGHT - 90, true);
    let spend = Made::new(&[a.coin(0)], outputs(1, 5), 1);
    let until_height = TIP_HEIGHT + 10;
    assert_eq!(desk.commit(&pool(TIP_HEIGHT + 8, 7), &spend), Verdict::Immature { until_height });
    assert!(desk.commit(&pool(TIP_HEIGHT + 9, 7), &spend).is_good());
}

/// Decides in the pool and says where.
fn decide(desk: &mut Desk<'_>, ctx: &Context, tx: &Made) -> Run {
    match desk.commit(ctx, tx) {
        Verdict::Decided { lane, seq } => Run { lane, from: seq, to: seq },
        other => panic!("{other:?}"),
    }
}

/// From single places of several orders, one run an order: the suite mines everything decided so far.
fn runs(places: &[Run]) -> Vec<Run> {
    let mut lanes: BTreeMap<u16, Run> = BTreeMap::new();
    for &place in places {
        let run = lanes.entry(place.lane).or_insert(place);
        run.from = run.from.min(place.from);
        run.to = run.to.max(place.to);
    }
    lanes.into_values().collect()
}

fn contexts(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    let a = base(1, 3);
    desk.create(&a, 10, false);
    let parent = Made::new(&[a.coin(0)], outputs(2, 5), 1);
    let child = Made::new(&[parent.coin(0)], outputs(1, 6), 2);
    let rival = Made::new(&[a.coin(0)], outputs(1, 7), 3);
    let place = decide(desk, &ctx, &parent);
    let b7 = block(7, TIP_HEIGHT);
    // The pool's parent is not in block 7 yet, and its spend does not count there.
    assert_eq!(desk.resolve(&b7, parent.coin(0)), Err(Verdict::CoinMissing));
    assert!(desk.resolve(&b7, a.coin(0)).is_ok());
    assert_eq!(desk.commit(&b7, &child), Verdict::CoinMissing);
    assert!(desk.commit(&b7, &parent).is_good(), "known, and it stands in block 7 now");
    assert!(desk.commit(&b7, &child).is_good(), "its parent stands earlier in the block");
    assert_eq!(desk.resolve(&b7, a.coin(0)), Err(Verdict::Spent { by: parent.txid }));
    let known = |mined_height| Some(Known { mined_height, parents_here: true, rule_set: 7 });
    assert_eq!(desk.known(&b7, &child), known(None));
    assert_eq!(desk.store.set_mined(7, TIP_HEIGHT + 1, &[place]), Verdict::Done);
    assert_eq!(desk.store.set_mined(7, TIP_HEIGHT + 2, &[]), Verdict::Contradicts);
    assert_eq!(desk.known(&ctx, &child), known(Some(TIP_HEIGHT + 1)));
    let b8 = block(8, TIP_HEIGHT + 1);
    assert_eq!(desk.commit(&b8, &rival), Verdict::Spent { by: parent.txid });
    assert_eq!(desk.commit(&b8, &parent), Verdict::Exists);
    // Disconnected, the other branch takes the coin from under the pool.
    assert_eq!(desk.store.unset_mined(8), Verdict::Contradicts);
    assert_eq!(desk.store.unset_mined(7), Verdict::Done);
    assert_eq!(desk.known(&ctx, &child), known(None));
    let b9 = block(9, TIP_HEIGHT);
    assert!(desk.commit(&b9, &rival).is_good());
    assert_eq!(desk.resolve(&ctx, a.coin(0)), Err(Verdict::Spent { by: rival.txid }));
    assert_eq!(desk.evict(&parent.txid), Verdict::Done);
    assert_eq!(desk.known(&ctx, &child), None);
    assert_eq!(desk.store.set_mined(9, TIP_HEIGHT + 1, &[]), Verdict::Done);
    assert_eq!(desk.evict(&rival.txid), Verdict::Mined);
    let left: BTreeSet<_> = desk.coins().into_keys().collect();
    assert_eq!(left, [a.coin(1), a.coin(2), rival.coin(0)].into());
}

fn eviction(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    let a = base(1, 2);
    desk.create(&a, 10, false);
    let before = desk.coins();
    let mut last = Made::new(&[a.coin(0)], outputs(3, 5), 1);
    let first = last.clone();
    decide(desk, &ctx, &last);
    for n in 0..40 {
        let next = Made::new(&[last.coin(0), last.coin(1)], outputs(3, n), n as u32);
        decide(desk, &ctx, &next);
        last = next;
    }
    let holder = Made::new(&[last.coin(2)], outputs(1, 3), 99);
    assert_eq!(desk.reserve(&ctx, &holder), [Verdict::Reserved]);
    assert_eq!(desk.evict(&first.txid), Verdict::Busy { by: holder.txid });
    assert_eq!(desk.resolve(&ctx, first.coin(2)), Err(Verdict::Conflicting));
    assert_eq!(desk.freeze(last.coin(2), true), Verdict::Conflicting);
    desk.release(&holder);
    assert_eq!(desk.evict(&first.txid), Verdict::Done);
    assert_eq!(desk.evict(&first.txid), Verdict::TxMissing);
    assert_eq!(desk.evict(&a.txid), Verdict::Mined);
    assert_eq!(desk.coins(), before);
    assert_eq!(desk.store.totals().transactions, 1);
    decide(desk, &ctx, &first);
}

fn pruning(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    let a = base(1, 2);
    desk.create(&a, 10, false);
    let b = Made::new(&[a.coin(0), a.coin(1)], outputs(1, 5), 1);
    let c = Made::new(&[b.coin(0)], outputs(1, 6), 2);
    let places = [decide(desk, &ctx, &b)];
    assert_eq!(desk.store.set_mined(7, TIP_HEIGHT + 1, &runs(&places)), Verdict::Done);
    let pool2 = pool(TIP_HEIGHT + 1, 7);
    let unmined = decide(desk, &pool2, &c);
    desk.prune(TIP_HEIGHT);
    assert!(desk.known(&ctx, &a).is_some(), "its spender is mined above this height");
    assert_eq!(desk.preserve(a.txid, TIP_HEIGHT + 40), Verdict::Done);
    assert_eq!(desk.preserve(a.txid, 1 << 24), Verdict::Contradicts);
    assert_eq!(desk.preserve(base(9, 1).txid, 7), Verdict::TxMissing);
    desk.prune(TIP_HEIGHT + 39);
    assert!(desk.known(&ctx, &a).is_some(), "kept by order");
    assert_eq!(desk.preserve(a.txid, 0), Verdict::Done);
    desk.prune(TIP_HEIGHT + 1);
    assert!(desk.known(&ctx, &a).is_none(), "spent out and buried");
    assert_eq!(desk.resolve(&ctx, a.coin(0)), Err(Verdict::TxMissing));
    for height in [TIP_HEIGHT + 1, TIP_HEIGHT + 5000] {
        desk.prune(height);
        assert!(desk.known(&ctx, &b).is_some(), "a parent of the unmined stays");
    }
    assert_eq!(desk.evict(&c.txid), Verdict::Done);
    assert!(desk.resolve(&pool2, b.coin(0)).is_ok(), "and can be spent again");
    let c = Made::new(&[b.coin(0)], outputs(1, 6), 3);
    let again = decide(desk, &pool2, &c);
    let run = runs(&[unmined, again]);
    assert_eq!(desk.store.set_mined(8, TIP_HEIGHT + 2, &run), Verdict::Done);
    desk.prune(TIP_HEIGHT + 2);
    assert!(desk.known(&ctx, &b).is_none());
    assert!(desk.known(&ctx, &c).is_some());
    assert_eq!(desk.store.totals().transactions, 1);
}

fn assert_topological(order: &[TxId], txs: &[Made]) {
    let place: BTreeMap<_, _> = order.iter().enumerate().map(|(i, txid)| (*txid, i)).collect();
    assert_eq!(place.len(), order.len(), "one place each");
    for tx in txs {
        let Some(own) = place.get(&tx.txid) else { continue };
        for parent in tx.inputs.iter().filter_map(|coin| place.get(&coin.txid)) {
            assert!(parent < own, "{} comes before its parent", tx.txid);
        }
    }
}

fn topological(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    let a = base(1, 30);
    desk.create(&a, 10, false);
    let mut txs: Vec<Made> = Vec::new();
    for n in 0..60_u32 {
        let mut inputs = Vec::new();
        if n < 30 {
            inputs.push(a.coin(n));
        }
        if n > 0 {
            inputs.push(txs[n as usize - 1].coin(n % 2));
        }
        let tx = Made::new(&inputs, outputs(2, n as usize), n);
        decide(desk, &ctx, &tx);
        txs.push(tx);
    }
    let order = desk.store.unmined();
    assert_eq!(order.len(), 60);
    assert_topological(&order, &txs);
}

fn many_outputs(desk: &mut Desk<'_>) {
    let ctx = pool(TIP_HEIGHT, 7);
    const COUNT: usize = 20_000;
    let a = base(1, 1);
    desk.create(&a, 10, false);
    let before = desk.store.totals();
    let large = Made::new(&[a.coin(0)], outputs(COUNT, 2), 1);
    decide(desk, &ctx, &large);
    assert_eq!(desk.store.totals().utxos, COUNT as u64);
    for vout in [0, 1, 255, 256, 257, 9_999, COUNT as u32 - 1] {
        let output = &large.outputs[vout as usize];
        let coin = (output.value_sat as u64, 501, false, output.locking_script.clone());
        assert_eq!(desk.resolve(&ctx, large.coin(vout)), Ok(coin));
    }
    assert_eq!(desk.resolve(&ctx, large.coin(COUNT as u32)), Err(Verdict::CoinMissing));
    let inputs: Vec<_> = (0..COUNT as u32).step_by(2).map(|vout| large.coin(vout)).collect();
    let spend = Made::new(&inputs, outputs(1, 3), 2);
    decide(desk, &ctx, &spend);
    assert_eq!(desk.store.totals().utxos, COUNT as u64 / 2 + 1);
    assert_eq!(desk.evict(&large.txid), Verdict::Done);
    let after = desk.store.totals();
    assert_eq!((after.utxos, after.transactions), (before.utxos, before.transactions));
    // As a seed file would bring it.
    let seed = base(4, COUNT);
    assert_eq!(desk.create(&seed, 10, false), Verdict::Done);
    let spend = Made::new(&[seed.coin(777), seed.coin(19_999)], outputs(1, 3), 2);
    decide(desk, &ctx, &spend);
    assert_eq!(desk.store.totals().utxos, before.utxos + COUNT as u64 - 1);
}

/// The family of transactions a program acts on.
struct Family {
    bases: Vec<Made>,
    txs: Vec<Made>,
    coins: Vec<OutPoint>,
}

impl Family {
    const BASES: usize = 4;
    const TXS: usize = 12;

    fn new(seed: u8) -> Self {
        let mut state = u64::from(seed) + 1;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        let bases: Vec<_> = (0..Self::BASES).map(|n| base(n + 1, 3)).collect();
        let mut coins: Vec<_> = bases.iter().flat_map(|b| (0..3).map(|v| b.coin(v))).collect();
        let mut txs: Vec<Made> = Vec::new();
        for n in 0..Self::TXS {
            let inputs: BTreeSet<_> = (0..=random(2)).map(|_| coins[random(coins.len())]).collect();
            let inputs: Vec<_> = inputs.into_iter().collect();
            let tx = Made::new(&inputs, outputs(1 + random(3), 10 + n), n as u32);
            coins.extend((0..tx.outputs.len() as u32).map(|vout| tx.coin(vout)));
            txs.push(tx);
        }
        Self { bases, txs, coins }
    }
}

/// Where a program stands: what both engines were told of the chain.
#[derive(Clone, Debug, Default)]
struct Chain {
    tip_height: u32,
    next_block: u32,
    blocks: Vec<u32>,
    /// Of each engine: newest decision of each order, and how much of it is mined.
    decided: [BTreeMap<u16, u64>; 2],
    mined: [BTreeMap<u16, u64>; 2],
    /// What was mined before each block, to go back to.
    before: Vec<[BTreeMap<u16, u64>; 2]>,
}

/// Runs a program on an engine and on the reference; the number of operations.
///
/// # Panics
/// Where they differ.
pub fn differential(program: &[u8], engine: &mut dyn UtxoStore) -> usize {
    let mut reference = Reference::new(params());
    let (seed, ops) = program.split_first().unwrap_or((&0, &[]));
    let family = Family::new(*seed);
    let mut chain = Chain { tip_height: TIP_HEIGHT, next_block: 1, ..Chain::default() };
    for (n, op) in ops.chunks_exact(3).enumerate() {
        let [op, a, b] = [op[0], op[1], op[2]];
        let mut answers = [String::new(), String::new()];
        let mut stop = [false; 2];
        for (side, store) in [(0, &mut *engine), (1, &mut reference as &mut dyn UtxoStore)] {
            let mut desk = Desk::new(store);
            let answer = step(&mut desk, &family, &mut chain, side, [op % 17, a, b]);
            stop[side] = n % 16 == 15;
            answers[side] = answer;
        }
        let [got, want] = &answers;
        assert_eq!(got, want, "operation {n} ({} {a} {b}) of family {seed}", op % 17);
        advance(&mut chain, [op % 17, a, b], got == "Done");
        if stop[0] {
            compare(engine, &mut reference, n);
        }
    }
    compare(engine, &mut reference, ops.len() / 3);
    ops.len() / 3
}

/// A program that is led on one engine, and can be stopped, copied and gone on with.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct Led {
    family: std::rc::Rc<Family>,
    chain: Chain,
}

#[cfg(test)]
impl Led {
    pub fn new(seed: u8) -> Self {
        let chain = Chain { tip_height: TIP_HEIGHT, next_block: 1, ..Chain::default() };
        Self { family: std::rc::Rc::new(Family::new(seed)), chain }
    }

    /// One operation of the pool, or of the chain.
    pub fn step(&mut self, store: &mut dyn UtxoStore, op: [u8; 3]) -> String {
        let mut desk = Desk::new(store);
        let answer = step(&mut desk, &self.family, &mut self.chain, 0, op);
        advance(&mut self.chain, op, answer == "Done");
        answer
    }

    /// Publications are numbered anew: how many each lane has, and how many of those are in blocks.
    pub fn renumber(&mut self, decided: BTreeMap<u16, u64>, mined: BTreeMap<u16, u64>) {
        self.chain.decided[0] = decided;
        self.chain.mined[0] = mined;
    }

    /// Blocks that are connected.
    pub fn blocks(&self) -> usize {
        self.chain.blocks.len()
    }

    /// Whether another one stands elsewhere.
    pub fn answers_differ(&self, other: &Self) -> bool {
        format!("{:?}", self.chain) != format!("{:?}", other.chain)
    }

    /// Everything that can be asked, in words.
    pub fn digest(&self, store: &mut dyn UtxoStore) -> String {
        let ctx = pool(self.chain.tip_height, 5);
        let mut desk = Desk::new(store);
        let coins = desk.coins();
        let found = self.family.coins.iter().map(|&coin| format!("{:?}", desk.resolve(&ctx, coin)));
        let found: Vec<_> = found.collect();
        let known = self.family.txs.iter().map(|tx| format!("{:?}", desk.known(&ctx, tx)));
        let known: Vec<_> = known.collect();
        let unmined: BTreeSet<_> = store.unmined().into_iter().collect();
        format!("{coins:?}\n{found:?}\n{known:?}\n{unmined:?}")
    }
}

fn context(chain: &Chain, b: u8) -> Context {
    match b % 4 {
        0 => block(chain.next_block, chain.tip_height),
        1 => pool(chain.tip_height, 5),
        _ => pool(chain.tip_height, 7),
    }
}

/// One operation on one engine, and its answer in words both engines must find.
fn step(
    desk: &mut Desk<'_>,
    family: &Family,
    chain: &mut Chain,
    side: usize,
    op: [u8; 3],
) -> String {
    let [op, a, b] = op;
    let ctx = context(chain, b);
    let tx = &family.txs[usize::from(a) % Family::TXS];
    let other = &family.txs[usize::from(b / 4) % Family::TXS];
    let coin = family.coins[usize::from(a) % family.coins.len()];
    let so_far = chain.decided[side].clone();
    let mut note = |verdict: Verdict| match verdict {
        // Orders are the engine's own.
        Verdict::Decided { lane, seq } => {
            let newest = chain.decided[side].entry(lane).or_default();
            *newest = (*newest).max(seq);
            "Decided".to_owned()
        }
        verdict => format!("{verdict:?}"),
    };
    match op {
        0 => {
            let base = &family.bases[usize::from(a) % Family::BASES];
            note(desk.create(base, TIP_HEIGHT - 99 + u32::from(a) % 3, b % 3 == 0))
        }
        1 | 2 => note(desk.commit(&ctx, tx)),
        3 => format!("{:?}", desk.reserve(&ctx, tx)),
        4 => {
            desk.release(tx);
            String::new()
        }
        5 => note(desk.settle(&ctx, tx)),
        6 => {
            desk.store.commit_many(&ctx, &[tx.spending(), other.spending()], &mut desk.out);
            let out = std::mem::take(&mut desk.out);
            out.into_iter().map(note).collect::<Vec<_>>().join(" ")
        }
        7 => format!("{:?}", desk.resolve(&ctx, coin)),
        8 => note(desk.unspend(coin, other.txid)),
        9 => {
            let mined = &chain.mined[side];
            let runs: Vec<_> = so_far
                .iter()
                .map(|(&lane, &to)| Run {
                    lane,
                    from: mined.get(&lane).copied().unwrap_or(0) + 1,
                    to,
                })
                .filter(|run| run.from <= run.to)
                .collect();
            note(desk.store.set_mined(chain.next_block, chain.tip_height + 1, &runs))
        }
        10 => note(desk.store.unset_mined(chain.blocks.last().copied().unwrap_or(77))),
        11 => format!("{:?}", desk.known(&ctx, tx)),
        12 => note(desk.freeze(coin, b % 2 == 0)),
        13 => note(desk.lock(coin, b % 2 == 0)),
        14 => {
            let old = desk.resolve(&ctx, coin).map_or(script(usize::from(b)), |c| c.3);
            note(desk.freeze(coin, true));
            let new = script(usize::from(b));
            let from_height = chain.tip_height + u32::from(b % 3);
            note(desk.reassign(Reassigned { outpoint: coin, old: &old, new: &new, from_height }))
        }
        15 => note(desk.evict(&tx.txid)),
        _ if a % 4 == 3 => {
            let base = &family.bases[usize::from(a / 4) % Family::BASES];
            let kept = if b < 128 { base.txid } else { tx.txid };
            note(desk.preserve(kept, chain.tip_height + u32::from(b % 4)))
        }
        _ => {
            desk.prune(chain.tip_height - u32::from(b % 2));
            String::new()
        }
    }
}

/// What an operation did to the chain, once for both engines.
fn advance(chain: &mut Chain, [op, ..]: [u8; 3], done: bool) {
    match op {
        9 if done => {
            chain.before.push(chain.mined.clone());
            chain.mined = chain.decided.clone();
            chain.blocks.push(chain.next_block);
            chain.next_block += 1;
            chain.tip_height += 1;
        }
        10 if done => {
            chain.blocks.pop();
            chain.mined = chain.before.pop().expect("one for each block");
            chain.tip_height -= 1;
            chain.next_block += 1;
        }
        _ => {}
    }
}

/// Everything that can be asked of both.
fn compare(engine: &mut dyn UtxoStore, reference: &mut Reference, n: usize) {
    let mut hashes = [[0; 32]; 2];
    let mut coins = [BTreeMap::new(), BTreeMap::new()];
    let mut orders = [Vec::new(), Vec::new()];
    let mut totals = [StoreTotals::default(); 2];
    for (side, store) in [(0, &mut *engine), (1, &mut *reference as &mut dyn UtxoStore)] {
        let mut hash = StateHash::new();
        store.for_each_coin(&mut |outpoint, coin| hash.add(outpoint, coin));
        hashes[side] = hash.finish();
        coins[side] = Desk::new(store).coins();
        orders[side] = store.unmined();
        totals[side] = StoreTotals { full: 0, resident_bytes: 0, ..store.totals() };
    }
    assert_eq!(coins[0], coins[1], "coins after operation {n}");
    assert_eq!(hashes[0], hashes[1], "state hash after operation {n}");
    assert_eq!(totals[0], totals[1], "totals after operation {n}");
    let set = |order: &Vec<TxId>| order.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(set(&orders[0]), set(&orders[1]), "unmined after operation {n}");
}
