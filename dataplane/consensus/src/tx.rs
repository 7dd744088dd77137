//! Transactions: bytes become a view, a view answers questions, a builder makes bytes.
//!
//! Nothing here decides whether a transaction is valid (see `rules`); a view exists for every byte string that is a
//! well-formed transaction. Parsing writes where each script stands into a reusable [`TxLayout`]; a [`TxView`] is that
//! layout and the borrowed bytes. So a hot tile parses without allocating, and parsing can stop after any item and go
//! on in a later turn ([`TxParser`]). Two formats come in:
//!
//! ```text
//! raw       version i32 | cs(n) | n x ( txid 32 | vout u32 | cs(len) unlocking script | sequence u32 )
//!                       | cs(m) | m x ( value i64 | cs(len) locking script ) | lock time u32
//! extended  version i32 | 00 00 00 00 00 EF | inputs as above, each followed by ( value u64 | cs(len) locking script )
//!                       | outputs and lock time as above
//! ```
//!
//! The transaction id is always the double SHA-256 of the raw form. Source: SV Node `primitives/transaction.h`; BRC-30.

mod id;
mod layout;
mod owned;
mod parse;

pub use crate::wire::{ParseError, ParseErrorKind};
pub use id::{TxIdHasher, TxIdState};
pub use layout::TxLayout;
pub use owned::{Coin, Tx, TxIn, TxOut};
pub use parse::{Format, Limits, Progress, TxParser, parse, parse_prefix};

use crate::hash::{TxId, sha256d};
use crate::wire::{compact_size_len, write_compact_size};
use std::fmt;

/// The six bytes between version and input count of the extended format. Source: BRC-30.
pub const EXTENDED_MARKER: [u8; 6] = [0, 0, 0, 0, 0, 0xef];

/// A sequence number that opts out of every lock. Source: SV Node `CTxIn::SEQUENCE_FINAL`.
pub const SEQUENCE_FINAL: u32 = 0xffff_ffff;

/// Names one output of one transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OutPoint {
    /// The transaction that made the output.
    pub txid: TxId,
    /// The output's place in it.
    pub vout: u32,
}

impl OutPoint {
    /// What a coinbase claims to spend.
    pub const NULL: Self = Self { txid: TxId::ZERO, vout: u32::MAX };
    /// Bytes on the wire.
    pub const BYTES: usize = 36;

    /// True for the outpoint of a coinbase input.
    pub fn is_null(&self) -> bool {
        *self == Self::NULL
    }

    /// Wire form: the txid's bytes, then the index little endian.
    pub fn to_bytes(self) -> [u8; 36] {
        let mut b = [0u8; 36];
        b[..32].copy_from_slice(&self.txid.0);
        b[32..].copy_from_slice(&self.vout.to_le_bytes());
        b
    }

    /// Reads the wire form.
    pub fn from_bytes(b: &[u8; 36]) -> Self {
        let (txid, vout) = b.split_at(32);
        Self {
            txid: TxId(txid.try_into().expect("32 bytes of 36")),
            vout: u32::from_le_bytes(vout.try_into().expect("4 bytes of 36")),
        }
    }
}

impl fmt::Display for OutPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.txid, self.vout)
    }
}

impl fmt::Debug for OutPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The spent coin as an extended transaction claims it. A claim, until its owner confirms it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinRef<'a> {
    /// Claimed value in satoshi.
    pub value_sat: u64,
    /// Claimed locking script.
    pub locking_script: &'a [u8],
}

/// One input of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputView<'a> {
    /// The output this input spends.
    pub prev: OutPoint,
    /// The script that satisfies the locking script (scriptSig).
    pub unlocking_script: &'a [u8],
    /// The sequence number.
    pub sequence: u32,
    /// The spent coin, in the extended format.
    pub extended: Option<CoinRef<'a>>,
}

/// One output of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputView<'a> {
    /// Value in satoshi; the wire allows negative values, the rules do not.
    pub value_sat: i64,
    /// The script that a spender has to satisfy (scriptPubKey).
    pub locking_script: &'a [u8],
}

/// A parsed transaction over borrowed bytes. Copying it copies two references.
#[derive(Clone, Copy)]
pub struct TxView<'a> {
    bytes: &'a [u8],
    layout: &'a TxLayout,
}

impl<'a> TxView<'a> {
    /// Puts a finished layout and its bytes together again, for example in a later turn.
    ///
    /// # Panics
    /// If the layout is not finished or was made from a transaction of another length.
    pub fn new(bytes: &'a [u8], layout: &'a TxLayout) -> Self {
        assert!(layout.is_done(), "the layout of a transaction is viewed before parsing was done");
        assert!(
            bytes.len() == layout.total_bytes(),
            "a layout of {} bytes is put on {} bytes",
            layout.total_bytes(),
            bytes.len()
        );
        Self { bytes, layout }
    }

    /// The version, signed as everywhere in the rules.
    pub fn version(&self) -> i32 {
        i32::from_le_bytes(self.field(0))
    }

    /// The lock time.
    pub fn lock_time(&self) -> u32 {
        u32::from_le_bytes(self.field(self.bytes.len() - 4))
    }

    /// Number of inputs.
    #[inline]
    pub fn input_count(&self) -> usize {
        self.layout.inputs.len()
    }

    /// Number of outputs.
    #[inline]
    pub fn output_count(&self) -> usize {
        self.layout.outputs.len()
    }

