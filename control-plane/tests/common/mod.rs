//! What the tests of the binary share: running it, and finding the vectors.

pub mod disk;
pub mod node;
pub mod rpc;
pub mod svnode;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

#[allow(dead_code)]
/// Runs `metanode`; its exit code and the object on the last line of its output.
pub fn run(args: &[&str]) -> (i32, Value) {
    let out = Command::new(env!("CARGO_BIN_EXE_metanode"))
        .args(args)
        .env("METANODE_SEAL", "abort")
        .output()
        .expect("the binary was built");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    let stderr = String::from_utf8_lossy(&out.stderr);
    let object = serde_json::from_str(last)
        .unwrap_or_else(|e| panic!("{args:?} printed {last:?} last ({e}); stderr:\n{stderr}"));
    (out.status.code().unwrap_or(-1), object)
}

/// Block 413567 and its previous outputs.
#[allow(dead_code)]
pub struct Vectors {
    pub block: String,
    pub coins: String,
}

impl Vectors {
    /// Beside the checkout, or where `METANODE_VECTORS` says. Missing: an error in CI, else the test is skipped.
    #[allow(dead_code)]
    pub fn find() -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
        let root = std::env::var_os("METANODE_VECTORS").map_or(beside, PathBuf::from);
        let block = root.join("bitcoin-sv+bitcoin-sv/src/bench/data/block413567.raw");
        let coins = root.join("derived-svnode-1.2.2/block413567_prevouts.jsonl");
        if block.exists() && coins.exists() {
            let text = |p: PathBuf| p.to_string_lossy().into_owned();
            return Some(Self { block: text(block), coins: text(coins) });
        }
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no vectors at {}", root.display());
        eprintln!("SKIPPED: no vectors at {}", root.display());
        None
    }
}
