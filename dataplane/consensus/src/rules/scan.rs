//! Walking over a script without running it: for counting, classifying, and reading the height of a coinbase.
//!
//! Source: SV Node `script/script.h` `GetOp`, `IsPushOnly`, `IsPayToScriptHash`.

pub(super) const OP_0: u8 = 0x00;
pub(super) const OP_1: u8 = 0x51;
pub(super) const OP_16: u8 = 0x60;
pub(super) const OP_IF: u8 = 0x63;
pub(super) const OP_VERNOTIF: u8 = 0x66;
pub(super) const OP_ENDIF: u8 = 0x68;
pub(super) const OP_RETURN: u8 = 0x6a;
pub(super) const OP_CHECKSIG: u8 = 0xac;
pub(super) const OP_CHECKSIGVERIFY: u8 = 0xad;
pub(super) const OP_CHECKMULTISIG: u8 = 0xae;
pub(super) const OP_CHECKMULTISIGVERIFY: u8 = 0xaf;
pub(super) const OP_INVALID: u8 = 0xff;

/// One instruction: its opcode, and what it pushes if it carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Op<'a> {
    pub code: u8,
    pub data: &'a [u8],
}

/// The instructions of a script, up to its end or to one that is cut off.
#[derive(Debug, Clone)]
pub(super) struct Ops<'a> {
    rest: &'a [u8],
    cut: bool,
}

impl<'a> Ops<'a> {
    pub fn new(script: &'a [u8]) -> Self {
        Self { rest: script, cut: false }
    }

    /// True if the walk stopped before the end because an instruction was cut off.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn step(&mut self) -> Option<Op<'a>> {
        let (&code, rest) = self.rest.split_first()?;
        let (len, rest) = match code {
            0x01..=0x4b => (code as usize, rest),
            0x4c => (*rest.first()? as usize, &rest[1..]),
            0x4d => (u16::from_le_bytes(*rest.first_chunk()?) as usize, &rest[2..]),
            0x4e => (u32::from_le_bytes(*rest.first_chunk()?) as usize, &rest[4..]),
            _ => (0, rest),
        };
        let (data, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(Op { code, data })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        if self.rest.is_empty() || self.cut {
            return None;
        }
        let op = self.step();
        self.cut = op.is_none();
        op
    }
}

/// Nothing but pushes (0x50 counts as one), and nothing cut off.
pub(super) fn is_push_only(script: &[u8]) -> bool {
    let mut ops = Ops::new(script);
    ops.all(|op| op.code <= OP_16) && !ops.is_cut()
}

/// Exactly `HASH160 <20 bytes> EQUAL`.
pub(super) fn is_p2sh(script: &[u8]) -> bool {
    matches!(script, [0xa9, 0x14, hash @ .., 0x87] if hash.len() == 20)
}

/// A script number of at most four bytes in its only minimal form, not negative.
pub(super) fn small_number(bytes: &[u8]) -> Option<u32> {
    if bytes.len() > 4 {
        return None;
    }
    if let Some((&last, before)) = bytes.split_last() {
        let needs_last = before.last().is_some_and(|b| b & 0x80 != 0);
        if last & 0x80 != 0 || (last == 0 && !needs_last) {
            return None;
        }
    }
    let mut le = [0u8; 4];
    le[..bytes.len()].copy_from_slice(bytes);
    Some(u32::from_le_bytes(le))
}
