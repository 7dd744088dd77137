//! Writing JSON as bitcoind writes it: amounts exactly, keys in a fixed order, straight into the answer's bytes.
//!
//! In: values, one after the other. Out: JSON text. A tree of `serde_json::Value` would lose the digits of an amount (a
//! double prints `1e-8`), sort nothing as clients expect it and cost an allocation a field; an answer may be a block of a
//! million transactions. The writer puts the commas; the caller opens and closes objects by closures, so text is
//! always balanced. Reading is serde's; only the depth is looked at here first, before anything recurses.

/// Deepest nesting of a request; `serde_json` would stop at 128, no call needs more than eight.
pub const DEPTH_MAX: usize = 64;

/// Satoshi in a coin.
const COIN_SAT: u64 = 100_000_000;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// JSON text under construction.
#[derive(Debug, Default)]
pub struct Json {
    out: Vec<u8>,
    comma: bool,
}

impl Json {
    /// Text made by one closure.
    pub fn of(write: impl FnOnce(&mut Self)) -> Self {
        let mut json = Self::default();
        write(&mut json);
        json
    }

    /// Text made by one closure, in a buffer that starts with `bytes` of room.
    pub fn with_room(bytes: usize, write: impl FnOnce(&mut Self)) -> Self {
        let mut json = Self { out: Vec::with_capacity(bytes), comma: false };
        write(&mut json);
        json
    }

    /// The bytes of the text.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// The text so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.out
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    /// Writes a key; the next value belongs to it.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.text(key);
        self.out.push(b':');
        self.comma = false;
        self
    }

    /// Writes an object whose members the closure writes.
    pub fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push(b'{');
        self.comma = false;
        members(self);
        self.out.push(b'}');
        self.comma = true;
    }

    /// Writes an array whose elements the closure writes.
    pub fn array(&mut self, elements: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push(b'[');
        self.comma = false;
        elements(self);
        self.out.push(b']');
        self.comma = true;
    }

    /// Writes `null`.
    pub fn null(&mut self) {
        self.raw(b"null");
    }

    /// Writes `true` or `false`.
    pub fn bool(&mut self, value: bool) {
        self.raw(if value { b"true" } else { b"false" });
    }

    /// Writes text that is JSON already.
    pub fn raw(&mut self, json: &[u8]) {
        self.separate();
        self.out.extend_from_slice(json);
    }

    /// Writes an integer.
    pub fn int(&mut self, value: impl std::fmt::Display) {
        use std::io::Write;
        self.separate();
        write!(self.out, "{value}").expect("a vector takes every byte");
    }

    /// Writes a string.
    pub fn text(&mut self, text: &str) {
        self.separate();
        self.out.push(b'"');
        for &byte in text.as_bytes() {
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                0..0x20 => {
                    self.out.extend_from_slice(b"\\u00");
                    self.out.push(HEX[usize::from(byte >> 4)]);
                    self.out.push(HEX[usize::from(byte & 15)]);
                }
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
    }

    /// Writes anything that prints as plain text without quotes or control characters: hashes, addresses, numbers in hex.
    pub fn plain(&mut self, value: impl std::fmt::Display) {
        use std::io::Write;
        self.separate();
        write!(self.out, "\"{value}\"").expect("a vector takes every byte");
    }

    /// Writes bytes as a string of hex digits.
    pub fn hex(&mut self, bytes: &[u8]) {
        self.separate();
        self.out.push(b'"');
        push_hex(&mut self.out, bytes);
        self.out.push(b'"');
    }

    /// Writes an amount with eight decimals: `50.00000000`. Source: SV Node `rpc/server.cpp` `ValueFromAmount`.
    pub fn amount(&mut self, sat: i64) {
        let sign = if sat < 0 { "-" } else { "" };
        let sat = sat.unsigned_abs();
        self.int(format_args!("{sign}{}.{:08}", sat / COIN_SAT, sat % COIN_SAT));
    }

    /// Writes an amount as outputs show it: trailing zeros away, two decimals at least. Source: SV Node `FormatMoney`.
    pub fn money(&mut self, sat: i64) {
        let sign = if sat < 0 { "-" } else { "" };
        let sat = sat.unsigned_abs();
        let decimals = format!("{:08}", sat % COIN_SAT);
        let shown = decimals.trim_end_matches('0').len().max(2);
        self.int(format_args!("{sign}{}.{}", sat / COIN_SAT, &decimals[..shown]));
    }

    /// Writes a double with sixteen significant digits, as C++ prints it. Source: SV Node `univalue.cpp` `setFloat`.
    pub fn double(&mut self, value: f64) {
        self.int(double_text(value));
    }
}

/// `%.16g` of a finite number; anything else is 0.
pub fn double_text(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let scientific = format!("{value:.15e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    if (-4..16).contains(&exponent) {
        let decimals = usize::try_from(15 - exponent).expect("an exponent below 16");
        let fixed = format!("{value:.decimals$}");
        return trim_zeros(&fixed).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.unsigned_abs())
}

