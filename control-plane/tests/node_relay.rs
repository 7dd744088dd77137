//! Nodes that relay, as their users run them: processes of their own whose blocks and transactions travel as packets, and what happens when
//! one is killed, when two chains meet, and when a peer is hostile.

mod common;

use common::node::RunningNode;
use common::rpc::Client;
use consensus::address::Destination;
use consensus::block::write_block;
use consensus::hash::{BlockHash, TxId};
use consensus::header::{Header, check_header_work};
use consensus::merkle::merkle_root;
use consensus::params::{ChainParams, Network};
use consensus::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use control_plane::mine;
use control_plane::relay::CATCH_UP_BLOCKS;
use load::{Coinbase, Options, Plan, Workload};
use relay::engine::{Engine, EngineConfig};
use relay::io::{Backend, IoOptions};
use relay::link::Keys;
use relay::node::{Relay, standalone};
use relay::{Class, PeerConfig};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Machines are shared; what should take milliseconds may take seconds there.
const PATIENCE: Duration = Duration::from_secs(60);
/// Transactions of the test: enough for blocks that travel by name.
const TXS: usize = 60;

fn params() -> ChainParams {
    ChainParams::of(Network::Regtest)
}

fn metanode(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_metanode")).args(args).output().expect("the binary was built")
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A peer in somebody's settings.
struct Peer<'a> {
    name: &'a str,
    public_key: &'a str,
    /// Left out: it calls.
    addr: Option<&'a str>,
    trusted: bool,
}

/// A node with a key; its process may run, or not.
struct Relaying {
    name: &'static str,
    public_key: String,
    folder: tempfile::TempDir,
    node: Option<RunningNode>,
}

impl Relaying {
    fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("relay.key");
        let made = metanode(&["relay", "keygen", "--out", &key.to_string_lossy()]);
        assert!(made.status.success());
        let public_key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        Self { name, public_key, folder, node: None }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("metanode.toml")
    }

    fn write(&self, peers: &[Peer<'_>]) {
        let mut text = String::from("[bfr]\nlisten = \"127.0.0.1:0\"\n");
        for Peer { name, public_key, addr, trusted } in peers {
            let addr = addr.map_or_else(String::new, |at| format!("addr = \"{at}\"\n"));
            write!(
                text,
                "[[bfr.peers]]\nname = \"{name}\"\n{addr}public_key = \"{public_key}\"\ntrusted = {trusted}\n"
            )
            .expect("a string");
        }
        std::fs::write(self.config(), text).expect("written");
    }

    fn start(&mut self, peers: &[Peer<'_>]) {
        self.write(peers);
        let config = self.config().to_string_lossy().into_owned();
        let args = ["--cores", "1", "--memory", "1500M", "--config", &config];
        self.node = Some(RunningNode::start_in(self.folder.path(), &args, None));
    }

    /// As somebody else's peer: called here, or only known.
    fn known(&self) -> Peer<'_> {
        Peer { name: self.name, public_key: &self.public_key, addr: None, trusted: true }
    }

    fn called(&self) -> Peer<'_> {
        Peer { addr: Some(self.node().address("bfr")), ..self.known() }
    }

    fn node(&self) -> &RunningNode {
        self.node.as_ref().expect("it runs")
    }

    fn node_mut(&mut self) -> &mut RunningNode {
        self.node.as_mut().expect("it runs")
    }

    fn rpc(&self, method: &str, params: &Value) -> Value {
        Client::new(self.node().address("rpc"), self.node().cookie().trim()).get(method, params)
    }

    fn ops(&self, path: &str) -> String {
        let client = Client::new(self.node().address("ops"), "").nobody();
        let reply = client.send("GET", path, "");
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.body
    }

    fn status(&self) -> Value {
        let client = Client::new(self.node().address("ops"), "").nobody();
        // Just after a start its tiles may not have turned yet.
        let body = until("the relay has a status", || {
            let reply = client.send("GET", "/bfr/status", "");
            (reply.status == 200).then_some(reply.body)
        });
        serde_json::from_str(&body).expect("JSON")
    }

    /// One sample of the page of metrics; 0 where there is none.
    fn metric(&self, name: &str) -> u64 {
        let page = self.ops("/metrics");
        let mut rows = page.lines().filter(|line| line.starts_with(name));
        let value = |row: &str| row.rsplit_once(' ').and_then(|(_, value)| value.parse().ok());
        rows.next().map_or(0, |row| value(row).unwrap_or_else(|| panic!("{row}")))
    }

    fn is_up(&self, peer: &str) -> bool {
        let status = self.status();
        let peers = status["peers"].as_array().expect("peers");
        peers.iter().any(|row| row["name"] == peer && row["state"] == "up")
    }

    fn wait_for(&self, peer: &str) {
        until(&format!("{} sees {peer}", self.name), || self.is_up(peer).then_some(()));
    }

    fn tip(&self) -> String {
        self.rpc("getbestblockhash", &json!([])).as_str().expect("a hash").to_owned()
    }

    fn height(&self) -> u64 {
        self.rpc("getblockcount", &json!([])).as_u64().expect("a number")
    }

    fn generate(&self, count: u32) {
        self.rpc("generate", &json!([count]));
    }

    /// Waits until the tip is that of `other`.
    fn follows(&self, other: &Self) {
        let tip = other.tip();
        until(&format!("{} has the tip of {}", self.name, other.name), || {
            (self.tip() == tip).then_some(())
        });
    }

    fn pooled(&self) -> usize {
        self.rpc("getrawmempool", &json!([])).as_array().expect("ids").len()
    }

    fn submit(&self, txs: &[u8]) {
        let mut stream = std::net::TcpStream::connect(self.node().address("submit")).expect("open");
        let head =
            format!("POST /txs HTTP/1.0\r\nHost: a\r\nContent-Length: {}\r\n\r\n", txs.len());
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("it reads");
        std::io::Write::write_all(&mut stream, txs).expect("it reads");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("it answers");
        assert!(answer.contains(" 200 ") && answer.ends_with("OK"), "{answer}");
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(node) = &self.node
        {
            eprintln!("--- log of {}\n{}", self.name, node.log());
        }
    }
}

