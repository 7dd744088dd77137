//! Keys of relays: a secret in a file that only its owner may read, a public one that is passed around as text.
//!
//! In: a path. Out: the pair, or a sentence. The file is one line of 64 hex digits. Secrets come from files and go nowhere else: no
//! flag, no variable, no log line holds one.

use crate::config::secret;
use relay::link::Keys;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// 32 bytes of 64 hex digits.
pub fn parse(text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    let digits = text.trim();
    hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_| format!("got {} characters, expected 64 hex digits", digits.len()))?;
    Ok(bytes)
}

/// Reads the pair from the file with the secret.
pub fn read(path: &Path) -> Result<Keys, String> {
    read_secret(path).map(Keys::from_secret)
}

/// Reads a secret key of either kind: a relay's, or an origin's.
pub fn read_secret(path: &Path) -> Result<[u8; 32], String> {
    let at = path.display();
    let told = |error: std::io::Error| {
        format!("reading the key {at}: {error}; `metanode relay keygen` writes one")
    };
    let mode = std::fs::metadata(path).map_err(told)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "the key {at} has the rights {mode:o}, expected 600; try chmod 600 {at}"
        ));
    }
    // What is in the file is not said: it may be a key with a slip in it.
    let text = secret::read(path)?;
    parse(&text).map_err(|_| format!("{at}: the first line is no key of 64 hex digits"))
}

/// Draws a secret and writes it, never over a file that is there.
pub fn write_new(path: &Path) -> Result<[u8; 32], String> {
    let told = |error: std::io::Error| format!("writing the key {}: {error}", path.display());
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("drawing a key: {error}"))?;
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(told)?;
    }
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(told)?;
    file.write_all(format!("{}\n", hex::encode(bytes)).as_bytes()).map_err(told)?;
    file.sync_all().map_err(told)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_private_read_back_and_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/relay.key");
        let secret = write_new(&path).expect("written");
        assert_eq!(read_secret(&path), Ok(secret));
        assert_eq!(read(&path).expect("read").public(), Keys::from_secret(secret).public());
        assert!(write_new(&path).expect_err("it is there").contains("exists"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(read(&path).expect_err("too open").contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
        std::fs::write(&path, "deadbeef\n").expect("ours");
        let said = read(&path).expect_err("too short");
        assert!(!said.contains("deadbeef"), "{said}");
        let none = read(&folder.path().join("none")).expect_err("not there");
        assert!(none.contains("relay keygen"), "{none}");
    }

    #[test]
    fn other_texts_than_64_hex_digits_are_no_key() {
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64), &"0".repeat(65)] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse(&format!(" {} ", "ab".repeat(32))), Ok([0xab; 32]));
    }
}
