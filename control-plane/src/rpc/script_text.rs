//! Scripts as people read them: opcodes by name, numbers in decimal, signatures with their hash type.
//!
//! In: script bytes of any kind. Out: the text SV Node shows as `asm`, and the fields of a locking script. Source: SV Node
//! `core_write.cpp` `ScriptToAsmStr`, `ScriptPubKeyToUniv`; the texts were read from a running 1.0.13. Opcodes that came
//! with Chronicle carry the names of 1.2.2.

use super::json::{Json, push_hex};
use consensus::address::Destination;
use consensus::hash::hash160;
use consensus::params::{ChainParams, Era};
use consensus::rules::Template;
use consensus::script::opcode::{
    self, OP_1, OP_1NEGATE, OP_16, OP_PUSHDATA4, instruction, is_pay_to_script_hash,
};
use consensus::script::{has_valid_pubkey_size, is_strict_der};

/// Longest push that is shown as a number.
const NUMBER_BYTES_MAX: usize = 4;

/// The text of a script. In an unlocking script a push that is a signature shows its hash type.
pub fn asm(script: &[u8], unlocking: bool) -> String {
    let mut out = Vec::with_capacity(script.len() * 2 + 16);
    let mut at = 0;
    while at < script.len() {
        if at > 0 {
            out.push(b' ');
        }
        let Ok(step) = instruction(script, at) else {
            out.extend_from_slice(b"[error]");
            break;
        };
        let data = &script[step.data_start..step.next];
        match step.opcode {
            0..=OP_PUSHDATA4 => push_data(&mut out, data, unlocking),
            OP_1NEGATE => out.extend_from_slice(b"-1"),
            OP_1..=OP_16 => {
                out.extend_from_slice((step.opcode - OP_1 + 1).to_string().as_bytes());
            }
            0xff => out.extend_from_slice(b"OP_INVALIDOPCODE"),
            code => match opcode::name(code) {
                Some(name) => {
                    out.extend_from_slice(b"OP_");
                    out.extend_from_slice(name.as_bytes());
                }
                None => out.extend_from_slice(b"OP_UNKNOWN"),
            },
        }
        at = step.next;
    }
    String::from_utf8(out).expect("names and digits are ASCII")
}

fn push_data(out: &mut Vec<u8>, data: &[u8], unlocking: bool) {
    if data.len() <= NUMBER_BYTES_MAX {
        out.extend_from_slice(number(data).to_string().as_bytes());
        return;
    }
    if unlocking
        && is_strict_der(data)
        && let Some((&kind, signature)) = data.split_last()
        && let Some(name) = hash_type_name(kind)
    {
        push_hex(out, signature);
        out.extend_from_slice(name.as_bytes());
        return;
    }
    push_hex(out, data);
}

/// A script number, minimal or not.
fn number(data: &[u8]) -> i64 {
    let mut le = [0u8; 8];
    le[..data.len()].copy_from_slice(data);
    match data.last() {
        Some(last) if last & 0x80 != 0 => {
            le[data.len() - 1] &= 0x7f;
            -i64::from_le_bytes(le)
        }
        _ => i64::from_le_bytes(le),
    }
}

/// The suffix of a defined hash type.
fn hash_type_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x01 => "[ALL]",
        0x02 => "[NONE]",
        0x03 => "[SINGLE]",
        0x41 => "[ALL|FORKID]",
        0x42 => "[NONE|FORKID]",
        0x43 => "[SINGLE|FORKID]",
        0x81 => "[ALL|ANYONECANPAY]",
        0x82 => "[NONE|ANYONECANPAY]",
        0x83 => "[SINGLE|ANYONECANPAY]",
        0xc1 => "[ALL|FORKID|ANYONECANPAY]",
        0xc2 => "[NONE|FORKID|ANYONECANPAY]",
        0xc3 => "[SINGLE|FORKID|ANYONECANPAY]",
        _ => return None,
    })
}

/// Writes the fields of a locking script into the object that is open: `asm`, `hex`, `reqSigs`, `type`, `addresses`.
pub fn write_locking(w: &mut Json, script: &[u8], coin_era: Era, params: &ChainParams) {
    w.key("asm").plain(asm(script, false));
    w.key("hex").hex(script);
    let template = Template::of(script, coin_era);
    let key_address = |key: &[u8]| Destination::PubKeyHash(hash160(key)).to_address(params);
    let (required, addresses) = match template {
        Template::PubKey(key) if has_valid_pubkey_size(key) => (1, vec![key_address(key)]),
        Template::PubKeyHash(hash) => (1, vec![Destination::PubKeyHash(*hash).to_address(params)]),
        Template::ScriptHash(hash) => (1, vec![Destination::ScriptHash(*hash).to_address(params)]),
        Template::Multisig { required, .. } => (
            required,
            multisig_keys(script)
                .filter(|key| has_valid_pubkey_size(key))
                .map(key_address)
                .collect(),
        ),
        _ => (0, Vec::new()),
    };
    if !addresses.is_empty() {
        w.key("reqSigs").int(required);
    }
    w.key("type").plain(template.name());
    if !addresses.is_empty() {
        w.key("addresses").array(|w| addresses.iter().for_each(|address| w.plain(address)));
    }
}

/// The pushes between the two counts of a multisig script.
fn multisig_keys(script: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = instruction(script, 0).map_or(script.len(), |step| step.next);
    std::iter::from_fn(move || {
        let step = instruction(script, at).ok()?;
        at = step.next;
        Some(&script[step.data_start..step.next])
    })
    .take_while(|key| key.len() >= 33)
}

