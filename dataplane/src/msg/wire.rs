//! Cursors over a frag: little-endian fields in, little-endian fields out, nothing else.

use consensus::hash::TxId;
use consensus::tx::OutPoint;

/// Reads fields from the front of borrowed bytes; `None` past the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[inline]
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|a| a[0])
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn txid(&mut self) -> Option<TxId> {
        self.array().map(TxId)
    }

    #[inline]
    pub(super) fn outpoint(&mut self) -> Option<OutPoint> {
        Some(OutPoint { txid: self.txid()?, vout: self.u32()? })
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes fields into a borrowed buffer and remembers when something did not fit.
#[derive(Debug)]
pub(super) struct Out<'a> {
    buf: &'a mut [u8],
    at: usize,
    full: bool,
}

impl<'a> Out<'a> {
    pub(super) fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, at: 0, full: false }
    }

    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        match self.buf.get_mut(self.at..self.at + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            None => self.full = true,
        }
    }

    #[inline]
    pub(super) fn u8(&mut self, v: u8) {
        self.bytes(&[v]);
    }

    #[inline]
    pub(super) fn u16(&mut self, v: u16) {
        self.bytes(&v.to_le_bytes());
    }

    #[inline]
    pub(super) fn u32(&mut self, v: u32) {
        self.bytes(&v.to_le_bytes());
    }

    #[inline]
    pub(super) fn u64(&mut self, v: u64) {
        self.bytes(&v.to_le_bytes());
    }

    #[inline]
    pub(super) fn txid(&mut self, v: &TxId) {
        self.bytes(&v.0);
    }

    #[inline]
    pub(super) fn outpoint(&mut self, v: &OutPoint) {
        self.bytes(&v.txid.0);
        self.u32(v.vout);
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.at
    }

    /// False once anything did not fit.
    pub(super) fn fits(&self) -> bool {
        !self.full
    }
}
