//! Opcodes and the instruction reader.
//!
//! In comes a script and a position, out comes one instruction and where the next one starts, or the place where
//! parsing stopped. The stop position matters: the original signature digest writes bytes up to exactly there
//! (`sighash`), so it is part of the rules and not only of an error message.
//!
//! Source: SV Node `script/opcodes.h`, `CScript::GetOp2`.

/// Pushes the empty item.
pub const OP_0: u8 = 0x00;
/// Push with a one-byte length; opcodes below are direct pushes of that many bytes.
pub const OP_PUSHDATA1: u8 = 0x4c;
/// Push with a two-byte length.
pub const OP_PUSHDATA2: u8 = 0x4d;
/// Push with a four-byte length.
pub const OP_PUSHDATA4: u8 = 0x4e;
/// Pushes minus one.
pub const OP_1NEGATE: u8 = 0x4f;
/// Reserved; counts as a push for push-only scripts.
pub const OP_RESERVED: u8 = 0x50;
/// Pushes 1; the opcodes up to [`OP_16`] push their number.
pub const OP_1: u8 = 0x51;
/// Pushes 16.
pub const OP_16: u8 = 0x60;

macro_rules! opcodes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        $(#[doc = concat!("`", $text, "`, see consensus rules section 2.6.")] pub const $name: u8 = $value;)*

        /// The name of an opcode without its `OP_`, where it has one.
        pub fn name(opcode: u8) -> Option<&'static str> {
            match opcode {
                OP_0 => Some("0"),
                OP_PUSHDATA1 => Some("PUSHDATA1"),
                OP_PUSHDATA2 => Some("PUSHDATA2"),
                OP_PUSHDATA4 => Some("PUSHDATA4"),
                OP_1NEGATE => Some("1NEGATE"),
                OP_RESERVED => Some("RESERVED"),
                $($value => Some($text),)*
                _ => None,
            }
        }

        /// The opcode of a name as test vectors write it (with or without `OP_`, old names of NOPs included).
        pub fn from_name(text: &str) -> Option<u8> {
            match text.strip_prefix("OP_").unwrap_or(text) {
                "0" | "FALSE" => Some(OP_0),
                "PUSHDATA1" => Some(OP_PUSHDATA1),
                "PUSHDATA2" => Some(OP_PUSHDATA2),
                "PUSHDATA4" => Some(OP_PUSHDATA4),
                "1NEGATE" => Some(OP_1NEGATE),
                "RESERVED" => Some(OP_RESERVED),
                "NOP2" => Some(OP_CHECKLOCKTIMEVERIFY),
                "NOP3" => Some(OP_CHECKSEQUENCEVERIFY),
                "NOP4" => Some(OP_SUBSTR),
                "NOP5" => Some(OP_LEFT),
                "NOP6" => Some(OP_RIGHT),
                "NOP7" => Some(OP_LSHIFTNUM),
                "NOP8" => Some(OP_RSHIFTNUM),
                $($text => Some($value),)*
                _ => None,
            }
        }
    };
}

