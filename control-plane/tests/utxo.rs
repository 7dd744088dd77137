//! `metanode utxo` as a user runs it, on Teranode's own seed files.

mod common;

use common::run;
use std::path::PathBuf;

const NAME: &str = "6d0e693024653c9dde15b731f09bf31aa3174302890ec751500250c2a4ea0984.utxo-set";
const STATE_HASH_BYTES: usize = 64;

/// Teranode's seed; `None`, said aloud, where the vectors are not beside the checkout.
fn seed() -> Option<PathBuf> {
    let vectors = "../shared/vectors/bsv-blockchain+teranode/test/utils/data/seed";
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(vectors).join(NAME);
    if beside.is_file() {
        return Some(beside);
    }
    eprintln!("no {}: skipped", beside.display());
    None
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn a_seed_is_imported_verified_inspected_and_exported_the_same() {
    let Some(seed) = seed() else { return };
    let temp = tempfile::tempdir().expect("a temporary directory");
    let (dir, out) = (temp.path().join("set"), temp.path().join("out.utxo-set"));
    let (code, imported) = run(&["utxo", "import", text(&seed), text(&dir), "--json"]);
    assert_eq!(code, 0, "{imported}");
    assert_eq!(imported["sha256_checked"], true, "{imported}");
    let (code, verified) = run(&["utxo", "verify", text(&dir), "--json"]);
    assert_eq!(code, 0, "{verified}");
    assert_eq!(verified["utxos"], 101);
    assert_eq!(verified["transactions"], 101);
    assert_eq!(verified["dangling"], 0);
    assert_eq!(verified["epoch"], 0);
    let hash = verified["state_hash"].as_str().expect("a hash");
    assert_eq!(hash.len(), STATE_HASH_BYTES);
    let (code, inspected) = run(&["utxo", "inspect", text(&dir), "--json"]);
    assert_eq!(code, 0, "{inspected}");
    assert_eq!(inspected["height"], 101);
    assert_eq!(inspected["coinbases"], 101);
    assert_eq!(inspected["value_sat"], 505_000_000_000_u64);
    assert_eq!(inspected["scripts"]["p2pk"], 101);
    let (code, exported) = run(&["utxo", "export", text(&dir), text(&out), "--json"]);
    assert_eq!(code, 0, "{exported}");
    let (code, again) = run(&["utxo", "verify", text(&out), "--json"]);
    assert_eq!(code, 0, "{again}");
    assert_eq!(again["state_hash"], verified["state_hash"]);
    // The headers beside it went the same way, without the 48 bytes that the older kind ends with.
    for object in [&imported, &verified, &inspected, &exported, &again] {
        assert_eq!(object["headers"], 101, "{object}");
    }
    assert_eq!(imported["headers_sha256_checked"], true, "{imported}");
    let headers = |path: &std::path::Path| {
        std::fs::read(path.with_extension("utxo-headers")).expect("headers beside the set")
    };
    let (old, new) = (headers(&seed), headers(&out));
    assert_eq!(new[8..], old[8..old.len() - 48]);
    // The older kind ends its list with 32 zero bytes more.
    let length = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").len();
    assert_eq!(length(&out) + 32, length(&seed));
}

#[test]
fn nothing_is_overwritten_and_a_damaged_file_leaves_nothing_behind() {
    let Some(seed) = seed() else { return };
    let temp = tempfile::tempdir().expect("a temporary directory");
    let dir = temp.path().join("set");
    let damaged = temp.path().join(NAME);
    let mut bytes = std::fs::read(&seed).expect("the seed was found");
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    std::fs::write(&damaged, &bytes).expect("writable");
    let (code, object) = run(&["utxo", "import", text(&damaged), text(&dir), "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(object["error"].as_str().is_some_and(|e| e.contains("number of outputs")), "{object}");
    bytes[end] ^= 1;
    std::fs::write(&damaged, &bytes).expect("writable");
    let list = format!("{}  {NAME}\n", "0".repeat(64));
    std::fs::write(temp.path().join(format!("{NAME}.sha256")), list).expect("writable");
    let (code, object) = run(&["utxo", "import", text(&damaged), text(&dir), "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(object["error"].as_str().is_some_and(|e| e.contains("SHA-256")), "{object}");
    let left = std::fs::read_dir(&dir).expect("it was made").count();
    assert_eq!(left, 0, "nothing is left behind");
    let (code, object) = run(&["utxo", "verify", text(&dir), "--json"]);
    assert_eq!(code, 1, "{object}");
    assert_eq!(run(&["utxo", "import", text(&seed), text(&dir), "--json"]).0, 0);
    let (code, object) = run(&["utxo", "import", text(&seed), text(&dir), "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(object["error"].as_str().is_some_and(|e| e.contains("there already")), "{object}");
}

#[test]
fn headers_are_brought_to_their_set_and_to_no_other() {
    let Some(seed) = seed() else { return };
    let temp = tempfile::tempdir().expect("a temporary directory");
    let (alone, dir) = (temp.path().join(NAME), temp.path().join("set"));
    std::fs::copy(&seed, &alone).expect("writable");
    let (code, object) = run(&["utxo", "import", text(&alone), text(&dir), "--json"]);
    assert_eq!((code, object["headers"].is_null()), (0, true), "{object}");
    let headers = seed.with_extension("utxo-headers");
    let other = temp.path().join("other.utxo-headers");
    let mut bytes = std::fs::read(&headers).expect("the seed's headers");
    bytes[9] ^= 1;
    std::fs::write(&other, &bytes).expect("writable");
    let (code, object) = run(&["utxo", "import", text(&other), text(&dir), "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(object["error"].as_str().is_some_and(|e| e.contains("the set is as of")), "{object}");
    bytes[9] ^= 1;
    bytes[5_000] ^= 1;
    std::fs::write(&other, &bytes).expect("writable");
    let (code, object) = run(&["utxo", "import", text(&other), text(&dir), "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(
        object["error"].as_str().is_some_and(|e| e.contains("the header at height")),
        "{object}"
    );
    let (code, object) = run(&["utxo", "import", text(&headers), text(&dir), "--json"]);
    assert_eq!((code, object["headers"].as_u64()), (0, Some(101)), "{object}");
    let (code, object) = run(&["utxo", "import", text(&headers), text(&dir), "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(object["error"].as_str().is_some_and(|e| e.contains("there already")), "{object}");
}
