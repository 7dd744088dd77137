//! Reading and writing the Bitcoin wire format, and nothing else.
//!
//! Bytes come in, borrowed slices and integers go out. A [`Reader`] never reads past its slice, never allocates, and
//! answers every malformed input with a [`ParseError`] that names the offset where reading stopped. CompactSize must be
//! in its shortest form and, as in SV Node's deserialiser, no larger than 2^32 - 1.

/// Largest value a CompactSize may carry. Source: SV Node `serialize.h` `MAX_SIZE`.
pub const COMPACT_SIZE_MAX: u64 = u32::MAX as u64;

/// Why bytes could not be parsed, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("parsing stopped at byte {offset}: {kind}")]
pub struct ParseError {
    /// Offset of the field that could not be read, from the start of the parsed bytes.
    pub offset: u64,
    /// What was wrong there.
    pub kind: ParseErrorKind,
}

/// The kinds of malformed input. Numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum ParseErrorKind {
    /// The bytes end inside a field.
    #[error("the bytes end here but the field needs {missing} more")]
    Truncated {
        /// How many bytes the field lacks.
        missing: u64,
    } = 0,
    /// A CompactSize that has a shorter form. SV Node: "non-canonical ReadCompactSize()".
    #[error("the CompactSize is not in its shortest form")]
    NonCanonicalSize = 1,
    /// A CompactSize above 2^32 - 1. SV Node: "ReadCompactSize(): size too large".
    #[error("the CompactSize {got} is above {COMPACT_SIZE_MAX}")]
    SizeTooLarge {
        /// The claimed size.
        got: u64,
    } = 2,
    /// Bytes remain after the object ended.
    #[error("{extra} bytes follow the end of the object")]
    TrailingBytes {
        /// How many bytes are left.
        extra: u64,
    } = 3,
    /// The object is larger than the caller's limit.
    #[error("the object passes the limit of {limit} bytes")]
    TooLarge {
        /// The limit that was passed, in bytes.
        limit: u64,
    } = 4,
    /// A count is larger than the caller's limit or than the remaining bytes can hold.
    #[error("the count {got} is above the limit of {limit}")]
    TooMany {
        /// The claimed count.
        got: u64,
        /// The most that is possible here.
        limit: u64,
    } = 5,
    /// A marker, type byte or flag has a value that the format does not know.
    #[error("the marker has the unknown value {got:#x}")]
    UnknownMarker {
        /// The value that was read.
        got: u64,
    } = 6,
    /// Two parts of the object contradict each other.
    #[error("inconsistent: {what}")]
    Inconsistent {
        /// Which parts disagree.
        what: &'static str,
    } = 7,
    /// The object is in the extended transaction format where only the raw one is allowed, or the other way round.
    #[error("the transaction is in a format that is not allowed here")]
    WrongFormat = 8,
}

impl ParseError {
    pub(crate) fn new(offset: usize, kind: ParseErrorKind) -> Self {
        Self { offset: offset as u64, kind }
    }

    /// True if the same bytes followed by more of them might parse.
    pub fn is_truncated(&self) -> bool {
        matches!(self.kind, ParseErrorKind::Truncated { .. })
    }
}

/// A cursor over borrowed bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Starts at `at`, which may be past the end (then every read is `Truncated`).
    pub fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()) }
    }

    /// Offset of the next byte.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes that are left, without consuming them.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// An error of `kind` at the current offset.
    pub fn error(&self, kind: ParseErrorKind) -> ParseError {
        ParseError::new(self.at, kind)
    }

    /// Takes `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], ParseError> {
        match self.bytes[self.at..].get(..n) {
            Some(slice) => {
                self.at += n;
                Ok(slice)
            }
            None => Err(self
                .error(ParseErrorKind::Truncated { missing: n as u64 - self.remaining() as u64 })),
        }
    }

    /// Takes exactly `N` bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        match self.bytes[self.at..].first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self
                .error(ParseErrorKind::Truncated { missing: N as u64 - self.remaining() as u64 })),
        }
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, ParseError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self) -> Result<u16, ParseError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little endian.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, ParseError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Four bytes, little endian, signed.
    pub fn i32(&mut self) -> Result<i32, ParseError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little endian.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, ParseError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little endian, signed.
    pub fn i64(&mut self) -> Result<i64, ParseError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A canonical CompactSize of at most [`COMPACT_SIZE_MAX`]. On an error the cursor stays where it was.
    #[inline]
    pub fn compact_size(&mut self) -> Result<u64, ParseError> {
        let n = self.compact_size_any()?;
        if n > COMPACT_SIZE_MAX {
            self.at -= compact_size_len(n);
            return Err(self.error(ParseErrorKind::SizeTooLarge { got: n }));
        }
        Ok(n)
    }

    /// A canonical CompactSize of any size, for fields that are numbers rather than sizes.
    #[inline]
    pub fn compact_size_any(&mut self) -> Result<u64, ParseError> {
        let mut ahead = *self;
        let first = ahead.u8()?;
        let truncated_here = |e: ParseError| ParseError { offset: self.at as u64, ..e };
        let (n, least) = match first {
            0xfd => (ahead.u16().map_err(truncated_here)? as u64, 0xfd),
            0xfe => (ahead.u32().map_err(truncated_here)? as u64, 0x1_0000),
            0xff => (ahead.u64().map_err(truncated_here)?, 0x1_0000_0000),
            n => (n as u64, 0),
        };
        if n < least {
            return Err(self.error(ParseErrorKind::NonCanonicalSize));
        }
        *self = ahead;
        Ok(n)
    }

    /// A CompactSize length and that many bytes. On an error the cursor stays where it was.
    #[inline]
    pub fn var_bytes(&mut self) -> Result<&'a [u8], ParseError> {
        let mut ahead = *self;
        let n = ahead.compact_size()?;
        let bytes = ahead.take(n as usize)?;
        *self = ahead;
        Ok(bytes)
    }

    /// A count of items that each take at least `item_bytes_min` bytes.
    ///
    /// Refuses a count that the remaining bytes cannot hold, so that a caller may reserve memory for it.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, ParseError> {
        let mut ahead = *self;
        let n = ahead.compact_size()?;
        let possible = (ahead.remaining() / item_bytes_min.max(1)) as u64;
        if n > possible {
            return Err(self.error(ParseErrorKind::TooMany { got: n, limit: possible }));
        }
        *self = ahead;
        Ok(n as usize)
    }

    /// Fails unless every byte was read.
    pub fn finish(self) -> Result<(), ParseError> {
        match self.remaining() {
            0 => Ok(()),
            n => Err(self.error(ParseErrorKind::TrailingBytes { extra: n as u64 })),
        }
    }
}

