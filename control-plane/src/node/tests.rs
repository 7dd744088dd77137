//! A whole node, its tiles turned by the thread that waits, against blocks of a second chain.

use super::*;
use crate::engine::{BlockToConnect, ChainEnd, ConnectError, Engine, Place};
use crate::mine;
use crate::topology::Ingest;
use consensus::hash::{BlockHash, MerkleHash};
use consensus::header::Header;
use consensus::merkle::merkle_root;
use consensus::params::Network;
use consensus::tx::{SEQUENCE_FINAL, Tx, TxIn, TxOut};
use dataplane::msg::pack_control::Want;
use dataplane::msg::{TxVerdict, VerdictFrag};

/// Anyone can spend it.
const OPEN: &[u8] = &[0x51];

struct Rig {
    node: Node,
    submit: SubmitEnds,
    token: u64,
}

/// A block and what it makes.
#[derive(Clone)]
struct Made {
    raw: Vec<u8>,
    end: ChainEnd,
    below: ChainEnd,
    coinbase: TxId,
}

fn spend(coins: &[(TxId, u32)], values: &[u64], lock_time: u32) -> Tx {
    let sequence = if lock_time == 0 { SEQUENCE_FINAL } else { 0 };
    let input = |&(txid, vout): &(TxId, u32)| TxIn {
        prev: OutPoint { txid, vout },
        unlocking_script: Vec::new(),
        sequence,
        coin: None,
    };
    let output = |&v: &u64| TxOut { value_sat: v as i64, locking_script: OPEN.to_vec() };
    Tx {
        version: 1,
        inputs: coins.iter().map(input).collect(),
        outputs: values.iter().map(output).collect(),
        lock_time,
    }
}

/// A block on top of `below`; `fees_sat` is claimed by its coinbase, `salt` makes it another one.
fn block(params: &ChainParams, below: ChainEnd, txs: &[Tx], fees_sat: u64, salt: u8) -> Made {
    let height = below.height + 1;
    let script = [0x51, salt, 0x75];
    let script = if salt == 0 { OPEN.to_vec() } else { [&[0x01][..], &script[1..], OPEN].concat() };
    let coinbase = mine::coinbase(height, params.subsidy_sat(height) + fees_sat, script, b"test");
    let mut raws = vec![coinbase.to_bytes()];
    raws.extend(txs.iter().map(Tx::to_bytes));
    let ids: Vec<[u8; 32]> = raws.iter().map(|raw| TxId::of(raw).0).collect();
    let header = Header {
        version: 0x2000_0000,
        prev: below.hash,
        merkle_root: MerkleHash(merkle_root(ids.iter()).root.0),
        time_s: params.genesis_header.time_s + height,
        n_bits: params.genesis_header.n_bits,
        nonce: 0,
    };
    let mut raw = Vec::new();
    consensus::block::write_block(&mut raw, &header, raws.iter());
    // Work is the chain's business: the engine does not look at it. Times rise by one, so the median lags by five.
    let median_time_past = params.genesis_header.time_s + height.saturating_sub(5);
    let end = ChainEnd { height, hash: header.hash(), median_time_past };
    Made { raw, end, below, coinbase: coinbase.txid() }
}

impl Rig {
    fn new() -> Self {
        Self::of(ChainParams::of(Network::Regtest))
    }

    fn of(params: ChainParams) -> Self {
        let mut options = NodeOptions::new(params, Ingest::Control);
        options.threads = false;
        options.cores = Some(4);
        options.policy.fee_min = consensus::rules::FeeRate::default();
        options.shard_transactions_max = 1 << 14;
        options.shard_slab_bytes = 64 << 20;
        options.pack_transactions_max = 1 << 12;
        let mut node = Node::boot(options).expect("a node");
        let submit = node.take_submit().expect("once");
        Self { node, submit, token: 0 }
    }

    fn make(&self, txs: &[Tx], fees_sat: u64, salt: u8) -> Made {
        block(&self.node.params, self.node.tip_of_coins(), txs, fees_sat, salt)
    }

