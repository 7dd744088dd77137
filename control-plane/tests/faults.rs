//! A disk that fails under a running node, and directories that are not what the node left: what its users see.
//!
//! Nothing that was acknowledged as durable is ever gone; a node that cannot keep anything says so in `/readiness`, counts it, refuses
//! with 503, and ends on SIGTERM; one that cannot start says what it tried, what it found, and what to try. It never panics. Lost writes
//! until fsync are the simulator's (`bench/sim`): no kernel takes back what it was given.

mod common;

use common::disk::OwnDisk;
use common::node::{RunningNode, command};
use common::rpc::{ADDRESS, Client, Reply};
use consensus::tx::{OutPoint, Tx, TxIn, TxOut};
use load::{Options, Plan, Workload};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use utxo_shard::{Folder, FolderConfig};

const ARGS: [&str; 4] = ["--cores", "2", "--memory", "1G"];
const SOON: Duration = Duration::from_secs(30);

/// Transactions a node can take, oldest first, as raw bytes.
fn offer(node: &RunningNode, txs: usize) -> Vec<Tx> {
    let plan = Plan::new(Options { keys: 20, ..Options::new(Workload::OpTrue, txs, 3) });
    let coins = control_plane::load::coins_by_rpc(node.address("rpc"), &node.cookie(), &plan);
    let offer = plan.sign(&coins.expect("regtest pays").coins);
    offer.iter().map(|tx| Tx::parse(tx.bytes).expect("a transaction")).collect()
}

/// A transaction with this much data that spends what anybody may.
fn large(parent: &Tx, bytes: usize) -> Tx {
    let prev = OutPoint { txid: parent.txid(), vout: 0 };
    let input = TxIn { prev, unlocking_script: vec![], sequence: u32::MAX, coin: None };
    let mut script = vec![0x00, 0x6a, 0x4e];
    script.extend_from_slice(&(bytes as u32).to_le_bytes());
    script.resize(script.len() + bytes, 0x42);
    let output = TxOut { value_sat: 0, locking_script: script };
    Tx { version: 1, inputs: vec![input], outputs: vec![output], lock_time: 0 }
}

fn send(node: &RunningNode, path: &str, tx: &Tx) -> Reply {
    let client = Client::new(node.address("submit"), "nobody:needed");
    client.send_text("POST", path, &hex::encode(tx.to_bytes()))
}

/// Sends it for good.
fn keep(node: &RunningNode, tx: &Tx, acked: &mut BTreeSet<String>) {
    let reply = send(node, "/tx?durable=1", tx);
    assert_eq!(reply.status, 200, "{}\n{}", reply.body, node.log());
    acked.insert(tx.txid().to_string());
}

fn rpc(node: &RunningNode) -> Client {
    Client::new(node.address("rpc"), &node.cookie())
}

fn pool(node: &RunningNode) -> BTreeSet<String> {
    let pool = rpc(node).get("getrawmempool", &json!([]));
    pool.as_array().expect("a list").iter().map(|id| id.as_str().expect("an id").into()).collect()
}

fn ops(node: &RunningNode, path: &str) -> Reply {
    Client::new(node.address("ops"), "nobody:needed").send("GET", path, "")
}