/// Bytes a CompactSize of `n` takes: 1, 3, 5 or 9.
#[inline]
pub const fn compact_size_len(n: u64) -> usize {
    match n {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Appends `n` as a canonical CompactSize.
pub fn write_compact_size(out: &mut Vec<u8>, n: u64) {
    let (bytes, len) = compact_size_bytes(n);
    out.extend_from_slice(&bytes[..len]);
}

/// `n` as a canonical CompactSize in a fixed buffer, with its length.
#[inline]
pub fn compact_size_bytes(n: u64) -> ([u8; 9], usize) {
    let mut b = [0u8; 9];
    let len = compact_size_len(n);
    match len {
        1 => b[0] = n as u8,
        3 => {
            b[0] = 0xfd;
            b[1..3].copy_from_slice(&(n as u16).to_le_bytes());
        }
        5 => {
            b[0] = 0xfe;
            b[1..5].copy_from_slice(&(n as u32).to_le_bytes());
        }
        _ => {
            b[0] = 0xff;
            b[1..9].copy_from_slice(&n.to_le_bytes());
        }
    }
    (b, len)
}

/// Appends the length of `bytes` as a CompactSize, then the bytes.
pub fn write_var_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_compact_size(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_non_canonical_compact_size_is_refused_at_its_first_byte() {
        let non_canonical = Err(ParseError { offset: 0, kind: ParseErrorKind::NonCanonicalSize });
        for bytes in [
            &[0xfd, 0xfc, 0][..],
            &[0xfe, 0xff, 0xff, 0, 0],
            &[0xff, 255, 255, 255, 255, 0, 0, 0, 0],
        ] {
            assert_eq!(Reader::new(bytes).compact_size(), non_canonical);
        }
    }

    #[test]
    fn a_compact_size_above_four_gigabytes_is_too_large() {
        let bytes = [0xff, 0, 0, 0, 0, 1, 0, 0, 0];
        let mut r = Reader::new(&bytes);
        assert_eq!(
            r.compact_size().map_err(|e| e.kind),
            Err(ParseErrorKind::SizeTooLarge { got: 1 << 32 })
        );
        assert_eq!(r.offset(), 0);
        assert_eq!(r.compact_size_any(), Ok(1 << 32));
    }

    #[test]
    fn a_count_that_cannot_fit_is_refused_before_anything_is_reserved() {
        let bytes = [0xfe, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        assert_eq!(
            Reader::new(&bytes).count(1).map_err(|e| e.kind),
            Err(ParseErrorKind::TooMany { got: 0xffff_ffff, limit: 3 })
        );
    }

    proptest! {
        #[test]
        fn compact_size_written_is_compact_size_read(n: u64, shift in 0u32..64) {
            let n = n >> shift;
            let mut out = Vec::new();
            write_compact_size(&mut out, n);
            prop_assert_eq!(out.len(), compact_size_len(n));
            let mut r = Reader::new(&out);
            prop_assert_eq!(r.compact_size_any(), Ok(n));
            prop_assert_eq!(r.remaining(), 0);
            for cut in 0..out.len() {
                prop_assert!(Reader::new(&out[..cut]).compact_size_any().unwrap_err().is_truncated());
            }
        }
    }
}
