//! Who may call: the cookie file, or a user with a password file.
//!
//! In: the `Authorization` header of a request. Out: whether it names this node's user. Without a configured user the node
//! draws a password at every start and writes `__cookie__:PASSWORD` to `.cookie` in its data directory, readable by its
//! owner only, so that whoever may read the data directory may call; the file goes away at exit. Digests are compared, in
//! constant time, so neither the time nor the length tells anything. Source of the scheme: SV Node `rpc/protocol.cpp`
//! `GenerateAuthCookie`, `httprpc.cpp` `RPCAuthorized`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use consensus::hash::sha256;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// The name of the cookie file, unless another one is configured.
pub const COOKIE_FILE: &str = ".cookie";
/// The user the cookie names.
const COOKIE_USER: &str = "__cookie__";
/// Longest header that is looked at, in bytes.
const HEADER_BYTES_MAX: usize = 4_096;

/// What a request says about who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// No `Authorization` header.
    Nobody,
    /// A header, but not this node's user.
    Stranger,
    /// This node's user.
    Owner,
}

/// What keeps the node from having a user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The cookie could not be written.
    #[error("writing the cookie {path}: {error}; the folder must be writable by the node's user")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The system has no random numbers.
    #[error("drawing a password: {0}")]
    Random(String),
}

/// The one user of this node.
#[derive(Debug)]
pub struct Auth {
    /// SHA-256 of `user:password`.
    expected: [u8; 32],
    /// Removed when dropped.
    cookie: Option<PathBuf>,
}

impl Auth {
    /// Draws a password and writes it to a cookie file.
    pub fn with_cookie(path: &Path) -> Result<Self, AuthError> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(|error| AuthError::Random(error.to_string()))?;
        let line = format!("{COOKIE_USER}:{}", hex::encode(secret));
        let path = path.to_owned();
        let new = path.with_extension("new");
        let failed = |error| AuthError::File { path: path.clone(), error };
        let write = || {
            // A file left by a node that was killed may have other permissions.
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file =
                std::fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(line.as_bytes())?;
            std::fs::rename(&new, &path)
        };
        write().map_err(failed)?;
        Ok(Self { expected: sha256(line.as_bytes()), cookie: Some(path) })
    }

    /// A user and password at hand.
    pub fn with_password(user: &str, password: &str) -> Self {
        Self { expected: sha256(format!("{user}:{password}").as_bytes()), cookie: None }
    }

    /// Where the cookie is, if there is one.
    pub fn cookie_file(&self) -> Option<&Path> {
        self.cookie.as_deref()
    }

    /// Whether `line` is `user:password` of this node: what its cookie file holds.
    pub fn is_owner(&self, line: &str) -> bool {
        bool::from(sha256(line.as_bytes()).ct_eq(&self.expected))
    }

    /// Who sent a request with this `Authorization` header.
    pub fn who(&self, header: Option<&[u8]>) -> Who {
        let Some(header) = header else { return Who::Nobody };
        let named = header
            .get(..6)
            .filter(|scheme| {
                scheme.eq_ignore_ascii_case(b"Basic ") && header.len() <= HEADER_BYTES_MAX
            })
            .and_then(|_| STANDARD.decode(header[6..].trim_ascii()).ok());
        // Also without a name something is hashed and compared.
        let got = sha256(named.as_deref().unwrap_or_default());
        if bool::from(got.ct_eq(&self.expected)) && named.is_some() {
            Who::Owner
        } else {
            Who::Stranger
        }
    }
}

impl Drop for Auth {
    fn drop(&mut self) {
        if let Some(path) = &self.cookie {
            // Another node of the same directory may have written its own since; then it is not ours to take away.
            let ours = std::fs::read(path).is_ok_and(|line| sha256(&line) == self.expected);
            if ours {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn basic(text: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(text)).into_bytes()
    }

    #[test]
    fn the_cookie_is_private_opens_the_door_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(COOKIE_FILE);
        std::fs::write(path.with_extension("new"), "left behind").unwrap();
        let auth = Auth::with_cookie(&path).unwrap();
        let line = std::fs::read_to_string(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (user, password) = line.split_once(':').unwrap();
        assert_eq!((user, password.len()), ("__cookie__", 64));
        assert_eq!(auth.who(Some(&basic(&line))), Who::Owner);
        assert!(auth.is_owner(&line) && !auth.is_owner("") && !auth.is_owner(&line[1..]));
        assert_eq!(auth.who(None), Who::Nobody);
        drop(auth);
        assert!(!path.exists());
    }

    #[test]
    fn two_starts_draw_two_passwords_and_the_older_leaves_the_newer_cookie() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(COOKIE_FILE);
        let first = Auth::with_cookie(&path).unwrap();
        let line = std::fs::read_to_string(&path).unwrap();
        let second = Auth::with_cookie(&path).unwrap();
        assert_ne!(line, std::fs::read_to_string(&path).unwrap());
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn strangers_are_told_from_the_owner() {
        let auth = Auth::with_password("alice", "p:w");
        assert_eq!(auth.who(Some(&basic("alice:p:w"))), Who::Owner);
        assert_eq!(auth.who(Some(b"basic YWxpY2U6cDp3")), Who::Owner);
        let long = vec![b'A'; 10_000];
        for header in [
            &basic("alice:p:")[..],
            &basic("alice:p:ww"),
            &basic(""),
            b"Basic ",
            b"Basic !",
            b"",
            b"Bearer x",
            &long,
        ] {
            assert_eq!(
                auth.who(Some(header)),
                Who::Stranger,
                "{}",
                String::from_utf8_lossy(header)
            );
        }
    }
}
