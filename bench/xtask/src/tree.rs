//! Where things are: the checkout's root, its tracked and new files, the target folder.
//!
//! Every other room asks here, so that `cargo xtask` and `cargo test -p xtask` look at the same files from any folder.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout's root: two folders above this crate's manifest.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("bench/xtask lies two folders below the root")
        .to_path_buf()
}

/// The build folder: `CARGO_TARGET_DIR` when set, else `target` in the checkout.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Paths of all files that are tracked, or new and not ignored, relative to the root, sorted.
pub fn files() -> Vec<String> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("`git ls-files` runs: tidy needs git and a checkout");
    assert!(
        out.status.success(),
        "`git ls-files` failed in {}: {}",
        root().display(),
        String::from_utf8_lossy(&out.stderr)
    );
    let mut files: Vec<String> = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|path| root().join(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    files
}

/// Text of a file of the checkout, by its path from the root.
pub fn read(path: &str) -> String {
    let full = root().join(path);
    match std::fs::read(&full) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => panic!("reading {}: {error}", full.display()),
    }
}