    /// As the chain does: the engine first, then the pool's index.
    fn connect(&mut self, made: &Made) -> Result<crate::engine::Connected, ConnectError> {
        let connected = self.node.connect(&BlockToConnect { raw: &made.raw, end: made.end })?;
        self.tell_pool(made, &[], true);
        Ok(connected)
    }

    fn tell_pool(&self, made: &Made, restored: &[TxId], mined: bool) {
        let pool = self.node.pool().expect("it keeps one");
        let block = consensus::block::BlockView::parse(&made.raw).expect("a block");
        let txids = block.txids().expect("its transactions");
        if mined {
            return pool.mined(&txids[1..]);
        }
        pool.unmined(&txids);
        let (mut layout, mut txs) = (consensus::tx::TxLayout::new(), block.txs());
        while let Ok(Some(tx)) = txs.next_tx(&mut layout) {
            if restored.contains(&tx.txid()) {
                pool.restore(tx.txid(), tx.bytes(), 0);
            }
        }
    }

    fn must_connect(&mut self, made: &Made) -> crate::engine::Connected {
        self.connect(made).expect("a good block")
    }

    fn refused(&mut self, made: &Made) -> String {
        let before = self.facts();
        let Err(ConnectError::Rejected(rejection)) = self.connect(made) else {
            panic!("a bad block was not refused")
        };
        assert_eq!(self.facts(), before, "{}: nothing changes", rejection.reason);
        rejection.reason
    }

    fn disconnect(&mut self, made: &Made) -> crate::engine::Disconnected {
        let disconnected = self.node.disconnect(&made.raw, made.below).expect("the tip");
        self.tell_pool(made, &disconnected.restored, false);
        disconnected
    }

    /// `n` blocks with nothing in them.
    fn grow(&mut self, n: u32, salt: u8) -> Vec<Made> {
        let one = |_| {
            let made = self.make(&[], 0, salt);
            self.must_connect(&made);
            made
        };
        (0..n).map(one).collect()
    }

    /// Submits a transaction; the verdict.
    fn submit(&mut self, tx: &Tx) -> TxVerdict {
        self.token += 1;
        let (token, mut scratch) = (self.token, Vec::new());
        let header = IngestHeader { token, source: 1, ..IngestHeader::default() };
        assert!(self.submit.send(&header, &tx.to_bytes(), &mut scratch), "room");
        let mut got: Option<VerdictFrag> = None;
        for _ in 0..10_000 {
            self.node.drive.rest();
            self.submit.verdicts(|v| {
                if v.token == token {
                    got = Some(*v);
                }
            });
            if let Some(v) = got {
                for _ in 0..20 {
                    self.node.drive.rest();
                }
                return v.verdict;
            }
        }
        panic!("no verdict on {}", tx.txid());
    }

    fn accept(&mut self, tx: &Tx) -> TxId {
        assert_eq!(self.submit(tx), TxVerdict::Accepted);
        tx.txid()
    }

    /// What a candidate holds, in order.
    fn candidate(&mut self) -> Vec<TxId> {
        for _ in 0..200 {
            self.node.drive.rest();
        }
        let id = self.node.candidate(Want::Everything).expect("a candidate").id;
        self.node.leaves(id).expect("pack answers").expect("it is fresh").txids
    }

    /// Everything that must be the same before and after something that changes nothing.
    fn facts(&mut self) -> (Totals, Vec<TxId>, ChainEnd) {
        let candidate = self.candidate();
        (Engine::totals(&mut self.node).expect("totals"), candidate, self.node.tip_of_coins())
    }

    fn place(&mut self, txid: TxId) -> Place {
        self.node.where_mined(&txid).expect("a shard answers")
    }
}

impl Node {
    fn tip_of_coins(&self) -> ChainEnd {
        Engine::tip(self)
    }
}

/// A chain of 110 blocks, whose first coinbases can be spent.
fn grown() -> (Rig, Vec<Made>) {
    let mut rig = Rig::new();
    let blocks = rig.grow(110, 0);
    (rig, blocks)
}

const REWARD: u64 = 5_000_000_000;

