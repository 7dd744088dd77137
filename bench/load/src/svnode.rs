//! SV Node beside ours: how it is started on regtest, for benchmarks and tests alike.
//!
//! In: its program, a folder, a port. Out: a command that is not started yet; who starts it adds what the case needs and looks after
//! the process.

use std::path::Path;
use std::process::{Command, Stdio};

/// What every regtest node of ours is started with.
const FLAGS: [&str; 11] = [
    "-regtest",
    "-server=1",
    "-printtoconsole=0",
    "-rpcbind=127.0.0.1",
    "-rpcallowip=127.0.0.1",
    // The three are mandatory.
    "-excessiveblocksize=0",
    "-maxstackmemoryusageconsensus=0",
    "-minminingtxfee=0.000005",
    // Else about three verdicts in a thousand are `timeout` on a busy machine.
    "-maxstdtxvalidationduration=60000",
    "-maxnonstdtxvalidationduration=60001",
    "-maxtxnvalidatorasynctasksrunduration=60002",
];

/// A `bitcoind` with its files in `folder` that answers JSON-RPC on `rpc_port`, silent.
pub fn command(bitcoind: &Path, folder: &Path, rpc_port: u16) -> Command {
    let mut command = Command::new(bitcoind);
    command
        .arg(format!("-datadir={}", folder.display()))
        .arg(format!("-rpcport={rpc_port}"))
        .args(FLAGS)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
