//! Which kernel does the work, and why this one: for logs, metrics and reports.

/// A chosen kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Short and stable, as reports spell it.
    pub name: &'static str,
    /// Why it was chosen here.
    pub why: &'static str,
}