#[test]
fn a_block_of_others_spends_what_the_pool_has_and_what_it_never_saw() {
    let (mut rig, blocks) = grown();
    let known = spend(&[(blocks[0].coinbase, 0)], &[REWARD - 1_000], 0);
    let stays = spend(&[(known.txid(), 0)], &[REWARD - 3_000], 0);
    rig.accept(&known);
    rig.accept(&stays);
    let new = spend(&[(blocks[1].coinbase, 0)], &[100, REWARD - 200], 0);
    let child = spend(&[(new.txid(), 1)], &[REWARD - 500], 0);
    let made = rig.make(&[known.clone(), new.clone(), child.clone()], 1_000 + 100 + 300, 7);
    let connected = rig.must_connect(&made);
    assert_eq!((connected.txs, connected.from_pool, connected.fees_sat), (4, 1, 1_400));
    assert!(connected.evicted.is_empty());
    assert_eq!(rig.candidate(), [stays.txid()]);
    assert_eq!(rig.place(child.txid()), Place::Mined { height: 111 });
    assert_eq!(rig.place(stays.txid()), Place::Pool);
    let coin = OutPoint { txid: child.txid(), vout: 0 };
    let coin = rig.node.coin(coin).expect("an answer").expect("a coin");
    assert_eq!((coin.value_sat, coin.height, coin.in_pool), (REWARD - 500, 111, false));
    let spent = OutPoint { txid: known.txid(), vout: 0 };
    assert_eq!(rig.node.coin(spent).expect("an answer"), None, "the pool has spent it");
    assert!(rig.node.mined_coin(spent).expect("an answer").is_some(), "no block has");
}

#[test]
fn a_coin_is_told_with_a_script_of_three_megabytes() {
    let params = ChainParams::builder(Network::Regtest).genesis_height(1).build();
    let mut rig = Rig::of(params.expect("regtest moves its heights"));
    let blocks = rig.grow(110, 0);
    let mut wide = spend(&[(blocks[0].coinbase, 0)], &[REWARD - 9_000_000], 0);
    wide.outputs[0].locking_script = vec![0x51; 3_000_000];
    rig.accept(&wide);
    let coin = OutPoint { txid: wide.txid(), vout: 0 };
    let told = rig.node.coin(coin).expect("an answer").expect("a coin");
    assert_eq!((told.locking_script.len(), told.in_pool), (3_000_000, true));
    assert!(told.locking_script.iter().all(|byte| *byte == 0x51));
}

/// As SV Node 1.0.13 with Genesis at the same distance: its pool is empty at both crossings.
#[test]
fn the_pool_is_emptied_where_the_next_block_has_other_rules() {
    let params = ChainParams::builder(Network::Regtest).genesis_height(112).build();
    let mut rig = Rig::of(params.expect("regtest moves its heights"));
    let blocks = rig.grow(110, 0);
    let plain = spend(&[(blocks[0].coinbase, 0)], &[REWARD - 1_000], 0);
    let child = spend(&[(plain.txid(), 0)], &[REWARD - 2_000], 0);
    let mut to_hash = spend(&[(blocks[1].coinbase, 0)], &[REWARD - 1_000], 0);
    to_hash.outputs[0].locking_script = [&[0xa9, 0x14][..], &[7; 20], &[0x87]].concat();
    let mined = spend(&[(blocks[2].coinbase, 0)], &[REWARD - 1_000], 0);
    for tx in [&plain, &child, &to_hash, &mined] {
        rig.accept(tx);
    }
    let last = rig.make(std::slice::from_ref(&mined), 1_000, 3);
    let connected = rig.must_connect(&last);
    assert_eq!((connected.from_pool, connected.evicted.len()), (1, 3));
    assert_eq!(rig.candidate(), []);
    assert_eq!(rig.place(plain.txid()), Place::Unknown);
    assert_eq!(rig.node.pool().expect("it keeps one").txids(), []);
    let coin = OutPoint { txid: blocks[0].coinbase, vout: 0 };
    assert!(rig.node.coin(coin).expect("an answer").is_some(), "its coin is there again");
    assert_eq!(rig.submit(&to_hash), TxVerdict::Invalid, "no such output from Genesis on");
    rig.accept(&plain);
    assert_eq!(rig.candidate(), [plain.txid()]);
    let genesis = rig.make(&[], 0, 4);
    assert!(rig.must_connect(&genesis).evicted.is_empty(), "the rules stay");
    let back = rig.disconnect(&genesis);
    assert!(back.evicted.is_empty() && rig.candidate() == [plain.txid()]);
    let back = rig.disconnect(&last);
    assert_eq!((back.restored.len(), back.evicted.len()), (0, 2));
    assert_eq!(rig.candidate(), []);
    rig.accept(&to_hash);
    rig.accept(&mined);
    assert_eq!(rig.candidate(), [to_hash.txid(), mined.txid()]);
    // A block of our own, with all of the pool.
    let id = rig.node.candidate(Want::Everything).expect("a candidate").id;
    let leaves = rig.node.leaves(id).expect("pack answers").expect("it is fresh");
    let own = rig.make(&[to_hash.clone(), mined.clone()], 2_000, 5);
    let block = BlockToConnect { raw: &own.raw, end: own.end };
    let late = spend(&[(blocks[3].coinbase, 0)], &[REWARD - 1_000], 0);
    rig.accept(&late);
    let connected = rig.node.connect_ours(&block, &leaves).expect("our own");
    assert_eq!(connected.evicted, [late.txid()]);
    rig.tell_pool(&own, &[], true);
    assert_eq!(rig.candidate(), []);
    rig.accept(&late);
}