/// Signed transactions over coins of their own on the node's chain, and how many transactions made those coins.
fn offer(node: &Relaying, txs: usize) -> (load::Offer, usize) {
    let plan = Plan::new(Options { keys: 10, ..Options::new(Workload::P2pkh, txs, 3) });
    let reward_sat = params().subsidy_sat(1);
    let mut coinbases = Vec::new();
    for i in 0..plan.coinbases_needed(reward_sat) {
        let script = plan.coinbase_script(i);
        let hash = script[3..23].try_into().expect("a P2PKH script");
        let address = Destination::PubKeyHash(hash).to_address(&params());
        let blocks = node.rpc("generatetoaddress", &json!([1, address]));
        let block = node.rpc("getblock", &json!([blocks[0], 1]));
        let txid: TxId = block["tx"][0].as_str().expect("a coinbase").parse().expect("an id");
        coinbases.push(Coinbase { txid, value_sat: reward_sat });
    }
    node.generate(100);
    let fan_out = plan.fan_out(&coinbases, reward_sat);
    node.submit(&fan_out.txs.concat());
    node.generate(1);
    (plan.sign(&fan_out.coins), fan_out.txs.len())
}

#[test]
fn along_a_line_of_nodes_transactions_reach_every_pool_and_blocks_become_every_tip() {
    let (mut a, mut b, mut c) = (Relaying::new("a"), Relaying::new("b"), Relaying::new("c"));
    a.start(&[b.known()]);
    b.start(&[a.called(), c.known()]);
    c.start(&[b.called()]);
    a.wait_for("b");
    b.wait_for("c");
    let (offer, fan_out) = offer(&a, TXS);
    b.follows(&a);
    c.follows(&a);
    assert!(c.height() > 101);

    let txs: Vec<u8> = offer.iter().flat_map(|tx| tx.bytes.to_vec()).collect();
    a.submit(&txs);
    for node in [&a, &b, &c] {
        until("the pool fills", || (node.pooled() == TXS).then_some(()));
    }
    // Once each: what came in was shed nowhere and was not sent back.
    let came = (fan_out + TXS) as u64;
    for node in [&b, &c] {
        until("every transaction is counted", || {
            (node.metric("metanode_bfr_txs_received_total") == came).then_some(())
        });
        assert_eq!(node.metric("metanode_bfr_txs_shed_total"), 0);
        assert_eq!(node.metric("metanode_bfr_txs_sent_total"), 0, "no transaction is its own");
        assert_eq!(node.metric("metanode_link_dropped_total{link=\"bfr_validate"), 0);
    }
    until("a has sent them", || (a.metric("metanode_bfr_txs_sent_total") == came).then_some(()));
    assert_eq!(a.metric("metanode_bfr_txs_received_total"), 0);

    // The block names them: what is in the pools need not travel.
    let before = c.status()["objects"]["symbols_prefilled"].as_u64().expect("a number");
    a.generate(1);
    c.follows(&a);
    let symbols = (txs.len() / 1_152) as u64;
    // The status is as of a moment ago.
    until("the block's symbols were known", || {
        let after = c.status()["objects"]["symbols_prefilled"].as_u64().expect("a number");
        (after - before >= symbols - 1).then_some(())
    });
    until("every block is counted", || {
        (c.status()["chain"]["blocks_connected"] == c.height()).then_some(())
    });
    for node in [&a, &b, &c] {
        until("the pool is mined", || (node.pooled() == 0).then_some(()));
    }

    // And the other way.
    c.generate(1);
    a.follows(&c);
    until("a counts it", || (a.status()["chain"]["blocks_connected"] == 1).then_some(()));
    assert_eq!(b.status()["chain"]["blocks_announced"], 0, "the relay has passed them on already");

    // An operator sees it all.
    let folder = b.node().folder();
    let shown = metanode(&["relay", "status", "--json", "--node", &folder.to_string_lossy()]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["public_key"], b.public_key.as_str());
    assert_eq!(shown["peers"].as_array().map(Vec::len), Some(2));
    assert!(b.metric("metanode_relay_blocks_connected_total") > 100);
    assert!(b.ops("/metrics").contains("metanode_relay_peer_rtt_seconds{peer=\"c\"}"));
    assert!(b.node().log().contains("block of a peer"));
    let directory = b.folder.path().to_string_lossy().into_owned();
    let (code, top) = common::run(&["top", "--json", "--data-dir", &directory]);
    let named = |list: &str| -> Vec<String> {
        let rows = top[list].as_array().expect("rows");
        rows.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(code, 0);
    assert!(["net:0", "bfr:0"].iter().all(|tile| named("tiles").contains(&(*tile).to_owned())));
    for link in ["net_bfr:0", "bfr_net:0", "chain_bfr:0", "bfr_chain:0", "bfr_validate:0.0"] {
        let links = named("links");
        assert!(links.iter().any(|name| name.starts_with(link)), "{link} in {links:?}");
    }
    for node in [&mut a, &mut b, &mut c] {
        node.node_mut().stop();
    }
}

#[test]
fn a_killed_node_gets_the_last_blocks_when_it_is_back_and_older_ones_from_elsewhere() {
    let (mut a, mut b) = (Relaying::new("a"), Relaying::new("b"));
    a.start(&[b.known()]);
    b.start(&[a.called()]);
    b.wait_for("a");
    a.generate(2);
    b.follows(&a);

    b.node_mut().kill();
    a.generate(3);
    b.node_mut().restart();
    b.follows(&a);
    a.generate(1);
    b.follows(&a);

    // More than a peer repeats: what stands on the gap has no parent here. a starts anew, so nothing for b is still on its way.
    b.node_mut().kill();
    let gap_from = a.height() + 1;
    a.generate(CATCH_UP_BLOCKS as u32 + 2);
    a.node_mut().stop();
    a.start(&[b.known()]);
    b.start(&[a.called()]);
    b.wait_for("a");
    until("headers without a parent are counted", || {
        (b.status()["drops"]["parent_unknown"].as_u64() >= Some(1)).then_some(())
    });
    assert_eq!(b.height() + 1, gap_from);
    // With the missing blocks from elsewhere it is there again, and follows.
    for height in gap_from..=a.height() {
        let hash = a.rpc("getblockhash", &json!([height]));
        let raw = a.rpc("getblock", &json!([hash, 0]));
        b.rpc("submitblock", &json!([raw]));
    }
    b.follows(&a);
    a.generate(1);
    b.follows(&a);
}

#[test]
fn two_chains_meet_when_peers_are_added_and_the_one_with_more_work_wins_on_both_sides() {
    let (mut a, mut b) = (Relaying::new("a"), Relaying::new("b"));
    let nobody = "11".repeat(32);
    let nobody = Peer { name: "nobody", public_key: &nobody, addr: None, trusted: false };
    a.start(&[b.known()]);
    b.start(&[nobody]);
    a.generate(3);
    b.generate(2);
    assert_ne!(a.tip(), b.tip());

    b.write(&[a.called()]);
    b.node().signal("HUP");
    b.wait_for("a");
    b.follows(&a);
    assert_eq!(b.height(), 3);
    until("the branch that lost is known to both", || {
        let branches =
            |node: &Relaying| node.rpc("getchaintips", &json!([])).as_array().map(Vec::len);
        (branches(&a) == Some(2) && branches(&b) == Some(2)).then_some(())
    });

    // Apart again, and now the other one is ahead.
    b.write(&[Peer { name: "nobody", public_key: &"11".repeat(32), addr: None, trusted: false }]);
    b.node().signal("HUP");
    until("the link is down", || (!a.is_up("b")).then_some(()));
    a.generate(1);
    b.generate(3);
    assert_eq!((a.height(), b.height()), (4, 6));
    b.write(&[a.called()]);
    b.node().signal("HUP");
    a.follows(&b);
    assert_eq!(a.height(), 6);
}

/// A peer that is no node: an engine of this process, which sends what it is told.
struct Hostile {
    relay: Relay,
}

impl Hostile {
    fn new(secret: u8, node: &Relaying) -> Self {
        let keys = Keys::from_secret([secret; 32]);
        let lookups = standalone(1 << 20, 0x207f_ffff);
        let now = relay::node::now();
        let engine = Engine::new(EngineConfig::default(), keys, lookups, &[secret; 32], now);
        let options = IoOptions::at("127.0.0.1:0".parse().expect("an address"));
        let opened = relay::io::open(Backend::Udp, &options).expect("a port");
        let mut relay = Relay::new(engine, opened.io);
        let mut public_key = [0; 32];
        hex::decode_to_slice(&node.public_key, &mut public_key).expect("a key");
        relay.set_peers(vec![PeerConfig {
            name: "victim".into(),
            addr: Some(node.node().address("bfr").parse().expect("an address")),
            public_key,
            trusted: true,
            rate_mbit: 1_000,
            dedicated_line: false,
        }]);
        Self { relay }
    }

    /// What it would have in its peers' settings.
    fn public_key(secret: u8) -> String {
        hex::encode(Keys::from_secret([secret; 32]).public())
    }

    /// Turns until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Relay) -> bool) {
        let began = Instant::now();
        while !done(&self.relay) {
            self.relay.turn().expect("a socket");
            while self.relay.event().is_some() {}
            std::thread::sleep(Duration::from_micros(200));
            assert!(began.elapsed() < PATIENCE, "{what}");
        }
    }

    fn turn_for(&mut self, time: Duration) {
        let began = Instant::now();
        self.until("time passes", |_| began.elapsed() > time);
    }

    fn send(&mut self, class: Class, bytes: &[u8]) {
        self.relay.send(class, Arc::from(bytes), None).expect("a peer");
    }
}

