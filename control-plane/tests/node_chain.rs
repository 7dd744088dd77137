//! A whole node in this process: mined, reorganised twelve deep, restarted; every coin held against an account made from the raw
//! blocks alone.

use bytes::Bytes;
use consensus::block::{BlockView, write_block};
use consensus::hash::{BlockHash, TxId};
use consensus::header::{Header, check_header_work};
use consensus::merkle::merkle_root;
use consensus::params::{ChainParams, Network};
use consensus::tx::{OutPoint, Tx};
use control_plane::chain::{self, BlockOutcome, Chain, ChainOptions, ChainStatus, Ended, Solution};
use control_plane::ledger::Ledger;
use control_plane::mine;
use control_plane::node::{Node, NodeOptions, Totals};
use control_plane::service::{NodeClock, Stop};
use control_plane::store::Pool;
use control_plane::submit::{self, Gate, SourceKind, Submit, SubmitLimits};
use control_plane::topology::Ingest;
use dataplane::msg::TxVerdict;
use dataplane::msg::pack_control::Want;
use load::Coinbase;
use load::{Inject, Kind, Offer, Options, Plan, Workload};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TRIES: u64 = 10_000_000;
/// Longest wait for anything that is on its way.
const PATIENCE: Duration = Duration::from_secs(60);

fn params() -> ChainParams {
    ChainParams::of(Network::Regtest)
}

struct Running {
    chain: Chain,
    pool: Pool,
    submit: Submit,
    gate: Gate,
    stop: Stop,
    thread: JoinHandle<Ended<Node>>,
}

impl Running {
    fn boot(directory: &Path) -> Self {
        let (clock, stop) = (NodeClock::new(), Stop::new());
        let mut options = NodeOptions::new(params(), Ingest::Control);
        options.directory = Some(directory.to_owned());
        options.clock = clock.clone();
        options.shard_transactions_max = 1 << 16;
        options.shard_slab_bytes = 256 << 20;
        options.pack_transactions_max = 1 << 16;
        let mut node = Node::boot(options).expect("the node boots");
        let ends = node.take_submit().expect("nobody took the ends before");
        let (submit, gate) = submit::start(ends, SubmitLimits::default()).expect("a thread");
        let pool = node.pool().expect("the bytes of transactions are kept");
        let options = ChainOptions {
            directory: directory.to_owned(),
            params: Arc::new(params()),
            clock,
            stop: stop.clone(),
            pool: pool.clone(),
            block_bytes_max: 0,
        };
        let (chain, thread) = chain::open(options, node).expect("the chain opens");
        let thread = thread.spawn().expect("a thread");
        Self { chain, pool, submit, gate, stop, thread }
    }

    /// Stops everything and gives the sums over all coins.
    fn shutdown(self) -> Totals {
        self.gate.close();
        self.stop.request();
        let Ended { mut engine, failure } = self.thread.join().expect("the chain thread ends");
        assert!(failure.is_none(), "{failure:?}");
        let totals = engine.totals().expect("the shards answer");
        engine.shutdown().expect("the machine halts");
        self.gate.join();
        totals
    }

    async fn generate(&self, count: u32, script: &[u8]) -> Vec<BlockHash> {
        let hashes = self.chain.generate(count, script.to_vec(), TRIES).await.expect("mined");
        assert_eq!(hashes.len(), count as usize);
        hashes
    }

    fn block(&self, hash: &BlockHash) -> Vec<u8> {
        self.chain.block(hash).expect("readable").expect("there")
    }

    fn txids(&self, hash: &BlockHash) -> Vec<TxId> {
        let raw = self.block(hash);
        BlockView::parse(&raw).expect("a block").txids().expect("a block")
    }

    /// Submits and gives the verdicts.
    async fn send(&self, txs: &[Vec<u8>]) -> Vec<TxVerdict> {
        let txs = txs.iter().map(|tx| Bytes::copy_from_slice(tx)).collect();
        let outcomes = self.submit.submit(txs, SourceKind::Http).await.expect("judged");
        outcomes.iter().map(|o| o.verdict).collect()
    }

    async fn send_all(&self, txs: &[Vec<u8>]) {
        for some in txs.chunks(500) {
            let verdicts = self.send(some).await;
            assert!(verdicts.iter().all(|v| *v == TxVerdict::Accepted), "{verdicts:?}");
        }
    }

