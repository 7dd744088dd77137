//! Why the node is not ready, if it is not: each part puts its reason here and takes it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Reasons against sending traffic to this node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// Ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// `part` is not ready, for this reason; replaces its earlier one.
    pub fn block(&self, part: &'static str, reason: impl Into<String>) {
        self.lock().insert(part, reason.into());
    }

    /// `part` is ready.
    pub fn clear(&self, part: &'static str) {
        self.lock().remove(part);
    }

    /// Whether nobody has a reason against it.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    /// All reasons, each with its part.
    pub fn reasons(&self) -> Vec<String> {
        self.lock().iter().map(|(part, reason)| format!("{part}: {reason}")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
