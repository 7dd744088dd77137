//! Random trees of blocks in random order, with invalid blocks, headers first, the operator's words, transactions and restarts in
//! between, against a model that computes everything anew from the blocks after every step.

use super::bed::{Bed, Like, MATURITY, Made, block, first_output, genesis, params, spend};
use crate::chain::answers::{BlockOutcome, ChainStatus, HeaderOutcome};
use consensus::block::BlockView;
use consensus::tx::{OutPoint, Tx, TxLayout};
use dataplane::rng::Rng;
use std::collections::{BTreeMap, HashSet};

const SEEDS: u64 = 24;
const BLOCKS: usize = 30;
const STEPS: usize = 160;
const SALT: u64 = 0x7472_6565;

/// Value, height, whether a coinbase made it.
type Coins = BTreeMap<OutPoint, (u64, u32, bool)>;

/// The coins after a chain of blocks; `None` if one of them is invalid. Nothing of the node is used but the parser.
fn coins_of(path: &[&Made]) -> Option<Coins> {
    let mut coins = Coins::new();
    for made in path.iter().filter(|b| b.height > 0) {
        let view = BlockView::parse(&made.raw).expect("a block of the test");
        let (mut txs, mut layout) = (view.txs(), TxLayout::new());
        let mut all: Vec<Tx> = Vec::new();
        while let Ok(Some(tx)) = txs.next_tx(&mut layout) {
            all.push(tx.to_owned_tx());
        }
        let mut fees = 0;
        for (index, tx) in all.iter().enumerate() {
            let out: u64 = tx.outputs.iter().map(|o| o.value_sat as u64).sum();
            if index > 0 {
                let mut sum = 0;
                for input in &tx.inputs {
                    let (value, height, coinbase) = coins.remove(&input.prev)?;
                    if coinbase && made.height - height < MATURITY {
                        return None;
                    }
                    sum += value;
                }
                fees += sum.checked_sub(out)?;
            }
            for (vout, output) in tx.outputs.iter().enumerate() {
                let outpoint = OutPoint { txid: tx.txid(), vout: vout as u32 };
                coins.insert(outpoint, (output.value_sat as u64, made.height, index == 0));
            }
        }
        let paid: u64 = all[0].outputs.iter().map(|o| o.value_sat as u64).sum();
        if paid > params().subsidy_sat(made.height) + fees {
            return None;
        }
    }
    Some(coins)
}

/// A tree of blocks; 0 is genesis, parents stand before children.
struct Forest {
    blocks: Vec<Made>,
    parents: Vec<usize>,
}

impl Forest {
    fn grow(rng: &mut Rng) -> Self {
        let mut forest = Self { blocks: vec![genesis()], parents: vec![0] };
        for salt in 1..=BLOCKS as u64 {
            let last = forest.blocks.len() - 1;
            let parent = if rng.chance(2, 3) { last } else { rng.index(last + 1) };
            let mut like = Like { salt, ..Like::default() };
            if rng.chance(1, 15) {
                like.too_much_sat = 1;
            }
            if rng.chance(1, 3) {
                // Any coinbase of the forest: on this chain or not, mature or not, spent or not.
                let coin = &forest.blocks[rng.index(last + 1)];
                if coin.height > 0 {
                    let value = params().subsidy_sat(coin.height);
                    like.txs.push(spend(first_output(coin.coinbase), value, 0));
                }
            }
            let made = block(&forest.blocks[parent], &like);
            forest.blocks.push(made);
            forest.parents.push(parent);
        }
        forest
    }

    fn path(&self, mut at: usize) -> Vec<usize> {
        let mut path = vec![at];
        while at > 0 {
            at = self.parents[at];
            path.push(at);
        }
        path.reverse();
        path
    }

    fn coins(&self, at: usize) -> Option<Coins> {
        let path: Vec<&Made> = self.path(at).into_iter().map(|i| &self.blocks[i]).collect();
        coins_of(&path)
    }
}

/// What somebody knows who has only seen the answers.
struct Model {
    forest: Forest,
    headers: HashSet<usize>,
    stored: Vec<usize>,
    /// Blocks whose whole chain is here, in the order in which that became so.
    whole: Vec<usize>,
    operator_bad: HashSet<usize>,
}

impl Model {
    fn store(&mut self, block: usize) {
        self.stored.push(block);
        let mut ready = std::collections::VecDeque::from([block]);
        while let Some(next) = ready.pop_front() {
            if !self.whole.contains(&self.forest.parents[next]) {
                continue;
            }
            self.whole.push(next);
            let children = self.stored.iter().filter(|c| self.forest.parents[**c] == next);
            ready.extend(children.filter(|c| !self.whole.contains(c)).copied());
        }
    }

    fn is_barred(&self, block: usize) -> bool {
        self.forest.path(block).iter().any(|b| self.operator_bad.contains(b))
    }

    fn is_good(&self, block: usize) -> bool {
        !self.is_barred(block) && self.forest.coins(block).is_some()
    }

    fn best(&self) -> usize {
        let mut best = 0;
        for &block in &self.whole {
            let higher = self.forest.blocks[block].height > self.forest.blocks[best].height;
            if higher && self.is_good(block) {
                best = block;
            }
        }
        best
    }

