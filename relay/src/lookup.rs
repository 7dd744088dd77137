//! The two questions a relay asks its host: which transaction is this, and is this header one to spend memory on?
//!
//! A node answers from its pool and its chain; a relay of its own answers from bounded stores.

/// Is called for each transaction found: which of the ids, txid, bytes.
pub type Found<'a> = dyn FnMut(usize, &[u8; 32], &[u8]) + 'a;

/// Short ids to transactions.
pub trait TxLookup: Send {
    /// For each id that is known, calls `found(which, txid, bytes)`; an ambiguous id is found once for each candidate.
    ///
    /// The id of a transaction is SipHash-1-3 of its txid under `salt`.
    fn resolve(&mut self, salt: [u8; 16], ids: &[u64], found: &mut Found<'_>);

    /// Remembers a transaction that came in a bundle.
    fn offer(&mut self, txid: [u8; 32], bytes: &[u8]);
}

/// What is known about block headers.
pub trait HeaderView: Send {
    /// Whether the block may be built on: its header is known.
    fn parent_known(&self, hash: &[u8; 32]) -> bool;

    /// Compact target that a child of `parent` with this time must meet; `None` when the parent is unknown.
    fn required_bits(&self, parent: &[u8; 32], time_s: u32) -> Option<u32>;

    /// A header that passed both questions, so that its children pass too.
    fn accepted(&mut self, header: &[u8; 80]);
}

/// Both lookups of one host.
#[expect(missing_debug_implementations, reason = "holds the host's boxes")]
pub struct Lookups {
    /// Short ids to transactions.
    pub txs: Box<dyn TxLookup>,
    /// Known headers.
    pub headers: Box<dyn HeaderView>,
}