/// A block on `parent` with a coinbase and these, whose work is right if `solved`.
fn block(parent: BlockHash, height: u32, time_s: u32, txs: &[Tx], solved: bool) -> Vec<u8> {
    let coinbase = mine::coinbase(height, params().subsidy_sat(height), vec![0x51], &[7; 4]);
    let all: Vec<Vec<u8>> =
        std::iter::once(coinbase.to_bytes()).chain(txs.iter().map(Tx::to_bytes)).collect();
    let txids: Vec<TxId> = all.iter().map(|tx| TxId::of(tx)).collect();
    let mut header = Header {
        version: 0x2000_0000,
        prev: parent,
        merkle_root: merkle_root(txids.iter().map(|t| &t.0)).root,
        time_s,
        n_bits: params().pow_limit_bits,
        nonce: 0,
    };
    while check_header_work(&header, &params()).is_ok() != solved {
        header.nonce += 1;
    }
    let mut raw = Vec::new();
    write_block(&mut raw, &header, all.iter());
    raw
}

/// Bytes of memory a process has.
fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let text = text.expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

#[test]
fn strangers_rubbish_and_bad_blocks_are_counted_and_cost_nothing() {
    let mut node = Relaying::new("node");
    let (bad, stranger, good) = (5, 6, 7);
    let (bad_key, good_key) = (Hostile::public_key(bad), Hostile::public_key(good));
    let known = |name, public_key| Peer { name, public_key, addr: None, trusted: false };
    node.start(&[known("bad", bad_key.as_str()), known("good", good_key.as_str())]);
    node.generate(1);
    let pid = node.node().pid();
    let before = resident_bytes(pid);

    let victim = node.node().address("bfr").to_owned();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut state = 1u64;
    for _ in 0..20_000 {
        let mut packet = [0; 600];
        for byte in &mut packet {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        // Every type of the protocol's first version, and none.
        packet[0] = 0x10 | packet[0] & 0x0f;
        socket.send_to(&packet[..30 + usize::from(packet[1]) * 2], &victim).expect("sent");
    }
    let mut unknown = Hostile::new(stranger, &node);
    unknown.turn_for(Duration::from_secs(1));
    let drops =
        |node: &Relaying, reason: &str| node.status()["drops"][reason].as_u64().unwrap_or_default();
    until("the stranger is refused", || (drops(&node, "peer_unknown") > 0).then_some(()));
    until("rubbish is counted", || {
        (drops(&node, "malformed") + drops(&node, "key_unknown") > 1_000).then_some(())
    });
    let grown = resident_bytes(pid).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");

    let mut peer = Hostile::new(bad, &node);
    peer.until("the peer's link comes up", |relay| relay.peers_up().count() == 1);
    let tip: BlockHash = node.tip().parse().expect("a hash");
    let time_s = node.rpc("getblockheader", &json!([node.tip()]))["time"].as_u64().expect("time");
    let time_s = time_s as u32 + 1;
    // Work on nothing.
    peer.send(Class::Block, &block(BlockHash([3; 32]), 2, time_s, &[], true));
    // Work, and a transaction that spends what nobody has.
    let thief = Tx {
        version: 1,
        inputs: vec![TxIn {
            prev: OutPoint { txid: TxId([9; 32]), vout: 0 },
            unlocking_script: vec![],
            sequence: SEQUENCE_FINAL,
            coin: None,
        }],
        outputs: vec![TxOut { value_sat: 1, locking_script: vec![0x51] }],
        lock_time: 0,
    };
    peer.send(Class::Block, &block(tip, 2, time_s, &[thief], true));
    peer.send(Class::Opaque, b"a node has no use for this");
    let chain = |key: &str| node.status()["chain"][key].as_u64().unwrap_or_default();
    peer.until("all of it is counted", |_| {
        (chain("blocks_rejected"), chain("objects_unclaimed")) == (1, 1)
            && drops(&node, "parent_unknown") > 0
    });
    assert!(node.node().log().contains("bad-txns-inputs-missingorspent"));
    // No work: no byte of the block is kept, and who says it again and again is not heard any more.
    peer.send(Class::Block, &block(tip, 2, time_s, &[], false));
    peer.until("the peer is put into quarantine", |_| {
        drops(&node, "proof_of_work") > 0 && node.status()["quarantines"] == 1
    });
    assert_eq!((chain("blocks_connected"), node.height()), (0, 1));

    // What is right is still taken, from a peer that is.
    let mut peer = Hostile::new(good, &node);
    peer.until("the other peer's link comes up", |relay| relay.peers_up().count() == 1);
    peer.send(Class::Block, &block(tip, 2, time_s + 1, &[], true));
    peer.until("its block is the tip", |_| node.height() == 2);
    let grown = resident_bytes(pid).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    node.node_mut().stop();
}
