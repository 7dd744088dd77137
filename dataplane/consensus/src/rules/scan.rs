//! Walking over a script without running it: for counting, classifying, and reading the height of a coinbase.
//!
//! Source: SV Node `script/script.h` `GetOp`.

use crate::script::opcode::instruction;

pub(super) use crate::script::opcode::{
    OP_0, OP_1, OP_16, OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY, OP_CHECKSIG, OP_CHECKSIGVERIFY,
    OP_ENDIF, OP_IF, OP_INVALIDOPCODE, OP_RETURN, OP_VERNOTIF, is_pay_to_script_hash as is_p2sh,
    is_push_only,
};

/// One instruction: its opcode, and what it pushes if it carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Op<'a> {
    pub code: u8,
    pub data: &'a [u8],
}

/// The instructions of a script, up to its end or to one that is cut off.
#[derive(Debug, Clone)]
pub(super) struct Ops<'a> {
    script: &'a [u8],
    at: usize,
    cut: bool,
}

impl<'a> Ops<'a> {
    pub fn new(script: &'a [u8]) -> Self {
        Self { script, at: 0, cut: false }
    }

    /// True if the walk stopped before the end because an instruction was cut off.
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        if self.cut || self.at == self.script.len() {
            return None;
        }
        let Ok(step) = instruction(self.script, self.at) else {
            self.cut = true;
            return None;
        };
        self.at = step.next;
        Some(Op { code: step.opcode, data: &self.script[step.data_start..step.next] })
    }
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