fn trim_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// Appends the hex digits of `bytes`.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() * 2);
    for &byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// The value of each hex digit, 0xff where there is none.
const DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut i = 0;
    while i < 10 {
        digits[b'0' as usize + i] = i as u8;
        i += 1;
    }
    let mut i = 0;
    while i < 6 {
        digits[b'a' as usize + i] = 10 + i as u8;
        digits[b'A' as usize + i] = 10 + i as u8;
        i += 1;
    }
    digits
};

/// The bytes of a string of hex digits; `None` if it is odd or holds anything else.
pub fn read_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 2);
    // Digits are below 16, so a bit above them means that a character was none.
    let mut seen = 0;
    for pair in text.as_bytes().chunks_exact(2) {
        let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
        seen |= high | low;
        bytes.push(high << 4 | low & 15);
    }
    (seen < 16).then_some(bytes)
}

/// Deepest nesting of `text`, counted without judging whether it is JSON; stops once it is above `limit`.
pub fn depth(text: &[u8], limit: usize) -> usize {
    let (mut deepest, mut now, mut at) = (0, 0usize, 0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                now += 1;
                deepest = deepest.max(now);
                if deepest > limit {
                    break;
                }
            }
            b']' | b'}' => now = now.saturating_sub(1),
            b'"' => {
                // To the end of the string.
                while let Some(&byte) = text.get(at) {
                    at += 1;
                    match byte {
                        b'"' => break,
                        b'\\' => at += 1,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Json)) -> String {
        String::from_utf8(Json::of(write).into_bytes()).unwrap()
    }

    #[test]
    fn objects_and_arrays_nest_and_commas_are_where_they_belong() {
        let json = text(|w| {
            w.object(|w| {
                w.key("a").int(1);
                w.key("b").array(|w| {
                    w.null();
                    w.object(|_| {});
                    w.array(|_| {});
                    w.bool(true);
                });
                w.key("c").hex(&[0, 0xab]);
                w.key("d").text("q\"\\\n\u{1}ü");
            });
        });
        assert_eq!(
            json,
            "{\"a\":1,\"b\":[null,{},[],true],\"c\":\"00ab\",\"d\":\"q\\\"\\\\\\n\\u0001ü\"}"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }

    #[test]
    fn amounts_carry_every_satoshi() {
        // Seen from SV Node 1.0.13: `gettxout` and `decoderawtransaction`.
        let rows: [(i64, &str, &str); 8] = [
            (5_000_000_000, "50.00000000", "50.00"),
            (0, "0.00000000", "0.00"),
            (-1, "-0.00000001", "-0.00000001"),
            (10, "0.00000010", "0.0000001"),
            (100_000_007, "1.00000007", "1.00000007"),
            (2_100_000_000_000_000, "21000000.00000000", "21000000.00"),
            (2_999_999_500, "29.99999500", "29.999995"),
            (i64::MIN, "-92233720368.54775808", "-92233720368.54775808"),
        ];
        for (sat, amount, money) in rows {
            assert_eq!(text(|w| w.amount(sat)), amount);
            assert_eq!(text(|w| w.money(sat)), money);
        }
    }

    #[test]
    fn doubles_print_as_the_reference_prints_them() {
        // Seen from SV Node 1.0.13: difficulty, networkhashps, txrate, verificationprogress.
        assert_eq!(double_text(4.656542373906925e-10), "4.656542373906925e-10");
        assert_eq!(double_text(4.050962049139606e-7), "4.050962049139606e-07");
        assert_eq!(double_text(5.882352941176471), "5.882352941176471");
        assert_eq!(double_text(1.0), "1");
        assert_eq!(double_text(0.0), "0");
        assert_eq!(double_text(0.5), "0.5");
        assert_eq!(double_text(0.0001), "0.0001");
        assert_eq!(double_text(0.00001), "1e-05");
        assert_eq!(double_text(1e16), "1e+16");
        assert_eq!(double_text(123_456_789.25), "123456789.25");
        assert_eq!(double_text(-2.5), "-2.5");
        assert_eq!(double_text(f64::NAN), "0");
    }

    #[test]
    fn hex_reads_both_cases_and_refuses_everything_else() {
        assert_eq!(read_hex("00fFAb"), Some(vec![0, 0xff, 0xab]));
        assert_eq!(read_hex(""), Some(vec![]));
        for bad in ["0", "0g", "g0", " 0", "0x", "é"] {
            assert_eq!(read_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings_and_stops_at_the_limit() {
        assert_eq!(depth(b"5", 10), 0);
        assert_eq!(depth(b"[{\"[[[\\\"[\":[1,[2]]},[]]", 10), 4);
        assert_eq!(depth("[".repeat(100_000).as_bytes(), 64), 65);
        assert_eq!(depth(b"\"unterminated [[[", 64), 0);
    }
}