/// The era to read locking scripts in where no height says it: one that holds a P2SH shape was made before Genesis.
///
/// Source: SV Node `rpc/rawtransaction.cpp` `decoderawtransaction`, `decodescript`.
pub fn guessed_era<'a>(mut scripts: impl Iterator<Item = &'a [u8]>) -> Era {
    if scripts.any(is_pay_to_script_hash) { Era::PreGenesis } else { Era::PostGenesis }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::params::Network;

    const KEY: &str = "03bbea4066bd1918193ca01ef0e050ab8cf101534b95f4c86401f13af82da49954";
    const HASH: &str = "0fb039c56e96ace4550f009bc504d20a4a4a9342";

    fn text_of(script: &str) -> String {
        asm(&hex::decode(script).unwrap(), false)
    }

    #[test]
    fn scripts_read_as_the_reference_prints_them() {
        // All pairs were answered by `decodescript` of SV Node 1.0.13.
        let rows: [(&str, &str); 24] = [
            ("", ""),
            ("51", "1"),
            ("00", "0"),
            ("4f", "-1"),
            ("5f60", "15 16"),
            ("4c", "[error]"),
            ("4d0100", "[error]"),
            ("6a4c", "OP_RETURN [error]"),
            ("0101", "1"),
            ("020080", "0"),
            ("0400000080", "0"),
            ("0500000080", "[error]"),
            ("4c0105", "5"),
            ("4d010005", "5"),
            ("4e0100000005", "5"),
            ("0481818181", "-25264513"),
            ("6a0461626364026566", "OP_RETURN 1684234849 26213"),
            ("006a0661626364656667", "0 OP_RETURN 616263646566 OP_ELSE"),
            ("ff", "OP_INVALIDOPCODE"),
            ("bafafc", "OP_UNKNOWN OP_UNKNOWN OP_UNKNOWN"),
            ("50898a", "OP_RESERVED OP_RESERVED1 OP_RESERVED2"),
            (
                "b0b1b2b8b9",
                "OP_NOP1 OP_CHECKLOCKTIMEVERIFY OP_CHECKSEQUENCEVERIFY OP_NOP9 OP_NOP10",
            ),
            ("61626364656667", "OP_NOP OP_VER OP_IF OP_NOTIF OP_VERIF OP_VERNOTIF OP_ELSE"),
            (
                "010102020304010203840501020304054f6050baff",
                "1 770 -67305985 0102030405 -1 16 OP_RESERVED OP_UNKNOWN OP_INVALIDOPCODE",
            ),
        ];
        for (script, text) in rows {
            assert_eq!(text_of(script), text, "{script}");
        }
    }

    #[test]
    fn only_a_whole_signature_in_an_unlocking_script_shows_its_hash_type() {
        let der = "3045022100aa892a546b779c91268120203547ddb10688a5fd0570934746887ec14f67dc3e022011fbaba\
                   30382e744ef66268216ed28f1db34e2addb0db65a01205174a543f607";
        let mut suffixes = Vec::new();
        for kind in 0..=255u8 {
            let script = hex::decode(format!("48{der}{kind:02x}")).unwrap();
            assert_eq!(asm(&script, false), format!("{der}{kind:02x}"));
            let shown = asm(&script, true);
            match shown.strip_prefix(der) {
                Some(suffix) if suffix.starts_with('[') => suffixes.push((kind, suffix.to_owned())),
                _ => assert_eq!(shown, format!("{der}{kind:02x}")),
            }
        }
        let kinds: Vec<u8> = suffixes.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [1, 2, 3, 0x41, 0x42, 0x43, 0x81, 0x82, 0x83, 0xc1, 0xc2, 0xc3]);
        assert_eq!(suffixes[9].1, "[ALL|FORKID|ANYONECANPAY]");
        let broken = der.replacen("3045022100", "3045022200", 1);
        let script = hex::decode(format!("48{broken}41")).unwrap();
        assert_eq!(asm(&script, true), format!("{broken}41"));
    }

    #[test]
    fn types_and_addresses_are_the_references() {
        let params = ChainParams::of(Network::Regtest);
        let fields = |script: &str, era| {
            let script = hex::decode(script).unwrap();
            let json = Json::of(|w| w.object(|w| write_locking(w, &script, era, &params)));
            let value: serde_json::Value = serde_json::from_slice(json.as_bytes()).unwrap();
            let addresses: Vec<String> = value["addresses"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|a| a.as_str().unwrap().to_owned())
                .collect();
            (
                value["type"].as_str().unwrap().to_owned(),
                value["reqSigs"].as_u64(),
                addresses.join(" "),
            )
        };
        let (before, after) = (Era::PreGenesis, Era::PostGenesis);
        let row = |kind: &str, required, addresses: &str| {
            (kind.to_owned(), required, addresses.to_owned())
        };
        let mine = "mgwuYJgJx5L7M8g926E36WXqM8FUmRsens";
        assert_eq!(fields(&format!("76a914{HASH}88ac"), after), row("pubkeyhash", Some(1), mine));
        assert_eq!(fields(&format!("21{KEY}ac"), after), row("pubkey", Some(1), mine));
        let script_hash = format!("a914{HASH}87");
        assert_eq!(
            fields(&script_hash, before),
            row("scripthash", Some(1), "2MtgBEY1oJQiaryXW6kY8KAfhr19fE5kmHG")
        );
        assert_eq!(fields(&script_hash, after), row("nonstandard", None, ""));
        assert_eq!(
            fields(&format!("5121{KEY}21{KEY}52ae"), after),
            row("multisig", Some(1), &format!("{mine} {mine}"))
        );
        assert_eq!(fields("006a0461626364", after), row("nulldata", None, ""));
        assert_eq!(fields("6a0461626364", after), row("nonstandard", None, ""));
        assert_eq!(fields("6a0461626364", before), row("nulldata", None, ""));
        assert_eq!(fields("", after), row("nonstandard", None, ""));
    }
}
