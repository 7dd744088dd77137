//! The test run as one table: what it is made of, in the order it runs, and what each part needs.
//!
//! Cheap parts come first, so that a slip shows up in seconds. A part is one command line; `{target}` stands for the build
//! folder, `{seed}` for a number drawn once per run and printed, so that a failure can be replayed.

use crate::need::Need::{self, Path, Tool};

/// One part of the test run.
pub struct Part {
    /// What `cargo xtask test NAME` and `skips.txt` call it.
    pub name: &'static str,
    /// What it proves, in a few words.
    pub what: &'static str,
    /// The command line; words are split at spaces.
    pub command: &'static str,
    /// Runs in place of `command` where a need is not met; empty when there is no other way.
    pub fallback: &'static str,
    /// Environment on top of the caller's.
    pub env: &'static [(&'static str, &'static str)],
    /// What the machine or the checkout must have.
    pub needs: &'static [Need],
    /// After so many seconds the part is stopped and has failed.
    pub limit_s: u64,
}

const PLAIN: Part =
    Part { name: "", what: "", command: "", fallback: "", env: &[], needs: &[], limit_s: 300 };

/// Every part, in order.
pub const PARTS: &[Part] = &[
    Part {
        name: "fmt",
        what: "rustfmt has nothing to change",
        command: "cargo fmt --all --check -- --color never",
        needs: &[Tool(&["cargo", "fmt", "--version"])],
        ..PLAIN
    },
    Part {
        name: "tidy",
        what: "arrows, unsafe list, bans, module docs, folders, markdown, commands named in docs",
        command: "cargo test --package xtask",
        needs: &[Path(".git")],
        ..PLAIN
    },
    Part {
        name: "clippy",
        what: "no warning in any target, the third driver's feature included",
        command: "cargo clippy --workspace --features dataplane/glommio --all-targets -- --deny warnings",
        needs: &[Tool(&["cargo", "clippy", "--version"])],
        limit_s: 1_200,
        ..PLAIN
    },
    Part {
        name: "tests",
        what: "unit and integration tests of every crate",
        command: "cargo nextest run --workspace --features dataplane/glommio --exclude xtask --no-fail-fast",
        fallback: "cargo test --workspace --features dataplane/glommio --exclude xtask --no-fail-fast --lib --bins --tests",
        needs: &[Tool(&["cargo", "nextest", "--version"])],
        limit_s: 1_800,
        ..PLAIN
    },
    Part {
        name: "hw",
        what: "the host stages on this machine, in namespaces: state before apply is state after undo, also with kills in between",
        command: "cargo test --package hwconfig --test real -- --test-threads 1 --nocapture",
        needs: &[Tool(&["unshare", "--net", "--mount", "true"])],
        ..PLAIN
    },
    Part {
        name: "net",
        what: "every way to move packets keeps every promise, between network namespaces",
        command: "cargo xtask net --json",
        needs: &[Tool(&["unshare", "--net", "true"]), Tool(&["ip", "-V"])],
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "doctests",
        what: "examples in the documentation of every library",
        command: "cargo test --workspace --doc --no-fail-fast",
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "loom",
        what: "every ordering of the ring, explored; the broken ones must be found",
        command: "cargo test --release --package ring --lib",
        env: &[
            ("RUSTFLAGS", "--cfg loom"),
            ("CARGO_TARGET_DIR", "{target}/loom"),
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ],
        limit_s: 900,
        ..PLAIN
    },
    Part {
        name: "topo",
        what: "the table of the machine is sound here",
        command: "cargo run --release -- topo --json",
        limit_s: 900,
        ..PLAIN
    },
    Part {
        name: "demo",
        what: "the whole machine on a workload with faults: every count reconciles, every root is right",
        command: "cargo run --release -- demo --seed {seed} --json",
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "verify-block",
        what: "mainnet block 413567 through the same tiles, every input verified",
        command: "cargo run --release -- verify-block --block ../shared/vectors/bitcoin-sv+bitcoin-sv/src/bench/data/block413567.raw --coins ../shared/vectors/derived-svnode-1.2.2/block413567_prevouts.jsonl --height 413567 --network mainnet --json",
        needs: &[Path("../shared/vectors")],
        ..PLAIN
    },
    Part {
        name: "sim",
        what: "real tiles in any order 200 seeds say, against a shadow of the UTXO set",
        command: "cargo run --release --package bench -- sim --seeds 0..200 --steps 20000 --json",
        limit_s: 900,
        ..PLAIN
    },
    Part {
        name: "sim-plants",
        what: "every bug planted in the machine is found, else the simulator proves nothing",
        command: "cargo run --release --package bench -- sim --plants --json",
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "vectors",
        what: "every row of the test vectors beside the checkout; the counts are asserted",
        command: "cargo run --release --package bench -- vectors --root ../shared/vectors --json",
        needs: &[Path("../shared/vectors")],
        limit_s: 900,
        ..PLAIN
    },
    Part {
        name: "fuzz-sig",
        what: "signatures of twenty-six kinds from a fresh seed, the same verdict as libsecp256k1",
        command: "cargo xtask fuzz-sig --cases 20000 --seed {seed} --json",
        limit_s: 900,
        ..PLAIN
    },
    Part {
        name: "mutants-sig",
        what: "the signature kernel broken in two hundred places of 1,400; its tests notice each",
        command: "cargo xtask mutants-sig --sample 200 --seed {seed} --json",
        limit_s: 1_200,
        ..PLAIN
    },
    Part {
        name: "oracle",
        what: "fresh random scripts and spends, the same verdict as SV Node and as the script model",
        command: "cargo run --release --package bench -- oracle --cases 20000 --seed {seed} --json",
        needs: &[Tool(&["python3", "-m", "pip", "--version"])],
        limit_s: 900,
        ..PLAIN
    },
    Part {
        name: "instructions",
        what: "no consensus kernel needs five percent more instructions than its baseline",
        command: "cargo run --release --package bench -- consensus --json",
        needs: &[Tool(&["valgrind", "--version"])],
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "ring-gate",
        what: "no message over a link needs five percent more instructions than its baseline",
        command: "cargo run --release --package bench -- ring --gate --json",
        needs: &[Tool(&["valgrind", "--version"])],
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "utxo",
        what: "no operation of the UTXO table needs five percent more instructions than its baseline; the table ends as it should",
        command: "cargo run --release --package bench -- utxo --records 100000 --durability none --json",
        needs: &[Tool(&["valgrind", "--version"])],
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "utxo-durable",
        what: "the table with its journal ends as the one without, after it was closed and opened, and after a kill in the middle",
        command: "cargo run --release --package bench -- utxo --records 100000 --durability epoch --json",
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "utxo-rivals",
        what: "RocksDB, LMDB, redb and fjall end with the same coins as the table; its numbers are for quiet machines",
        command: "cargo run --release --package bench --features rivals -- utxo --records 100000 --durability none --json",
        needs: &[
            Tool(&["valgrind", "--version"]),
            Path("/usr/lib/x86_64-linux-gnu/librocksdb.so"),
            Path("/usr/lib/llvm-14/lib/libclang.so"),
        ],
        limit_s: 1_800,
        ..PLAIN
    },
    Part {
        name: "utxo-rivals-durable",
        what: "the same, each with what it has applied on the disk every five milliseconds",
        command: "cargo run --release --package bench --features rivals -- utxo --records 20000 --durability epoch --json",
        needs: &[
            Path("/usr/lib/x86_64-linux-gnu/librocksdb.so"),
            Path("/usr/lib/llvm-14/lib/libclang.so"),
        ],
        limit_s: 1_800,
        ..PLAIN
    },
    Part {
        name: "rate",
        what: "a stranger's script drives SV Node and our node alike; its numbers are for quiet machines",
        command: "cargo xtask rate -n 2000 --rounds 1 --load-s 2 --json",
        needs: &[Tool(&["python3", "-m", "pip", "--version"]), Path("../shared/tools/txrate.py")],
        limit_s: 900,
        ..PLAIN
    },
    Part {
        name: "storm",
        what: "rivals at the same moment, a chain of 25,000 unconfirmed, kills under load",
        command: "cargo run --release --package bench -- storm --rivals 1000 --kills 2 --seed {seed} --json",
        limit_s: 900,
        ..PLAIN
    },
    Part {
        name: "crash",
        what: "twenty kills of a node under load: nothing acknowledged is lost, nothing is there that nobody sent",
        command: "cargo xtask crash --rounds 20 --seed {seed} --json",
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "hostile",
        what: "a minute of everything that is no request: clear errors, counters, no growth, honest load served",
        command: "cargo xtask hostile --minutes 1 --seed {seed} --json",
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "race",
        what: "our relay and its rivals move objects over links that lose frames; what arrives is what was sent",
        command: "cargo run --release --package bench -- relay --check --seed {seed} --json",
        needs: &[Tool(&["unshare", "--net", "true"])],
        limit_s: 600,
        ..PLAIN
    },
    Part {
        name: "emulate",
        what: "links between namespaces stand, count and go away again",
        command: "cargo run --release --package bench -- emulate --hops 3 --delay-ms 5 --for-s 1 --prefix mnci --json",
        needs: &[Tool(&["unshare", "--net", "true"])],
        ..PLAIN
    },
    Part {
        name: "pipeline",
        what: "the benchmark of the whole machine runs and reconciles; its numbers are for quiet machines",
        command: "cargo run --release --package bench -- pipeline --workloads p2pkh,optrue --txs 5000 --rounds 1 --no-overload --json",
        limit_s: 600,
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_name_of_its_own_a_reason_and_a_command() {
        for (at, part) in PARTS.iter().enumerate() {
            assert!(!part.what.is_empty() && !part.command.is_empty(), "{}", part.name);
            assert!(PARTS[..at].iter().all(|other| other.name != part.name), "{}", part.name);
        }
    }

    #[test]
    fn only_parts_of_the_table_may_be_skipped_in_ci() {
        for name in crate::run::may_skip() {
            assert!(
                PARTS.iter().any(|part| part.name == name),
                "skips.txt names `{name}`: no part"
            );
        }
    }
}