/// Waits until `/readiness` has this status; its text.
fn until_ready_is(node: &RunningNode, status: u16) -> String {
    let began = Instant::now();
    loop {
        let reply = ops(node, "/readiness");
        if reply.status == status {
            return reply.body;
        }
        assert!(began.elapsed() < SOON, "still {}: {}\n{}", reply.status, reply.body, node.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn metric(node: &RunningNode, name: &str) -> u64 {
    let page = ops(node, "/metrics").body;
    let rows = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    rows.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// Everything was refused that must be, and nothing else.
fn takes_nothing(node: &RunningNode, tx: &Tx) {
    let before = metric(node, "metanode_submit_not_kept_total");
    for path in ["/tx", "/tx?durable=1"] {
        let reply = send(node, path, tx);
        assert_eq!(reply.status, 503, "{path}: {}", reply.body);
    }
    let (code, why) = rpc(node)
        .call("generatetoaddress", &json!([1, ADDRESS]))
        .expect_err("no block is begun that cannot be kept");
    assert!(code != 0 && why.contains("nothing new is taken"), "{code} {why}");
    assert!(metric(node, "metanode_submit_not_kept_total") > before + 1);
    // Questions are answered.
    rpc(node).get("getblockcount", &json!([]));
    assert_eq!(ops(node, "/health").status, 200);
}

fn never_panicked(node: &RunningNode) {
    let log = node.log();
    assert!(!log.contains("panicked"), "{log}");
}

fn has_all(node: &RunningNode, acked: &BTreeSet<String>) {
    let pool = pool(node);
    let lost: Vec<_> = acked.difference(&pool).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}\n{}", node.log());
}

#[test]
fn a_disk_that_runs_full_stops_the_taking_and_nothing_else_and_room_starts_it_again() {
    let Some(disk) = OwnDisk::of_memory(320) else { return };
    let mut node = disk.node(&ARGS);
    let txs = offer(&node, 12);
    let mut acked = BTreeSet::new();
    txs[..4].iter().for_each(|tx| keep(&node, tx, &mut acked));
    for round in 0..2 {
        disk.fill(0);
        let why = until_ready_is(&node, 503);
        assert!(
            why.contains("disk: less than 50 MiB are free") && why.contains("make room"),
            "{why}"
        );
        takes_nothing(&node, &txs[8]);
        assert!(metric(&node, "metanode_disk_free_bytes") < 1_000_000);
        assert_eq!(metric(&node, "metanode_disk_troubles_total"), round + 1);
        assert_eq!(pool(&node), acked, "what was taken is there");
        disk.free();
        until_ready_is(&node, 200);
        txs[4 + 2 * round as usize..][..2].iter().for_each(|tx| keep(&node, tx, &mut acked));
    }
    // Killed on a full disk; a start without room says so and changes nothing; with room everything is there.
    disk.fill(0);
    until_ready_is(&node, 503);
    never_panicked(&node);
    node.kill();
    let said = node.refuses();
    assert!(said.contains("No space left on device"), "{said}");
    disk.free();
    node.restart();
    has_all(&node, &acked);
    let blocks = rpc(&node).get("generatetoaddress", &json!([1, ADDRESS]));
    assert_eq!(blocks.as_array().map(Vec::len), Some(1));
    // And a node on a full disk ends when it is asked to.
    disk.fill(0);
    until_ready_is(&node, 503);
    node.stop();
    never_panicked(&node);
}

#[test]
fn a_journal_without_room_for_its_next_part_waits_and_nothing_is_acknowledged_meanwhile() {
    let Some(disk) = OwnDisk::of_memory(400) else { return };
    let mut node = disk.node(&ARGS);
    let txs = offer(&node, 110);
    let mut acked = BTreeSet::new();
    txs.iter().for_each(|tx| keep(&node, tx, &mut acked));
    // Half of a part of 64 MiB of journal, as much again of the pool's file: then there is no room for the next part.
    disk.fill(92 << 10);
    let mut refused = None;
    for parent in &txs {
        let tx = large(parent, 500_000);
        let reply = send(&node, "/tx?durable=1", &tx);
        match reply.status {
            200 => acked.insert(tx.txid().to_string()),
            503 => {
                refused = Some((tx, reply.body));
                break;
            }
            status => panic!("{status}: {}", reply.body),
        };
    }
    let (tx, why) = refused.expect("the journal has no room");
    assert!(why.contains("the disk of the journal is full"), "{why}");
    let why = until_ready_is(&node, 503);
    assert!(why.contains("journal: the disk of the journal is full"), "{why}");
    // What was on its way when the disk ran full may still arrive; the metrics are as of a moment ago.
    std::thread::sleep(Duration::from_millis(300));
    let at = metric(&node, "metanode_shard_durable_epoch");
    takes_nothing(&node, &tx);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(metric(&node, "metanode_shard_durable_epoch"), at, "nothing becomes durable");
    disk.free();
    until_ready_is(&node, 200);
    keep(&node, &tx, &mut acked);
    never_panicked(&node);
    node.kill();
    node.restart();
    has_all(&node, &acked);
}

#[test]
fn a_disk_that_fails_to_write_ends_every_promise_until_a_restart_and_keeps_those_that_were_given() {
    // A disk that has less than it said: blocks that were never written find no place, and the sync says so.
    let made = OwnDisk::mount(
        "mount -t tmpfs -o size=160m tmpfs \"$BACK\"
         truncate -s 500M \"$BACK/image\"
         mkfs.ext4 -q -F \"$BACK/image\"
         mount -o loop \"$BACK/image\" \"$DISK\"",
    );
    let Some(disk) = made else { return };
    let mut node = disk.node(&ARGS);
    let txs = offer(&node, 12);
    let mut acked = BTreeSet::new();
    txs[..6].iter().for_each(|tx| keep(&node, tx, &mut acked));
    disk.run("sync; dd if=/dev/zero of=\"$BACK/balloon\" bs=64K status=none || true");
    let mut refused = None;
    for parent in &txs[..6] {
        let tx = large(parent, 500_000);
        let reply = send(&node, "/tx?durable=1", &tx);
        if reply.status != 200 {
            refused = Some(reply);
            break;
        }
        acked.insert(tx.txid().to_string());
    }
    let refused = refused.expect("the disk has no more");
    assert_eq!(refused.status, 503, "{}", refused.body);
    let why = until_ready_is(&node, 503);
    let names = why.contains("journal: the journal cannot be written any more: shard 0")
        && why.contains("its journal (segment");
    assert!(names && why.contains("see to the disk") && why.contains("(os error"), "{why}");
    takes_nothing(&node, &txs[8]);
    never_panicked(&node);
    // It stays so, though the disk is well again: what a disk has after a failed sync nobody knows.
    disk.run("rm \"$BACK/balloon\"");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(ops(&node, "/readiness").status, 503);
    let took = node.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");
    disk.run("umount \"$DISK\"; mount -o loop \"$BACK/image\" \"$DISK\"");
    node.restart();
    has_all(&node, &acked);
    keep(&node, &txs[8], &mut acked);
    node.kill();
    node.restart();
    has_all(&node, &acked);
}

#[test]
fn a_write_that_is_refused_is_the_end_of_promises_and_not_of_the_process() {
    let mut node = RunningNode::start(&ARGS);
    let txs = offer(&node, 8);
    let mut acked = BTreeSet::new();
    txs[..4].iter().for_each(|tx| keep(&node, tx, &mut acked));
    // From now on no file of the process grows or changes behind its first bytes: EFBIG, and SIGXFSZ with it.
    let pid = node.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=100:"]).status();
    assert!(limited.expect("prlimit is part of every Linux").success());
    let reply = send(&node, "/tx?durable=1", &txs[5]);
    assert_eq!(reply.status, 503, "{}", reply.body);
    let why = until_ready_is(&node, 503);
    assert!(why.contains("writing its journal") && why.contains("File too large"), "{why}");
    takes_nothing(&node, &txs[6]);
    never_panicked(&node);
    node.stop();
    node.restart();
    has_all(&node, &acked);
    keep(&node, &txs[6], &mut acked);
}

/// What the folder of journals has, as numbers that change with every byte.
fn sums(folder: &Path) -> String {
    let script = "cd \"$0\" && find . -type f ! -name LOCK | sort | xargs sha256sum";
    let out = Command::new("sh").args(["-ec", script]).arg(folder).output().expect("a shell");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// Turns bits of one byte around, and again when it is dropped.
struct Rot {
    path: PathBuf,
    at: u64,
    bits: u8,
}

impl Rot {
    fn new(path: PathBuf, at: u64) -> Self {
        let rot = Self { path, at, bits: 0x10 };
        rot.turn().expect("a byte of a file of the node's");
        rot
    }

    fn turn(&self) -> std::io::Result<()> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().read(true).write(true).open(&self.path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at)?;
        file.write_all_at(&[byte[0] ^ self.bits], self.at)
    }
}

impl Drop for Rot {
    fn drop(&mut self) {
        // A test that fails has said why; the file may be gone then.
        let _ = self.turn();
    }
}

#[test]
fn rot_is_found_named_and_left_alone_and_a_torn_tail_is_cut() {
    let mut node = RunningNode::start(&ARGS);
    let txs = offer(&node, 8);
    let mut acked = BTreeSet::new();
    txs[..6].iter().for_each(|tx| keep(&node, tx, &mut acked));
    // The end of one more epoch says that all of them were complete.
    std::thread::sleep(Duration::from_millis(300));
    node.kill();
    let utxo = node.folder().join("utxo");
    let segment = utxo.join("shard-000/journal-000000000001");
    let bytes = std::fs::read(&segment).expect("its journal");
    let frames: Vec<usize> =
        bytes.windows(4).enumerate().filter(|w| w.1 == b"MNJ1").map(|w| w.0 - 8).collect();
    assert!(frames.len() > 8, "{frames:?}");
    let before = sums(&utxo);
    let rots = [
        // The head of the first frame, the payload of one in the middle, the last one with a promise in it.
        (segment.clone(), 3, "journal-000000000001 is damaged at byte 0"),
        (segment.clone(), frames[frames.len() / 2] + 70, "journal-000000000001 is damaged at byte"),
        (segment.clone(), frames[frames.len() - 2] + 20, "journal-000000000001 is damaged at byte"),
        (utxo.join("MANIFEST"), 20, "MANIFEST: its checksum is that of other bytes"),
        (utxo.join("HEADER"), 30, "HEADER: its checksum is that of other bytes"),
        (utxo.join("HEADER"), 0, "it does not begin as the header of a UTXO set"),
        (utxo.join("HEADER"), 8, "was written by version 17 of the data directory"),
    ];
    for (path, at, expected) in rots {
        let rot = Rot::new(path, at as u64);
        let damaged = sums(&utxo);
        let said = node.refuses();
        assert!(said.contains(expected), "byte {at}: {said}");
        // The way out.
        assert!(said.contains("the blocks") || said.contains("its blocks"), "{said}");
        assert_eq!(sums(&utxo), damaged, "nothing was changed");
        drop(rot);
    }
    assert_eq!(sums(&utxo), before);
    // A page that never reached the disk, of what was promised.
    let at = frames[frames.len() / 2];
    let torn: Vec<u8> = bytes[at..frames[frames.len() / 2 + 1]].to_vec();
    patch(&segment, at, &vec![0; torn.len()]);
    let said = node.refuses();
    assert!(said.contains(&format!("journal-000000000001 is damaged at byte {at}")), "{said}");
    patch(&segment, at, &torn);
    // Behind the last frame nothing was promised: half a frame there is cut.
    let end = frames[frames.len() - 1] + 64;
    patch(&segment, end, &bytes[frames[1]..frames[1] + 40]);
    node.restart();
    has_all(&node, &acked);
    keep(&node, &txs[6], &mut acked);
    // A segment of another directory is not taken for its own.
    let mut other = RunningNode::start(&ARGS);
    other.kill();
    node.kill();
    let own = std::fs::read(&segment).expect("its journal");
    std::fs::copy(other.folder().join("utxo/shard-000/journal-000000000001"), &segment)
        .expect("a copy");
    let said = node.refuses();
    assert!(said.contains("journal-000000000001 is damaged at byte 0"), "{said}");
    std::fs::write(&segment, own).expect("its own again");
    // What is no file of the node's is nobody's business.
    std::fs::write(utxo.join("shard-000/notes.txt"), "hello").expect("a file");
    node.restart();
    has_all(&node, &acked);
    never_panicked(&node);
}

fn patch(path: &Path, at: usize, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path).expect("a file of the node's");
    file.write_all_at(bytes, at as u64).expect("writable");
}

/// Which of the two slots of the only shard counts, and its bytes: docs/journal.md, the manifest.
fn checkpoint_that_counts(utxo: &Path) -> (PathBuf, u64) {
    let manifest = std::fs::read(utxo.join("MANIFEST")).expect("a manifest");
    let entry = &manifest[manifest.len() - 8 - 28..];
    let slot = utxo.join(format!("shard-000/checkpoint-{}", entry[0]));
    let len = std::fs::metadata(&slot).expect("a checkpoint").len();
    let used = u64::from_le_bytes(entry[12..20].try_into().expect("eight bytes"));
    assert!(used <= len, "{used} of {len} bytes");
    (slot, used)
}

#[test]
fn rot_in_a_checkpoint_is_found_and_the_way_out_works() {
    let mut node = RunningNode::start(&[&ARGS[..], &["--journal-bytes", "256K"]].concat());
    let txs = offer(&node, 8);
    let mut acked = BTreeSet::new();
    txs[..6].iter().for_each(|tx| keep(&node, tx, &mut acked));
    // So much that a checkpoint is due.
    for parent in &txs[..6] {
        let tx = large(parent, 100 << 10);
        keep(&node, &tx, &mut acked);
    }
    let began = Instant::now();
    while metric(&node, "metanode_shard_journal_segments_dropped_total") == 0 {
        assert!(began.elapsed() < SOON, "no checkpoint is named\n{}", node.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let tip = rpc(&node).get("getbestblockhash", &json!([]));
    node.kill();
    let utxo = node.folder().join("utxo");
    let (slot, used) = checkpoint_that_counts(&utxo);
    for at in [100, used / 2, used - 40] {
        let rot = Rot::new(slot.clone(), at);
        let damaged = sums(&utxo);
        let said = node.refuses();
        assert!(
            said.contains("the checkpoint of shard 0") && said.contains("is damaged"),
            "{said}"
        );
        assert_eq!(sums(&utxo), damaged, "nothing was changed");
        drop(rot);
    }
    node.restart();
    has_all(&node, &acked);
    node.kill();
    // The way out that is named: the coins come from the blocks, the pool is lost.
    let (slot, _) = checkpoint_that_counts(&utxo);
    let rot = Rot::new(slot, 100);
    node.refuses();
    std::fs::rename(&utxo, node.folder().join("utxo-damaged")).expect("moved away");
    drop(rot);
    node.restart();
    assert_eq!(rpc(&node).get("getbestblockhash", &json!([])), tip);
    assert!(pool(&node).is_empty());
    keep(&node, &txs[0], &mut acked);
}

#[test]
fn one_process_has_a_directory_and_the_second_is_told_which() {
    let mut node = RunningNode::start(&ARGS);
    let said = node.refuses();
    assert!(said.contains(&format!("kill {}", node.pid())), "{said}");
    node.stop();
    // The journals alone, in the hands of a tool.
    let utxo = node.folder().join("utxo");
    let folder =
        Folder::open(&utxo, &FolderConfig { shards: 1, secret: [0; 16] }).expect("its own");
    let said = node.refuses();
    let expected = format!("{} is in use by process {}", utxo.display(), std::process::id());
    assert!(said.contains(&expected), "{said}");
    drop(folder);
    node.restart();
}

#[test]
fn what_cannot_be_read_is_named() {
    let mut node = RunningNode::start(&ARGS);
    node.stop();
    let utxo = node.folder().join("utxo");
    let (header, aside) = (utxo.join("HEADER"), utxo.join("HEADER-aside"));
    std::fs::rename(&header, &aside).expect("renamed");
    std::fs::create_dir(&header).expect("a folder in its place");
    let said = node.refuses();
    assert!(said.contains("HEADER") && said.contains("Is a directory"), "{said}");
    std::fs::remove_dir(&header).expect("empty");
    std::fs::rename(&aside, &header).expect("renamed");
    // The blocks that the journals stand on are gone.
    let chain = node.folder().join("chain");
    one_block(&mut node);
    node.stop();
    std::fs::rename(&chain, node.folder().join("chain-aside")).expect("renamed");
    let mut child = command(node.directory(), &ARGS.map(str::to_owned));
    let out = child.output().expect("the binary was built");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("bring those files back") && !said.contains("panicked"), "{said}");
}

/// Runs it for one block more.
fn one_block(node: &mut RunningNode) {
    node.restart();
    rpc(node).get("generatetoaddress", &json!([1, ADDRESS]));
}
