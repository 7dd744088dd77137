//! Scripts as text, as SV Node's test files write them.
//!
//! Words: decimal numbers, `0x` with raw bytes, `'text'` as a push, and names of opcodes with or without `OP_`.

use super::tally::Differs;
use consensus::script::opcode;

/// Bytes of a script from its words.
pub fn assemble(text: &str) -> Result<Vec<u8>, Differs> {
    let mut script = Vec::new();
    for word in text.split_whitespace() {
        if let Ok(number) = word.parse::<i64>() {
            push_number(&mut script, number);
        } else if let Some(raw) = word.strip_prefix("0x") {
            script.extend(super::txs::unhex(raw)?);
        } else if let Some(text) = word.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''))
        {
            opcode::write_push(&mut script, text.as_bytes());
        } else {
            let code = opcode::from_name(word).or_else(|| opcode::from_name(&format!("OP_{word}")));
            let unknown = || Differs { want: "a word of script".to_owned(), got: word.to_owned() };
            script.push(code.ok_or_else(unknown)?);
        }
    }
    Ok(script)
}

/// A number as the shortest push: its own opcode for -1 to 16.
pub fn push_number(script: &mut Vec<u8>, number: i64) {
    match number {
        0 => script.push(opcode::OP_0),
        -1 | 1..=16 => script.push((i64::from(opcode::OP_RESERVED) + number) as u8),
        _ => opcode::write_push(script, &number_bytes(number)),
    }
}

/// Little-endian with the sign in the top bit, shortest form.
fn number_bytes(number: i64) -> Vec<u8> {
    let mut rest = number.unsigned_abs();
    let mut bytes = Vec::new();
    while rest > 0 {
        bytes.push(rest as u8);
        rest >>= 8;
    }
    let sign = if number < 0 { 0x80 } else { 0 };
    match bytes.last_mut() {
        Some(top) if *top & 0x80 != 0 => bytes.push(sign),
        Some(top) => *top |= sign,
        None => {}
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_bytes_they_name() {
        assert_eq!(
            assemble("0 -1 16 17 -255 'ab' DUP OP_HASH160 0x4c01ff").expect("known words"),
            {
                let mut want =
                    vec![0x00, 0x4f, 0x60, 1, 17, 2, 0xff, 0x80, 2, b'a', b'b', 0x76, 0xa9];
                want.extend([0x4c, 0x01, 0xff]);
                want
            }
        );
        assert!(assemble("FROBNICATE").is_err());
    }
}
