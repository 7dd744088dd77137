//! Bundles: transactions one after the other, each with its length before it.
//!
//! ```text
//!  { u16 length, or 0xffff and u32 length; that many bytes } ...
//! ```
//!
//! A bundle of at least 16 KiB may travel as one lz4 block when that is smaller by a twentieth (measured: synthetic payments
//! shrink to 86 %, reference/relay.md B6). What it unpacks to is bounded before a byte is allocated.

/// Shorter bundles are not worth packing.
pub const PACK_BYTES_MIN: usize = 16 << 10;
/// Most bytes that one byte of lz4 can stand for: a match is extended by at most 255 a byte.
const EXPANSION_MAX: usize = 255;
/// The length that says that a longer one follows.
const LONG: u16 = u16::MAX;

/// Appends a transaction to a bundle.
pub fn write_tx(out: &mut Vec<u8>, tx: &[u8]) {
    match u16::try_from(tx.len()) {
        Ok(len) if len != LONG => out.extend_from_slice(&len.to_le_bytes()),
        _ => {
            out.extend_from_slice(&LONG.to_le_bytes());
            out.extend_from_slice(&(tx.len() as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(tx);
}

/// Why bytes are no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a bundle of {bytes} bytes ends inside the transaction at byte {at}, or that one is empty")]
pub struct BundleError {
    /// Where the last transaction starts.
    pub at: usize,
    /// Bytes there are.
    pub bytes: usize,
}

/// The transactions of a bundle.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a>(&'a [u8]);

impl<'a> Bundle<'a> {
    /// A bundle whose lengths add up and none of whose transactions is empty.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            next(&mut rest).ok_or(BundleError { at, bytes: bytes.len() })?;
        }
        Ok(Self(bytes))
    }

    /// The transactions in order.
    pub fn txs(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || next(&mut rest))
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (short, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    let short = u16::from_le_bytes(*short);
    let len = if short == LONG { super::take_u32(rest)? as usize } else { usize::from(short) };
    super::take(rest, len).filter(|tx| !tx.is_empty())
}

/// The bytes as one lz4 block; `None` where that does not pay.
pub fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < PACK_BYTES_MIN {
        return None;
    }
    let packed = lz4_flex::block::compress(bytes);
    (packed.len() * 20 < bytes.len() * 19).then_some(packed)
}

/// Unpacks a block that says it has `raw_len` bytes. `None` when it has not, or says more than it can.
pub fn unpack(packed: &[u8], raw_len: usize, raw_len_max: usize) -> Option<Vec<u8>> {
    if raw_len > raw_len_max || raw_len > packed.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut raw = vec![0; raw_len];
    let written = lz4_flex::block::decompress_into(packed, &mut raw).ok()?;
    (written == raw_len).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_transaction_has_a_long_length() {
        for len in [1, 65_534, 65_535, 65_536, 200_000] {
            let mut bytes = Vec::new();
            write_tx(&mut bytes, &vec![5; len]);
            write_tx(&mut bytes, b"next");
            let txs: Vec<&[u8]> = Bundle::parse(&bytes).unwrap().txs().collect();
            assert_eq!((txs.len(), txs[0].len(), txs[1]), (2, len, &b"next"[..]));
        }
    }

    #[test]
    fn random_bytes_are_stored_and_repetitive_ones_packed() {
        let mut state = 1u64;
        let random: Vec<u8> = (0..PACK_BYTES_MIN)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(pack(&random), None);
        let same = vec![7; PACK_BYTES_MIN];
        let packed = pack(&same).expect("it pays");
        assert_eq!(unpack(&packed, same.len(), same.len()), Some(same.clone()));
        assert_eq!(unpack(&packed, same.len(), same.len() - 1), None, "above the limit");
        assert_eq!(unpack(&packed, same.len() - 1, 1 << 20), None, "another length");
        assert_eq!(unpack(&packed, same.len() + 1, 1 << 20), None, "another length");
        assert_eq!(unpack(&packed, 1 << 30, 1 << 31), None, "more than lz4 can hold");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_no_bytes_panic(
            txs in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 0..20),
            noise in prop::collection::vec(any::<u8>(), 0..300),
            raw_len in 0usize..100_000,
        ) {
            let mut bytes = Vec::new();
            txs.iter().for_each(|tx| write_tx(&mut bytes, tx));
            let back: Vec<&[u8]> = Bundle::parse(&bytes).unwrap().txs().collect();
            prop_assert_eq!(back, txs);
            if let Ok(bundle) = Bundle::parse(&noise) {
                let sum: usize = bundle.txs().map(|tx| tx.len() + 2).sum();
                prop_assert!(sum <= noise.len());
            }
            if let Some(raw) = unpack(&noise, raw_len, 100_000) {
                prop_assert_eq!(raw.len(), raw_len);
            }
        }
    }
}