    /// The pool's view is filled by a tile of its own.
    async fn pool_of(&self, len: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.pool.len() != len {
            assert!(Instant::now() < deadline, "{} in the pool, {len} expected", self.pool.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ids a candidate holds.
    async fn candidate(&self) -> Vec<TxId> {
        let candidate = self.chain.candidate(Want::Everything).await.expect("a candidate");
        let txs = self.chain.candidate_txs(candidate.id).await.expect("fresh");
        assert_eq!(txs.len() as u64 + 1, candidate.tx_count);
        txs.iter().map(|t| t.txid).collect()
    }

    /// The account of the connected chain.
    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(params());
        for height in 1..=self.chain.tip().height {
            let hash = self.chain.hash_at(height).expect("a connected block");
            let applied = ledger.apply(&self.block(&hash)).expect("a right block");
            assert_eq!(applied.hash, hash);
        }
        ledger
    }
}

/// A solved block on `parent` at `height`, as somebody else would make it.
fn foreign(parent: &Header, height: u32, txs: &[Vec<u8>], salt: u8) -> (Header, Vec<u8>) {
    let coinbase = mine::coinbase(height, params().subsidy_sat(height), vec![0x51], &[salt; 4]);
    let mut all = vec![coinbase.to_bytes()];
    all.extend(txs.iter().cloned());
    let txids: Vec<TxId> = all.iter().map(|tx| TxId::of(tx)).collect();
    let mut header = Header {
        version: 0x2000_0000,
        prev: parent.hash(),
        merkle_root: merkle_root(txids.iter().map(|t| &t.0)).root,
        time_s: parent.time_s + 1,
        n_bits: parent.n_bits,
        nonce: 0,
    };
    while check_header_work(&header, &params()).is_err() {
        header.nonce += 1;
    }
    let mut raw = Vec::new();
    write_block(&mut raw, &header, all.iter());
    (header, raw)
}

/// Mines the coins a plan needs and signs it.
async fn coins(node: &Running, plan: &Plan) -> Offer {
    let reward_sat = params().subsidy_sat(1);
    let mut coinbases = Vec::new();
    for i in 0..plan.coinbases_needed(reward_sat) {
        let hashes = node.generate(1, &plan.coinbase_script(i)).await;
        coinbases.push(Coinbase { txid: node.txids(&hashes[0])[0], value_sat: reward_sat });
    }
    node.generate(100, &[0x51]).await;
    let fan_out = plan.fan_out(&coinbases, reward_sat);
    node.send_all(&fan_out.txs).await;
    while !node.candidate().await.is_empty() {
        node.generate(1, &[0x51]).await;
    }
    node.pool_of(0).await;
    plan.sign(&fan_out.coins)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_mined_reorganised_twelve_deep_and_restarted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = Running::boot(dir.path());
    let inject = Inject { double_spends: 1, ..Inject::none() };
    let plan = Plan::new(Options { keys: 50, inject, ..Options::new(Workload::P2pkh, 200, 11) });
    let offer = coins(&node, &plan).await;
    let rival = offer.iter().find(|o| matches!(o.kind, Kind::DoubleSpend { .. })).expect("one");
    let Kind::DoubleSpend { of: loser } = rival.kind else { unreachable!("it was looked for") };
    let loser = offer.get(loser as usize);
    let honest: Vec<_> = offer.iter().filter(|o| o.kind == Kind::Honest).collect();
    let raw: Vec<Vec<u8>> = honest.iter().map(|o| o.bytes.to_vec()).collect();

    // Twelve blocks with 120 transactions in the first of them; the rest waits in the pool.
    let fork = node.chain.tip();
    node.send_all(&raw[..120]).await;
    let ours = node.generate(1, &[0x51]).await;
    let mined = node.txids(&ours[0]);
    assert_eq!(mined.len(), 121);
    node.generate(11, &[0x51]).await;
    node.send_all(&raw[120..]).await;
    let found = node.chain.find_tx(&mined[7]).expect("readable").expect("mined");
    assert_eq!((found.block, found.index), (ours[0], 7));

    // Somebody else's thirteen, with the rival of one of ours.
    let (mut header, mut blocks) = (fork.header, Vec::new());
    for i in 0..13 {
        let txs = if i == 0 { vec![rival.bytes.to_vec()] } else { vec![] };
        let (next, block) = foreign(&header, fork.height + 1 + i, &txs, 3);
        header = next;
        blocks.push(block);
    }
    for block in &blocks[..12] {
        let outcome = node.chain.submit_block(block.clone()).await.expect("works");
        assert_eq!(outcome, BlockOutcome::Stored);
    }
    let began = Instant::now();
    let outcome = node.chain.submit_block(blocks[12].clone()).await.expect("works");
    eprintln!("twelve blocks back, thirteen forward: {} ms", began.elapsed().as_millis());
    assert_eq!(outcome, BlockOutcome::Connected);
    assert_eq!(node.chain.tip().hash, header.hash());
    assert_eq!(node.chain.find_tx(&mined[7]).expect("readable"), None);

    // What lost its coin is gone with its children; the rest is back, in front, in block order.
    let back = node.candidate().await;
    let gone: Vec<TxId> =
        honest.iter().map(|o| o.txid).filter(|txid| !back.contains(txid)).collect();
    assert!(gone.contains(&loser.txid), "the loser of the double spend is evicted");
    let front: Vec<TxId> = mined[1..].iter().copied().filter(|t| !gone.contains(t)).collect();
    assert_eq!(back[..front.len()], front);
    assert_eq!(back.len() + gone.len(), honest.len());
    let parents: Vec<TxId> = gone
        .iter()
        .filter(|txid| **txid != loser.txid)
        .flat_map(|txid| {
            let o = honest.iter().find(|o| o.txid == *txid).expect("one of the honest");
            let tx = Tx::parse(o.bytes).expect("a transaction");
            tx.inputs.iter().map(|i| i.prev.txid).collect::<Vec<_>>()
        })
        .collect();
    assert!(parents.iter().any(|p| gone.contains(p)) || gone.len() == 1, "only heirs go too");
    node.pool_of(back.len()).await;
    for txid in &back {
        let tx = node.pool.get(txid).expect("readable").expect("in the pool");
        assert_eq!(TxId::of(&tx.raw), *txid);
        assert!(tx.fee_sat > 0, "the fee came back with it");
    }
    let rival_coin = OutPoint { txid: rival.txid, vout: 0 };
    let coin = node.chain.coin(rival_coin, true).await.expect("works").expect("unspent");
    assert_eq!((coin.height, coin.in_pool), (fork.height + 1, false));

    // A candidate of before the reorganisation is refused by name, a new one is solved from outside.
    let candidate = node.chain.candidate(Want::Everything).await.expect("a candidate");
    let mut solved = None;
    for nonce in 0..1_000 {
        let (id, coinbase) = (candidate.id, None);
        let solution = Solution { id, nonce, coinbase, time_s: None, version: None };
        let outcome = node.chain.submit_solution(solution).await.expect("works");
        if outcome.submit_text() != Some("high-hash") {
            solved = Some(outcome);
            break;
        }
    }
    assert_eq!(solved, Some(BlockOutcome::Connected));
    node.pool_of(0).await;
    let ledger = node.ledger();
    let totals = node.shutdown();
    assert_eq!((totals.utxos, totals.value_sat), (ledger.len() as u64, ledger.value_sat()));
    assert_eq!((totals.reserved, totals.waiting), (0, 0));

    let began = Instant::now();
    let node = Running::boot(dir.path());
    let again = node.generate(1, &[0x51]).await;
    eprintln!(
        "restarted with {} blocks in {} ms",
        node.chain.tip().height,
        began.elapsed().as_millis()
    );
    assert_eq!(node.chain.tip().hash, again[0]);
    let statuses: Vec<ChainStatus> = node.chain.tips().iter().map(|t| t.status).collect();
    assert_eq!(statuses, [ChainStatus::Active, ChainStatus::ValidFork]);
    let ledger = node.ledger();
    let totals = node.shutdown();
    assert_eq!((totals.utxos, totals.value_sat), (ledger.len() as u64, ledger.value_sat()));
}

/// Names the directory to the process below.
const CHILD_DIRECTORY: &str = "METANODE_TEST_DIRECTORY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that the test below kills"]
async fn a_process_that_mines_and_says_what_until_it_is_killed() {
    let directory = std::env::var(CHILD_DIRECTORY).expect("started by the test below");
    let node = Running::boot(Path::new(&directory));
    loop {
        let hash = node.generate(1, &[0x51]).await[0];
        println!("\nmined {} {hash}", node.chain.tip().height);
    }
}

/// Starts the process above, lets it mine a few blocks, kills it; the last block it spoke of.
fn mine_and_kill(directory: &Path, blocks: u32) -> (u32, BlockHash) {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("a_process_that_mines_and_says_what_until_it_is_killed")
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut last = None;
    let mut killed = false;
    let mut seen = 0;
    // What it said before it died may still be in the pipe: read to the end.
    for line in lines.map_while(Result::ok) {
        let Some(words) = line.strip_prefix("mined ") else { continue };
        let (height, hash) = words.split_once(' ').expect("height and hash");
        if let (Ok(height), Ok(hash)) = (height.parse(), hash.parse()) {
            last = Some((height, hash));
        }
        seen += 1;
        if seen == blocks && !killed {
            // SIGKILL: it gets no moment to put anything in order.
            child.kill().expect("it runs");
            killed = true;
        }
    }
    child.wait().expect("it is dead");
    assert!(killed, "the process ended by itself after {seen} blocks");
    last.expect("it mined")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_while_it_mines_has_lost_nothing_it_spoke_of() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut height_before = 0;
    for blocks in [1, 7, 40] {
        let path = dir.path().to_owned();
        let killed = tokio::task::spawn_blocking(move || mine_and_kill(&path, blocks));
        let (height, hash) = killed.await.expect("it is killed");
        assert!(height >= height_before + blocks, "it went on where the last one was killed");
        let node = Running::boot(dir.path());
        node.generate(1, &[0x51]).await;
        assert_eq!(node.chain.hash_at(height), Some(hash), "block {height} was announced");
        let ledger = node.ledger();
        height_before = node.chain.tip().height;
        assert!(height_before <= height + 3, "one it had not spoken of, one of ours");
        let totals = node.shutdown();
        assert_eq!((totals.utxos, totals.value_sat), (ledger.len() as u64, ledger.value_sat()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_spends_wrongly_is_refused_and_marked_and_the_operators_word_moves_the_tip() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = Running::boot(dir.path());
    let inject = Inject { bad_signatures: 1, ..Inject::none() };
    let plan = Plan::new(Options { keys: 10, inject, ..Options::new(Workload::P2pkh, 20, 5) });
    let offer = coins(&node, &plan).await;
    let bad = offer.iter().find(|o| o.kind == Kind::BadSignature).expect("one");
    let tip = node.chain.tip();
    let (_, block) = foreign(&tip.header, tip.height + 1, &[bad.bytes.to_vec()], 1);
    let outcome = node.chain.submit_block(block.clone()).await.expect("works");
    assert_eq!(outcome.submit_text(), Some("blk-bad-inputs"), "{outcome:?}");
    let outcome = node.chain.submit_block(block).await.expect("works");
    assert_eq!(outcome.submit_text(), Some("duplicate-invalid"));
    assert_eq!(node.chain.tip(), tip);

    // The pool stands through all of it.
    let honest: Vec<Vec<u8>> =
        offer.iter().filter(|o| o.kind == Kind::Honest).map(|o| o.bytes.to_vec()).collect();
    node.send_all(&honest).await;
    let ours = node.generate(3, &[0x51]).await;
    node.pool_of(0).await;
    node.chain.invalidate(ours[0]).await.expect("known");
    assert_eq!(node.chain.tip(), tip);
    node.pool_of(honest.len()).await;
    assert_eq!(node.candidate().await, node.txids(&ours[0])[1..]);
    node.chain.reconsider(ours[2]).await.expect("known");
    assert_eq!(node.chain.tip().hash, ours[2]);
    node.pool_of(0).await;
    assert!(node.candidate().await.is_empty());
    let ledger = node.ledger();
    let totals = node.shutdown();
    assert_eq!((totals.utxos, totals.value_sat), (ledger.len() as u64, ledger.value_sat()));
}