opcodes! {
    OP_NOP = 0x61, "NOP";
    OP_VER = 0x62, "VER";
    OP_IF = 0x63, "IF";
    OP_NOTIF = 0x64, "NOTIF";
    OP_VERIF = 0x65, "VERIF";
    OP_VERNOTIF = 0x66, "VERNOTIF";
    OP_ELSE = 0x67, "ELSE";
    OP_ENDIF = 0x68, "ENDIF";
    OP_VERIFY = 0x69, "VERIFY";
    OP_RETURN = 0x6a, "RETURN";
    OP_TOALTSTACK = 0x6b, "TOALTSTACK";
    OP_FROMALTSTACK = 0x6c, "FROMALTSTACK";
    OP_2DROP = 0x6d, "2DROP";
    OP_2DUP = 0x6e, "2DUP";
    OP_3DUP = 0x6f, "3DUP";
    OP_2OVER = 0x70, "2OVER";
    OP_2ROT = 0x71, "2ROT";
    OP_2SWAP = 0x72, "2SWAP";
    OP_IFDUP = 0x73, "IFDUP";
    OP_DEPTH = 0x74, "DEPTH";
    OP_DROP = 0x75, "DROP";
    OP_DUP = 0x76, "DUP";
    OP_NIP = 0x77, "NIP";
    OP_OVER = 0x78, "OVER";
    OP_PICK = 0x79, "PICK";
    OP_ROLL = 0x7a, "ROLL";
    OP_ROT = 0x7b, "ROT";
    OP_SWAP = 0x7c, "SWAP";
    OP_TUCK = 0x7d, "TUCK";
    OP_CAT = 0x7e, "CAT";
    OP_SPLIT = 0x7f, "SPLIT";
    OP_NUM2BIN = 0x80, "NUM2BIN";
    OP_BIN2NUM = 0x81, "BIN2NUM";
    OP_SIZE = 0x82, "SIZE";
    OP_INVERT = 0x83, "INVERT";
    OP_AND = 0x84, "AND";
    OP_OR = 0x85, "OR";
    OP_XOR = 0x86, "XOR";
    OP_EQUAL = 0x87, "EQUAL";
    OP_EQUALVERIFY = 0x88, "EQUALVERIFY";
    OP_RESERVED1 = 0x89, "RESERVED1";
    OP_RESERVED2 = 0x8a, "RESERVED2";
    OP_1ADD = 0x8b, "1ADD";
    OP_1SUB = 0x8c, "1SUB";
    OP_2MUL = 0x8d, "2MUL";
    OP_2DIV = 0x8e, "2DIV";
    OP_NEGATE = 0x8f, "NEGATE";
    OP_ABS = 0x90, "ABS";
    OP_NOT = 0x91, "NOT";
    OP_0NOTEQUAL = 0x92, "0NOTEQUAL";
    OP_ADD = 0x93, "ADD";
    OP_SUB = 0x94, "SUB";
    OP_MUL = 0x95, "MUL";
    OP_DIV = 0x96, "DIV";
    OP_MOD = 0x97, "MOD";
    OP_LSHIFT = 0x98, "LSHIFT";
    OP_RSHIFT = 0x99, "RSHIFT";
    OP_BOOLAND = 0x9a, "BOOLAND";
    OP_BOOLOR = 0x9b, "BOOLOR";
    OP_NUMEQUAL = 0x9c, "NUMEQUAL";
    OP_NUMEQUALVERIFY = 0x9d, "NUMEQUALVERIFY";
    OP_NUMNOTEQUAL = 0x9e, "NUMNOTEQUAL";
    OP_LESSTHAN = 0x9f, "LESSTHAN";
    OP_GREATERTHAN = 0xa0, "GREATERTHAN";
    OP_LESSTHANOREQUAL = 0xa1, "LESSTHANOREQUAL";
    OP_GREATERTHANOREQUAL = 0xa2, "GREATERTHANOREQUAL";
    OP_MIN = 0xa3, "MIN";
    OP_MAX = 0xa4, "MAX";
    OP_WITHIN = 0xa5, "WITHIN";
    OP_RIPEMD160 = 0xa6, "RIPEMD160";
    OP_SHA1 = 0xa7, "SHA1";
    OP_SHA256 = 0xa8, "SHA256";
    OP_HASH160 = 0xa9, "HASH160";
    OP_HASH256 = 0xaa, "HASH256";
    OP_CODESEPARATOR = 0xab, "CODESEPARATOR";
    OP_CHECKSIG = 0xac, "CHECKSIG";
    OP_CHECKSIGVERIFY = 0xad, "CHECKSIGVERIFY";
    OP_CHECKMULTISIG = 0xae, "CHECKMULTISIG";
    OP_CHECKMULTISIGVERIFY = 0xaf, "CHECKMULTISIGVERIFY";
    OP_NOP1 = 0xb0, "NOP1";
    OP_CHECKLOCKTIMEVERIFY = 0xb1, "CHECKLOCKTIMEVERIFY";
    OP_CHECKSEQUENCEVERIFY = 0xb2, "CHECKSEQUENCEVERIFY";
    OP_SUBSTR = 0xb3, "SUBSTR";
    OP_LEFT = 0xb4, "LEFT";
    OP_RIGHT = 0xb5, "RIGHT";
    OP_LSHIFTNUM = 0xb6, "LSHIFTNUM";
    OP_RSHIFTNUM = 0xb7, "RSHIFTNUM";
    OP_NOP9 = 0xb8, "NOP9";
    OP_NOP10 = 0xb9, "NOP10";
    OP_INVALIDOPCODE = 0xff, "INVALIDOPCODE";
}

/// One instruction of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The opcode byte.
    pub opcode: u8,
    /// Where the pushed bytes start; equals `next` when nothing is pushed.
    pub data_start: usize,
    /// Where the next instruction starts. The pushed bytes are `data_start..next`.
    pub next: usize,
}

/// A push that runs past the end of its script, or the end itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Where the reader stood when it found out: behind the opcode, or behind its length bytes.
    pub at: usize,
}

