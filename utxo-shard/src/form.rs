//! How locking scripts are stored: what every script of a kind has in common is left out.
//!
//! ```text
//! form          script                                stored
//! P2PKH         76 a9 14 HASH 88 ac                   20 bytes
//! P2SH          a9 14 HASH 87                         20
//! P2PK          21 KEY ac  or  41 KEY ac              33 or 65
//! short         up to 255 bytes (bare data, multisig)  1 + its own
//! long          anything else                          4 + its own
//! ```
//!
//! Keys are kept as they were written: a script must come back byte for byte. Scripts of more than [`INLINE_MAX_BYTES`] get a
//! block of their own.

/// Longest stored script that lies in its record.
pub(crate) const INLINE_MAX_BYTES: usize = 512;

/// Room to put a script together in: the longest that is stored in short.
pub(crate) type Scratch = [u8; 67];

/// An empty [`Scratch`].
pub(crate) const SCRATCH: Scratch = [0; 67];

/// See the module. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Form {
    Long = 0,
    P2pkh = 1,
    P2sh = 2,
    P2pkCompressed = 3,
    P2pk = 4,
    Short = 5,
}

impl Form {
    /// The form of a script.
    pub fn of(script: &[u8]) -> Self {
        match script {
            [0x76, 0xa9, 0x14, .., 0x88, 0xac] if script.len() == 25 => Self::P2pkh,
            [0xa9, 0x14, .., 0x87] if script.len() == 23 => Self::P2sh,
            [0x21, .., 0xac] if script.len() == 35 => Self::P2pkCompressed,
            [0x41, .., 0xac] if script.len() == 67 => Self::P2pk,
            _ if script.len() < 256 => Self::Short,
            _ => Self::Long,
        }
    }

    /// From its number.
    #[inline]
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::P2pkh,
            2 => Self::P2sh,
            3 => Self::P2pkCompressed,
            4 => Self::P2pk,
            5 => Self::Short,
            _ => Self::Long,
        }
    }

    /// First byte of a script that is stored, bytes stored of it, and bytes of length in front of them.
    pub fn cut(self, script_bytes: usize) -> (usize, usize, usize) {
        match self {
            Self::P2pkh => (3, 20, 0),
            Self::P2sh => (2, 20, 0),
            Self::P2pkCompressed => (1, 33, 0),
            Self::P2pk => (1, 65, 0),
            Self::Short => (0, script_bytes, 1),
            Self::Long => (0, script_bytes, 4),
        }
    }

    /// Bytes in front of the stored part and behind it; `None` where the script is stored as it is.
    #[inline]
    pub fn frame(self) -> Option<(&'static [u8], &'static [u8])> {
        match self {
            Self::P2pkh => Some((&[0x76, 0xa9, 0x14], &[0x88, 0xac])),
            Self::P2sh => Some((&[0xa9, 0x14], &[0x87])),
            Self::P2pkCompressed => Some((&[0x21], &[0xac])),
            Self::P2pk => Some((&[0x41], &[0xac])),
            Self::Short | Self::Long => None,
        }
    }
}

/// Bytes a script takes where it is stored.
pub(crate) fn stored_bytes(script: &[u8]) -> usize {
    let (_, len, prefix) = Form::of(script).cut(script.len());
    len + prefix
}

/// Bytes a script takes in its record: none where it gets a block of its own.
pub(crate) fn inline_bytes(script: &[u8]) -> usize {
    let stored = stored_bytes(script);
    if stored > INLINE_MAX_BYTES { 0 } else { stored }
}

/// The name of the form a script is stored in.
pub fn script_form(script: &[u8]) -> &'static str {
    match Form::of(script) {
        Form::P2pkh => "p2pkh",
        Form::P2sh => "p2sh",
        Form::P2pkCompressed | Form::P2pk => "p2pk",
        Form::Short => "short",
        Form::Long => "long",
    }
}
