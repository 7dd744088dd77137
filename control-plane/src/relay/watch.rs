//! Who watches what comes: every received object, told at once to whoever asked.
//!
//! In: objects, as the relay's thread has them. Out: a bounded queue for each watcher, in objects and in bytes; the thread never waits. Who
//! reads too slowly loses objects and is told how many; they are in the inbox all the same.

use relay::Class;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Watchers at one time.
pub const WATCHERS_MAX: usize = 8;
/// Objects that wait for one watcher.
const WAITING_MAX: usize = 1_024;
/// Bytes of theirs, where it wants them.
const WAITING_BYTES_MAX: u64 = 256 << 20;

/// An object that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// What it is.
    pub class: &'static str,
    /// It.
    pub bytes: Arc<[u8]>,
    /// Who sent its first symbol.
    pub from: String,
    /// Microseconds since then.
    pub took_us: u64,
}

/// What a watcher is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Objects before this one that it was too slow for.
    pub lost: u64,
    /// About the object.
    pub line: Value,
    /// The object, where it wants it.
    pub bytes: Option<Arc<[u8]>>,
}

/// One watcher, as the relay's thread sees it.
#[derive(Debug)]
pub struct Watcher {
    sender: mpsc::Sender<Told>,
    class: Option<Class>,
    with_bytes: bool,
    waiting_bytes: Arc<AtomicU64>,
    lost: u64,
}

/// The other end.
#[derive(Debug)]
pub struct Watch {
    receiver: mpsc::Receiver<Told>,
    waiting_bytes: Arc<AtomicU64>,
}

/// A watcher of this class, or of all, and the end that it reads.
pub fn pair(class: Option<Class>, with_bytes: bool) -> (Watcher, Watch) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let waiting_bytes = Arc::new(AtomicU64::new(0));
    let watcher =
        Watcher { sender, class, with_bytes, waiting_bytes: waiting_bytes.clone(), lost: 0 };
    (watcher, Watch { receiver, waiting_bytes })
}

impl Watch {
    /// The next object; `None` when the relay stops, or has too many watchers.
    pub async fn next(&mut self) -> Option<Told> {
        let told = self.receiver.recv().await?;
        let bytes = told.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        Some(told)
    }
}

/// All watchers.
#[derive(Debug, Default)]
pub struct Watchers {
    all: Vec<Watcher>,
    told: u64,
    lost: u64,
    refused: u64,
}

impl Watchers {
    /// One more, if there is room; else its end is told so by being closed.
    pub fn add(&mut self, watcher: Watcher) {
        self.all.retain(|watcher| !watcher.sender.is_closed());
        if self.all.len() < WATCHERS_MAX {
            self.all.push(watcher);
        } else {
            self.refused += 1;
        }
    }

    /// Tells everybody who wants to know.
    pub fn tell(&mut self, seen: &Seen) {
        self.all.retain(|watcher| !watcher.sender.is_closed());
        let line = json!({ "object": {
            "id": seen.id, "class": seen.class, "bytes": seen.bytes.len(), "from": seen.from, "took_us": seen.took_us,
        }});
        for watcher in &mut self.all {
            if watcher.class.is_some_and(|class| super::host::class_name(class) != seen.class) {
                continue;
            }
            let bytes = watcher.with_bytes.then(|| seen.bytes.clone());
            let len = bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
            let waiting = watcher.waiting_bytes.fetch_add(len, Ordering::AcqRel);
            let told = Told { lost: watcher.lost, line: line.clone(), bytes };
            // An object above the bound goes to a watcher that has nothing else to read.
            let fits = waiting == 0 || waiting + len <= WAITING_BYTES_MAX;
            if fits && watcher.sender.try_send(told).is_ok() {
                watcher.lost = 0;
                self.told += 1;
            } else {
                watcher.waiting_bytes.fetch_sub(len, Ordering::AcqRel);
                watcher.lost += 1;
                self.lost += 1;
            }
        }
    }

    /// For `relay status`.
    pub fn shown(&self) -> Value {
        let now = self.all.iter().filter(|watcher| !watcher.sender.is_closed()).count();
        json!({ "now": now, "told": self.told, "lost": self.lost, "refused": self.refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: usize, len: usize, class: &'static str) -> Seen {
        let (id, from) = (format!("{id:016x}"), "b".to_owned());
        Seen { id, class, bytes: vec![7; len].into(), from, took_us: 9 }
    }

    #[tokio::test]
    async fn a_slow_watcher_loses_objects_and_is_told_how_many() {
        let mut watchers = Watchers::default();
        let (watcher, mut watch) = pair(None, false);
        watchers.add(watcher);
        for id in 0..WAITING_MAX + 5 {
            watchers.tell(&seen(id, 3, "opaque"));
        }
        for id in 0..WAITING_MAX {
            let told = watch.next().await.expect("it waits");
            assert_eq!(
                (told.lost, told.line["object"]["id"].as_str()),
                (0, Some(&*format!("{id:016x}")))
            );
            assert!(told.bytes.is_none());
        }
        watchers.tell(&seen(1, 3, "opaque"));
        assert_eq!(watch.next().await.expect("told").lost, 5);
        assert_eq!(watchers.shown()["lost"], 5);
        drop(watch);
        assert_eq!(watchers.shown()["now"], 0);
    }

    #[tokio::test]
    async fn bytes_that_wait_are_bounded_and_a_class_can_be_asked_for() {
        let mut watchers = Watchers::default();
        let (watcher, mut watch) = pair(Some(Class::Block), true);
        watchers.add(watcher);
        let large = WAITING_BYTES_MAX as usize / 4 + 1;
        for _ in 0..5 {
            watchers.tell(&seen(1, large, "block"));
            watchers.tell(&seen(2, 10, "opaque"));
        }
        assert_eq!((watchers.told, watchers.lost), (3, 2));
        let told = watch.next().await.expect("it waits");
        assert_eq!(told.bytes.map(|bytes| bytes.len()), Some(large));
        watchers.tell(&seen(3, 5, "block"));
        assert_eq!(watchers.told, 4, "what was read makes room");
    }

    #[test]
    fn watchers_beyond_the_bound_are_turned_away() {
        let mut watchers = Watchers::default();
        let mut ends = Vec::new();
        for _ in 0..=WATCHERS_MAX {
            let (watcher, watch) = pair(None, false);
            watchers.add(watcher);
            ends.push(watch);
        }
        assert_eq!((watchers.all.len(), watchers.refused), (WATCHERS_MAX, 1));
        assert!(ends.last_mut().expect("many").receiver.try_recv().is_err());
    }
}