#[test]
fn who_loses_to_a_block_goes_with_all_descendants() {
    let (mut rig, blocks) = grown();
    let loser = spend(&[(blocks[0].coinbase, 0), (blocks[1].coinbase, 0)], &[10, 20], 0);
    let child = spend(&[(loser.txid(), 0)], &[5], 0);
    let grandchild = spend(&[(child.txid(), 0), (loser.txid(), 1)], &[7], 0);
    let bystander = spend(&[(blocks[2].coinbase, 0)], &[9], 0);
    for tx in [&loser, &child, &grandchild, &bystander] {
        rig.accept(tx);
    }
    let winner = spend(&[(blocks[0].coinbase, 0)], &[REWARD], 0);
    let made = rig.make(std::slice::from_ref(&winner), 0, 7);
    let mut evicted = rig.must_connect(&made).evicted;
    assert_eq!(evicted, [grandchild.txid(), child.txid(), loser.txid()], "the last first");
    evicted.sort_unstable();
    assert_eq!(rig.candidate(), [bystander.txid()]);
    assert_eq!(rig.submit(&loser), TxVerdict::DoubleSpend);
    let freed = spend(&[(blocks[1].coinbase, 0)], &[1], 0);
    rig.accept(&freed);
}

#[test]
fn a_bad_block_changes_nothing() {
    let (mut rig, blocks) = grown();
    let in_pool = spend(&[(blocks[0].coinbase, 0)], &[10], 0);
    let other = spend(&[(blocks[3].coinbase, 0)], &[10], 0);
    rig.accept(&in_pool);
    rig.accept(&other);
    let good = spend(&[(blocks[0].coinbase, 0)], &[30, 40], 0);
    let also = spend(&[(good.txid(), 1)], &[35], 0);
    let nowhere = spend(&[(TxId([9; 32]), 0)], &[1], 0);
    let twice = spend(&[(blocks[0].coinbase, 0)], &[31], 0);
    let young = spend(&[(blocks[50].coinbase, 0)], &[1], 0);
    let greedy = spend(&[(blocks[2].coinbase, 0)], &[REWARD + 1], 0);
    let late = spend(&[(blocks[2].coinbase, 0)], &[1], 5_000);
    let txs = |tail: &Tx| vec![good.clone(), also.clone(), other.clone(), tail.clone()];
    for (tail, reason) in [
        (&nowhere, "bad-txns-inputs-missingorspent"),
        (&twice, "bad-txns-inputs-missingorspent"),
        (&young, "bad-txns-premature-spend-of-coinbase"),
        (&greedy, "bad-txns-in-belowout"),
        (&late, "bad-txns-nonfinal"),
    ] {
        let made = rig.make(&txs(tail), 0, 7);
        assert_eq!(rig.refused(&made), reason);
    }
    let late_parent = rig.make(&[also.clone(), good.clone()], 0, 7);
    assert_eq!(rig.refused(&late_parent), "bad-txns-inputs-missingorspent");
    let rich = rig.make(std::slice::from_ref(&good), REWARD, 7);
    assert_eq!(rig.refused(&rich), "bad-cb-amount");
    let mut wrong = rig.make(std::slice::from_ref(&good), 0, 7);
    wrong.raw[40] ^= 1;
    assert_eq!(rig.refused(&wrong), "bad-txnmrklroot");
    let mut script = spend(&[(good.txid(), 0)], &[1], 0);
    script.inputs[0].unlocking_script = vec![0x00, 0x69];
    let failing = rig.make(&[good.clone(), script], 0, 7);
    assert_eq!(rig.refused(&failing), "blk-bad-inputs");
    // What all of them had in common is fine by itself.
    let fine = rig.make(&[good, also, other], 0, 7);
    let connected = rig.must_connect(&fine);
    assert_eq!((connected.from_pool, connected.evicted), (1, vec![in_pool.txid()]));
}

