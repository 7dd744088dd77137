//! Rules about the tree: the top level is the house's rooms and nothing else, and no blob hides in it.

use super::{Finding, Source};

/// Top-level folders, as design.md section 2 names them.
const ROOMS: [&str; 7] =
    ["dataplane", "relay", "utxo-shard", "control-plane", "bench", "hwconfig", "docs"];
/// Top-level files beside dot-files.
const DOORPLATES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "README.md", "LICENSE"];

/// Largest file that is committed without being named here.
const BLOB_BYTES_MAX: u64 = 1 << 20;
/// Test data that may be larger.
const LARGE_FILES: [&str; 0] = [];

/// Nothing stands at the top level but rooms, doorplates and dot-files.
pub fn top_level(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let fine = match source.path.split_once('/') {
            Some((room, _)) => ROOMS.contains(&room) || room.starts_with('.'),
            None => DOORPLATES.contains(&source.path.as_str()) || source.path.starts_with('.'),
        };
        if !fine {
            findings.push(Finding::new(&source.path, 1, "put it into the room it belongs to"));
        }
    }
    findings
}

/// No file is larger than [`BLOB_BYTES_MAX`], but those named.
pub fn blobs(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        if source.bytes > BLOB_BYTES_MAX && !LARGE_FILES.contains(&source.path.as_str()) {
            let text =
                format!("{} bytes; keep blobs out, or generate them in a test", source.bytes);
            findings.push(Finding::new(&source.path, 1, text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_at_the_top_level_and_a_large_file_are_found() {
        let stranger = Source::planted("scripts/x.sh", "");
        let room = Source::planted("relay/src/lib.rs", "");
        let dot = Source::planted(".gitignore", "");
        assert_eq!(top_level(&[stranger, room, dot]).len(), 1);
        let blob = Source { path: "docs/x.png".into(), text: String::new(), bytes: 2 << 20 };
        assert_eq!(blobs(&[blob]).len(), 1);
    }
}