/// Reads the instruction at `at`.
///
/// Source: SV Node `CScript::GetOp2`; the position is advanced over the opcode and complete length bytes even when it
/// fails. At the end of the script it fails without advancing.
#[inline]
pub fn instruction(script: &[u8], at: usize) -> Result<Instruction, Stop> {
    let Some(&opcode) = script.get(at) else {
        return Err(Stop { at });
    };
    let after = at + 1;
    if opcode > OP_PUSHDATA4 {
        return Ok(Instruction { opcode, data_start: after, next: after });
    }
    let rest = &script[after..];
    let (width, len) = match opcode {
        OP_PUSHDATA1 => match rest.first() {
            Some(&n) => (1, n as usize),
            None => return Err(Stop { at: after }),
        },
        OP_PUSHDATA2 => match rest.first_chunk::<2>() {
            Some(n) => (2, u16::from_le_bytes(*n) as usize),
            None => return Err(Stop { at: after }),
        },
        OP_PUSHDATA4 => match rest.first_chunk::<4>() {
            Some(n) => (4, u32::from_le_bytes(*n) as usize),
            None => return Err(Stop { at: after }),
        },
        n => (0, n as usize),
    };
    if rest.len() - width < len {
        return Err(Stop { at: after + width });
    }
    Ok(Instruction { opcode, data_start: after + width, next: after + width + len })
}

/// Whether every instruction is a push (opcode at most `OP_16`) and the script parses.
///
/// Source: SV Node `CScript::IsPushOnly`; `OP_RESERVED` counts as a push.
pub fn is_push_only(script: &[u8]) -> bool {
    let mut at = 0;
    while at < script.len() {
        match instruction(script, at) {
            Ok(step) if step.opcode <= OP_16 => at = step.next,
            _ => return false,
        }
    }
    true
}

/// The exact shape `HASH160 <20 bytes> EQUAL` that BIP16 gives a meaning.
pub fn is_pay_to_script_hash(script: &[u8]) -> bool {
    script.len() == 23 && script[0] == OP_HASH160 && script[1] == 20 && script[22] == OP_EQUAL
}

/// Appends the shortest push instruction of `data` by length (no `OP_1`..`OP_16` forms).
pub fn write_push(out: &mut Vec<u8>, data: &[u8]) {
    let len = data.len();
    match len {
        0..=0x4b => out.push(len as u8),
        0x4c..=0xff => out.extend_from_slice(&[OP_PUSHDATA1, len as u8]),
        0x100..=0xffff => {
            out.push(OP_PUSHDATA2);
            out.extend_from_slice(&(len as u16).to_le_bytes());
        }
        _ => {
            out.push(OP_PUSHDATA4);
            out.extend_from_slice(&(len as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_past_the_end_stops_behind_its_length_bytes() {
        assert_eq!(instruction(&[0x02, 0xaa], 0), Err(Stop { at: 1 }));
        assert_eq!(instruction(&[OP_PUSHDATA1], 0), Err(Stop { at: 1 }));
        assert_eq!(instruction(&[OP_PUSHDATA1, 2, 0xaa], 0), Err(Stop { at: 2 }));
        assert_eq!(instruction(&[OP_PUSHDATA2, 2], 0), Err(Stop { at: 1 }));
        assert_eq!(instruction(&[OP_PUSHDATA2, 2, 0, 9], 0), Err(Stop { at: 3 }));
        assert_eq!(instruction(&[OP_PUSHDATA4, 0, 0, 0], 0), Err(Stop { at: 1 }));
        assert_eq!(instruction(&[OP_PUSHDATA4, 1, 0, 0, 0], 0), Err(Stop { at: 5 }));
        assert_eq!(instruction(&[], 0), Err(Stop { at: 0 }));
    }

    #[test]
    fn pushes_of_every_width_carry_their_bytes() {
        for len in [0usize, 1, 75, 76, 255, 256, 65_535, 65_536] {
            let mut script = Vec::new();
            write_push(&mut script, &vec![7; len]);
            let step = instruction(&script, 0).expect("a whole push");
            assert_eq!(step.next, script.len());
            assert_eq!(step.next - step.data_start, len);
        }
    }

    #[test]
    fn names_and_opcodes_are_inverse() {
        for opcode in 0..=255u8 {
            if let Some(text) = name(opcode) {
                assert_eq!(from_name(text), Some(opcode), "{text}");
            }
        }
        assert_eq!(from_name("OP_NOP3"), Some(OP_CHECKSEQUENCEVERIFY));
        assert_eq!(from_name("nonsense"), None);
    }

    #[test]
    fn reserved_counts_as_a_push_and_nop_does_not() {
        assert!(is_push_only(&[OP_RESERVED, OP_16, 1, 9]));
        assert!(!is_push_only(&[OP_NOP]));
        assert!(!is_push_only(&[2, 9]));
    }
}