#[test]
fn a_block_taken_off_leaves_its_transactions_in_front_of_the_pool() {
    let (mut rig, blocks) = grown();
    let known = spend(&[(blocks[0].coinbase, 0)], &[REWARD - 1_000], 0);
    let later = spend(&[(blocks[4].coinbase, 0)], &[1], 0);
    rig.accept(&known);
    rig.accept(&later);
    let new = spend(&[(blocks[1].coinbase, 0), (known.txid(), 0)], &[100, 200], 0);
    let before = rig.facts();
    let made = rig.make(&[known.clone(), new.clone()], 0, 7);
    rig.must_connect(&made);
    let child = spend(&[(new.txid(), 0)], &[50], 0);
    rig.accept(&child);
    assert_eq!(rig.candidate(), [later.txid(), child.txid()]);
    let disconnected = rig.disconnect(&made);
    assert_eq!(disconnected.restored, [known.txid(), new.txid()]);
    assert!(disconnected.evicted.is_empty());
    assert_eq!(rig.candidate(), [known.txid(), new.txid(), later.txid(), child.txid()]);
    assert_eq!(rig.node.tip_of_coins(), before.2);
    assert_eq!(rig.place(made.coinbase), Place::Unknown);
    // Ours now, from pack's list: everything is mined again, and taken off again.
    let id = rig.node.candidate(Want::Everything).expect("a candidate");
    let leaves = rig.node.leaves(id.id).expect("an answer").expect("fresh");
    let txs = [known, new, later, child];
    let ours = rig.make(&txs, id.fees_sat, 9);
    let block = BlockToConnect { raw: &ours.raw, end: ours.end };
    let connected = rig.node.connect_ours(&block, &leaves).expect("our own");
    rig.tell_pool(&ours, &[], true);
    assert_eq!(connected.from_pool, 4);
    assert!(rig.candidate().is_empty());
    for tx in &txs {
        assert_eq!(rig.place(tx.txid()), Place::Mined { height: 111 });
    }
    let again = rig.disconnect(&ours);
    assert_eq!(again.restored, txs.each_ref().map(Tx::txid));
    assert_eq!(rig.candidate(), again.restored);
}

