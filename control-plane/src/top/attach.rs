//! Attaching to a node: the layout, the words, and the process that writes them.

use super::reading::{Raw, Reading};
use super::{LAYOUT_FILE, WORDS_FILE};
use crate::datadir::NODE_FILE;
use dataplane::topo::MonitorLayout;
use ring::WordsView;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopError {
    /// Nobody is there.
    #[error(
        "no node runs in {0}: there is no {NODE_FILE}; start one with `metanode run`, or name its --data-dir and --network"
    )]
    NoNode(PathBuf),
    /// A file that is not what it should be.
    #[error("reading {path}: {said}; is the node of the same version as this program?")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        said: String,
    },
    /// The words end too early.
    #[error(
        "{path} holds {got} words, its layout wants {expected}: the node has been restarted, try again"
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// Words in it.
        got: usize,
        /// Words of the layout.
        expected: usize,
    },
    /// The screen.
    #[error("drawing on this terminal: {0}; --once and --json need none")]
    Screen(#[from] std::io::Error),
}

/// A node that is looked at.
#[derive(Debug)]
pub struct Attached {
    /// Its process.
    pub pid: u64,
    folder: PathBuf,
    layout: MonitorLayout,
    words: WordsView,
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, TopError> {
    let fail = |said: String| TopError::File { path: path.to_owned(), said };
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| fail(e.to_string()))
}

impl Attached {
    /// Attaches to the node whose files are in `folder`.
    pub fn open(folder: &Path) -> Result<Self, TopError> {
        let node = folder.join(NODE_FILE);
        if !node.exists() {
            return Err(TopError::NoNode(folder.to_owned()));
        }
        let node: serde_json::Value = json(&node)?;
        let layout: MonitorLayout = json(&folder.join(LAYOUT_FILE))?;
        let path = folder.join(WORDS_FILE);
        let fail = |said: String| TopError::File { path: path.clone(), said };
        let words = WordsView::open_file(&path).map_err(|e| fail(e.to_string()))?;
        if words.len() < layout.metrics.words {
            let (got, expected) = (words.len(), layout.metrics.words);
            return Err(TopError::Short { path, got, expected });
        }
        let pid = node["pid"].as_u64().unwrap_or_default();
        Ok(Self { pid, folder: folder.to_owned(), layout, words })
    }

    /// Whether its process still announces itself.
    pub fn is_running(&self) -> bool {
        let node: Result<serde_json::Value, _> = json(&self.folder.join(NODE_FILE));
        node.is_ok_and(|node| node["pid"] == self.pid)
    }

    /// Every word of the layout, now.
    pub(super) fn raw(&self) -> Raw {
        let get = |at: usize| self.words.get(at).unwrap_or_default();
        Raw { at: Instant::now(), words: (0..self.layout.metrics.words).map(get).collect() }
    }

    /// What happened between two readings.
    pub(super) fn between(&self, before: &Raw, now: &Raw) -> Reading {
        Reading::between(self.pid, &self.layout, before, now)
    }

    /// What happens during `interval`, from now on.
    pub fn over(&self, interval: Duration) -> Result<Reading, TopError> {
        let before = self.raw();
        std::thread::sleep(interval);
        if self.is_running() {
            return Ok(self.between(&before, &self.raw()));
        }
        Err(TopError::NoNode(self.folder.clone()))
    }
}