    fn reconsider(&mut self, block: usize) {
        let above = self.forest.path(block);
        let forest = &self.forest;
        self.operator_bad.retain(|b| !above.contains(b) && !forest.path(*b).contains(&block));
    }
}

fn check(bed: &mut Bed, model: &Model, seed: u64, step: usize) {
    let at = format!("seed {seed}, step {step}");
    let best = model.best();
    assert_eq!(bed.tip(), model.forest.blocks[best].hash, "{at}: the tip is block {best}");
    for (height, index) in model.forest.path(best).into_iter().enumerate() {
        let hash = bed.chain.hash_at(height as u32);
        assert_eq!(hash, Some(model.forest.blocks[index].hash), "{at}: height {height}");
    }
    let coins: Coins = bed
        .engine()
        .coins
        .iter()
        .map(|(outpoint, c)| (*outpoint, (c.value_sat, c.height, c.coinbase)))
        .collect();
    assert_eq!(Some(coins), model.forest.coins(best), "{at}: coins");
    let tips = bed.chain.tips();
    let active: Vec<_> = tips.iter().filter(|t| t.status == ChainStatus::Active).collect();
    assert_eq!((active.len(), active[0].hash), (1, bed.tip()), "{at}: tips");
    for &index in model.stored.iter().chain([&0]) {
        let status = bed.chain.header(&model.forest.blocks[index].hash).expect("known").status;
        let is_good = model.is_good(index);
        let fits = match status {
            ChainStatus::Active | ChainStatus::ValidFork => is_good,
            ChainStatus::Invalid => !is_good,
            ChainStatus::HeadersOnly => !model.whole.contains(&index),
            // Nobody has tried to connect it.
            ChainStatus::ValidHeaders => !model.is_barred(index),
        };
        assert!(fits, "{at}: block {index} is {status:?}");
    }
    bed.check_pool();
}

fn deliver(bed: &mut Bed, model: &mut Model, index: usize) {
    let parent = model.forest.parents[index];
    let outcome = bed.submit(&model.forest.blocks[index]);
    let known = model.stored.contains(&index);
    match &outcome {
        BlockOutcome::Connected | BlockOutcome::Stored => {
            assert!(!known);
            model.headers.insert(index);
            model.store(index);
        }
        BlockOutcome::Duplicate { .. } | BlockOutcome::DuplicateInconclusive => {
            assert!(model.headers.contains(&index));
            let is_bad = outcome == BlockOutcome::Duplicate { valid: false };
            assert!(known || is_bad, "{outcome:?}");
            assert!(!is_bad || !model.is_good(index));
        }
        BlockOutcome::Rejected { reason, .. } => match reason.as_str() {
            "prev-blk-not-found" => assert!(!model.headers.contains(&parent)),
            "bad-prevblk" => assert!(!model.is_good(parent)),
            "bad-cb-amount"
            | "bad-txns-inputs-missingorspent"
            | "bad-txns-premature-spend-of-coinbase" => {
                assert!(model.forest.coins(index).is_none());
                model.headers.insert(index);
                model.store(index);
            }
            other => panic!("block {index} is refused as {other}"),
        },
    }
}

fn story(seed: u64) {
    let mut rng = Rng::salted(seed, SALT);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let mut model = Model {
        forest: Forest::grow(&mut rng),
        headers: HashSet::from([0]),
        stored: vec![],
        whole: vec![0],
        operator_bad: HashSet::new(),
    };
    for step in 0..STEPS {
        // Mostly one of the next blocks, so that chains get long.
        let near = 1 + rng.index(BLOCKS.min(4 + step / 4));
        match rng.below(20) {
            0..=10 => deliver(&mut bed, &mut model, near),
            11..=13 => {
                let header = model.forest.blocks[near].header;
                match bed.thread.state.submit_header(&header).expect("works") {
                    HeaderOutcome::Accepted => assert!(model.headers.insert(near)),
                    HeaderOutcome::Known => assert!(model.headers.contains(&near)),
                    HeaderOutcome::Rejected { reason } => {
                        let parent = model.forest.parents[near];
                        assert!(
                            !model.headers.contains(&parent) || !model.is_good(near),
                            "{reason}"
                        );
                    }
                }
            }
            14 => {
                let spent: Vec<OutPoint> = bed.engine().coins.keys().copied().collect();
                if !spent.is_empty() {
                    let prev = spent[rng.index(spent.len())];
                    let value = bed.engine().coins[&prev].value_sat;
                    let tx = spend(prev, value, 1 + rng.below(9));
                    bed.engine().accept(&tx);
                }
            }
            15 | 16 if model.headers.contains(&near) && rng.chance(1, 2) => {
                let hash = model.forest.blocks[near].hash;
                bed.thread.state.invalidate(&hash).expect("known");
                model.operator_bad.insert(near);
            }
            17 | 18 if model.headers.contains(&near) => {
                let hash = model.forest.blocks[near].hash;
                bed.thread.state.reconsider(&hash).expect("known");
                model.reconsider(near);
            }
            19 => {
                drop(bed);
                bed = Bed::open(dir.path()).expect("the same chain");
            }
            _ => {}
        }
        check(&mut bed, &model, seed, step);
    }
}

#[test]
fn any_tree_in_any_order_ends_on_the_best_valid_chain_that_was_first() {
    (0..SEEDS).for_each(story);
}