    /// Input `i`.
    ///
    /// # Panics
    /// If there is no such input.
    #[inline]
    pub fn input(&self, i: usize) -> InputView<'a> {
        let span = &self.layout.inputs[i];
        let extended = span.coin().map(|coin| CoinRef {
            value_sat: u64::from_le_bytes(self.field(span.unlocking_end() + 4)),
            locking_script: &self.bytes[coin],
        });
        InputView {
            prev: OutPoint::from_bytes(&self.field(span.at())),
            unlocking_script: &self.bytes[span.unlocking()],
            sequence: u32::from_le_bytes(self.field(span.unlocking_end())),
            extended,
        }
    }

    /// The outpoint input `i` spends, without the rest.
    #[inline]
    pub fn prev(&self, i: usize) -> OutPoint {
        OutPoint::from_bytes(&self.field(self.layout.inputs[i].at()))
    }

    /// Output `i`.
    ///
    /// # Panics
    /// If there is no such output.
    #[inline]
    pub fn output(&self, i: usize) -> OutputView<'a> {
        let span = &self.layout.outputs[i];
        OutputView {
            value_sat: i64::from_le_bytes(self.field(span.at())),
            locking_script: &self.bytes[span.locking()],
        }
    }

    /// All inputs in order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = InputView<'a>> + use<'a> {
        let this = *self;
        (0..self.input_count()).map(move |i| this.input(i))
    }

    /// All outputs in order.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = OutputView<'a>> + use<'a> {
        let this = *self;
        (0..self.output_count()).map(move |i| this.output(i))
    }

    /// The bytes as they came, extension included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The layout behind the view.
    pub fn layout(&self) -> &'a TxLayout {
        self.layout
    }

    /// The wire form of input `i`, without its extension.
    pub fn input_bytes(&self, i: usize) -> &'a [u8] {
        let span = &self.layout.inputs[i];
        &self.bytes[span.at()..span.unlocking_end() + 4]
    }

    /// The wire form of output `i`.
    pub fn output_bytes(&self, i: usize) -> &'a [u8] {
        let span = &self.layout.outputs[i];
        &self.bytes[span.at()..span.locking().end]
    }

    /// The wire form of all outputs, one after the other, without their count.
    pub fn outputs_bytes(&self) -> &'a [u8] {
        match (self.layout.outputs.first(), self.layout.outputs.last()) {
            (Some(first), Some(last)) => &self.bytes[first.at()..last.locking().end],
            _ => &[],
        }
    }

    /// Size of the raw form in bytes: what the rules and fees count.
    pub fn raw_size(&self) -> u64 {
        self.layout.raw_bytes() as u64
    }

    /// True if the bytes are in the extended format.
    pub fn is_extended(&self) -> bool {
        self.layout.is_extended()
    }

    /// True for the one input that spends nothing. Source: SV Node `CTransaction::IsCoinBase`.
    pub fn is_coinbase(&self) -> bool {
        self.input_count() == 1 && self.prev(0).is_null()
    }

    /// The transaction id, computed at once. For large transactions see [`TxIdHasher`].
    pub fn txid(&self) -> TxId {
        if self.is_extended() {
            TxIdHasher::new(*self)
                .advance(u64::MAX)
                .expect("a budget of 2^64 bytes finishes any transaction")
        } else {
            TxId(sha256d(self.bytes))
        }
    }

    /// Appends the raw form.
    pub fn write_raw(&self, out: &mut Vec<u8>) {
        if !self.is_extended() {
            out.extend_from_slice(self.bytes);
            return;
        }
        out.reserve(self.layout.raw_bytes());
        self.raw_chunks(|chunk| out.extend_from_slice(chunk));
    }

    /// Appends the extended form, taking coins from `coin`. `None` leaves `out` as it was.
    pub fn write_extended<'c>(
        &self,
        out: &mut Vec<u8>,
        mut coin: impl FnMut(usize) -> Option<CoinRef<'c>>,
    ) -> Option<()> {
        let start = out.len();
        out.extend_from_slice(&self.bytes[..4]);
        out.extend_from_slice(&EXTENDED_MARKER);
        write_compact_size(out, self.input_count() as u64);
        for i in 0..self.input_count() {
            let Some(coin) = coin(i) else {
                out.truncate(start);
                return None;
            };
            out.extend_from_slice(self.input_bytes(i));
            out.extend_from_slice(&coin.value_sat.to_le_bytes());
            write_compact_size(out, coin.locking_script.len() as u64);
            out.extend_from_slice(coin.locking_script);
        }
        out.extend_from_slice(&self.bytes[self.layout.output_count_at()..]);
        Some(())
    }

    /// An owned copy that can be changed.
    pub fn to_owned_tx(&self) -> Tx {
        Tx::from_view(*self)
    }

    /// The slices whose concatenation is the raw form.
    fn raw_chunks(&self, mut each: impl FnMut(&'a [u8])) {
        for i in 0..self.chunk_count() {
            each(self.chunk(i));
        }
    }

    /// Raw: one chunk. Extended: head, count, each input, tail.
    pub(crate) fn chunk_count(&self) -> usize {
        if self.is_extended() { 3 + self.input_count() } else { 1 }
    }

    pub(crate) fn chunk(&self, i: usize) -> &'a [u8] {
        let n = self.input_count();
        if !self.is_extended() {
            self.bytes
        } else if i == 0 {
            &self.bytes[..4]
        } else if i == 1 {
            &self.bytes[10..10 + compact_size_len(n as u64)]
        } else if i < 2 + n {
            self.input_bytes(i - 2)
        } else {
            &self.bytes[self.layout.output_count_at()..]
        }
    }

    #[inline]
    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.bytes[at..].first_chunk().expect("a finished layout names fields inside its bytes")
    }
}

impl fmt::Debug for TxView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxView")
            .field("txid", &self.txid())
            .field("version", &self.version())
            .field("inputs", &self.inputs().collect::<Vec<_>>())
            .field("outputs", &self.outputs().collect::<Vec<_>>())
            .field("lock_time", &self.lock_time())
            .finish()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::any_tx;