#[test]
fn what_the_shorter_chain_does_not_allow_goes() {
    let (mut rig, blocks) = grown();
    // At height 111 the coinbase of block 11 can be spent, and a lock time of 110 is over.
    let young = spend(&[(blocks[10].coinbase, 0)], &[REWARD], 0);
    let child = spend(&[(young.txid(), 0)], &[1], 0);
    let locked = spend(&[(blocks[0].coinbase, 0)], &[1], 110);
    let stays = spend(&[(blocks[1].coinbase, 0)], &[1], 109);
    for tx in [&young, &child, &locked, &stays] {
        rig.accept(tx);
    }
    let disconnected = rig.disconnect(&blocks[109]);
    let mut evicted = disconnected.evicted.clone();
    evicted.sort_unstable();
    let mut expected = vec![young.txid(), child.txid(), locked.txid()];
    expected.sort_unstable();
    assert_eq!(evicted, expected);
    assert_eq!(rig.candidate(), [stays.txid()]);
    assert_eq!(rig.submit(&young), TxVerdict::Immature);
    assert_eq!(rig.submit(&locked), TxVerdict::NonFinal);
    rig.must_connect(&blocks[109]);
    rig.accept(&young);
    rig.accept(&locked);
}

#[test]
fn a_reorganisation_twelve_deep_with_conflicts_and_back_again() {
    let (mut rig, blocks) = grown();
    let root = rig.node.tip_of_coins();
    // Branch a: a chain of spends, one a block; the pool has a spend of the last.
    let mut coin = (blocks[0].coinbase, 0);
    let mut value = REWARD;
    let mut branch_a = Vec::new();
    let mut moves = Vec::new();
    for _ in 0..12 {
        value -= 10;
        let tx = spend(&[coin], &[value], 0);
        coin = (tx.txid(), 0);
        let made = rig.make(std::slice::from_ref(&tx), 10, 1);
        rig.must_connect(&made);
        branch_a.push(made);
        moves.push(tx);
    }
    let on_top = spend(&[coin], &[5], 0);
    rig.accept(&on_top);
    let bystander = spend(&[(blocks[1].coinbase, 0)], &[5], 0);
    rig.accept(&bystander);
    let with_a = rig.facts();
    for made in branch_a.iter().rev() {
        rig.disconnect(made);
    }
    let mut expected: Vec<TxId> = moves.iter().map(Tx::txid).collect();
    expected.extend([on_top.txid(), bystander.txid()]);
    assert_eq!(rig.candidate(), expected, "all are back, parents first");
    // Branch b, one longer, spends the first coin otherwise: everything of a goes but the bystander.
    let rival = spend(&[(blocks[0].coinbase, 0)], &[1], 0);
    let mut below = root;
    let mut branch_b = Vec::new();
    for i in 0..13 {
        let txs = if i == 6 { vec![rival.clone()] } else { Vec::new() };
        let made = block(&rig.node.params, below, &txs, 0, 2);
        below = made.end;
        let connected = rig.must_connect(&made);
        assert_eq!(connected.evicted.len(), if i == 6 { 13 } else { 0 });
        branch_b.push(made);
    }
    assert_eq!(rig.candidate(), [bystander.txid()]);
    // And back: as it was but for the child in the pool, which nobody has any more.
    for made in branch_b.iter().rev() {
        rig.disconnect(made);
    }
    assert_eq!(rig.candidate(), [rival.txid(), bystander.txid()]);
    for made in &branch_a {
        rig.must_connect(made);
    }
    rig.accept(&on_top);
    let (totals, mut candidate, end) = rig.facts();
    candidate.sort_unstable();
    let mut before = with_a.1;
    before.sort_unstable();
    assert_eq!((totals, candidate, end), (with_a.0, before, with_a.2));
}

#[test]
fn a_coinbase_of_the_same_name_is_refused_while_it_is_unspent() {
    let (mut rig, blocks) = grown();
    let spent = spend(&[(blocks[0].coinbase, 0)], &[REWARD], 0);
    let made = rig.make(&[spent], 0, 7);
    rig.must_connect(&made);
    // Regtest asks for no height in a coinbase, so the first one can be repeated.
    let mut again = rig.make(&[], 0, 0);
    let old = consensus::block::BlockView::parse(&blocks[1].raw).expect("a block");
    again.raw.truncate(80);
    again.raw.extend_from_slice(&blocks[1].raw[80..]);
    again.raw[36..68].copy_from_slice(&old.header().merkle_root.0);
    again.end.hash = BlockHash([5; 32]);
    assert_eq!(rig.refused(&again), "bad-txns-BIP30");
}
