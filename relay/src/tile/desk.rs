//! The desk: what threads that are not tiles ask of a relay on its tiles, and what it shows them.
//!
//! In: whom to speak with from now on. Out: the numbers of the engine and of the socket, as they were a moment ago. Both tiles float on
//! threads of their own and come to the desk a few times a second, so a lock that is held for one copy costs nobody anything.

use crate::PeerConfig;
use crate::engine::Status;
use crate::io::IoStats;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Handles to one desk.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether `peers` has something: looked at in every housekeeping.
    is_asked: AtomicBool,
    peers: Mutex<Option<Vec<PeerConfig>>>,
    shown: Mutex<Shown>,
}

/// What the tiles have shown last.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Of the engine; none before its tile has turned.
    pub engine: Option<Status>,
    /// Of the socket.
    pub io: IoStats,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Desk {
    /// From now on these peers; links of peers that stay are not touched.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        *locked(&self.inner.peers) = Some(peers);
        self.inner.is_asked.store(true, Ordering::Release);
    }

    /// What the tiles have shown last.
    pub fn shown(&self) -> Shown {
        locked(&self.inner.shown).clone()
    }

    pub(super) fn take_peers(&self) -> Option<Vec<PeerConfig>> {
        let is_asked = self.inner.is_asked.swap(false, Ordering::AcqRel);
        is_asked.then(|| locked(&self.inner.peers).take()).flatten()
    }

    pub(super) fn show_engine(&self, status: Status) {
        locked(&self.inner.shown).engine = Some(status);
    }

    pub(super) fn show_io(&self, io: IoStats) {
        locked(&self.inner.shown).io = io;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_taken_once_and_the_newest_win() {
        let desk = Desk::default();
        assert_eq!(desk.take_peers(), None);
        desk.clone().set_peers(Vec::new());
        let peer = PeerConfig {
            name: "a".into(),
            addr: None,
            public_key: [1; 32],
            trusted: false,
            rate_mbit: 1,
            dedicated_line: false,
        };
        desk.set_peers(vec![peer.clone()]);
        assert_eq!(desk.take_peers(), Some(vec![peer]));
        assert_eq!(desk.take_peers(), None);
    }
}
