//! Templates: the shapes of locking scripts that wallets have always used.
//!
//! Policy only; consensus knows no templates. Source: SV Node `script/standard.cpp` `Solver`, `policy/policy.cpp` `IsStandard`.

use super::scan::{self, Op, Ops};
use crate::params::Era;
use std::ops::RangeInclusive;

/// Sizes a template takes for a public key.
const KEY_BYTES: RangeInclusive<usize> = 33..=65;
/// Most keys of a multisig that counts as standard.
pub const STANDARD_MULTISIG_KEYS_MAX: u32 = 3;

/// What shape a locking script has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template<'a> {
    /// `<key> CHECKSIG`.
    PubKey(&'a [u8]),
    /// `DUP HASH160 <hash> EQUALVERIFY CHECKSIG`.
    PubKeyHash(&'a [u8; 20]),
    /// `HASH160 <hash> EQUAL`, for coins from before Genesis.
    ScriptHash(&'a [u8; 20]),
    /// `m <keys> n CHECKMULTISIG`.
    Multisig {
        /// Signatures needed.
        required: u32,
        /// Keys listed.
        keys: u32,
    },
    /// `FALSE RETURN` and pushes (before Genesis also `RETURN` and pushes).
    Data,
    /// Anything else.
    NonStandard,
}

impl<'a> Template<'a> {
    /// Classifies a locking script by the era of its coin.
    pub fn of(script: &'a [u8], coin_era: Era) -> Self {
        let from_genesis = coin_era >= Era::PostGenesis;
        if scan::is_p2sh(script) {
            return match script[2..].first_chunk() {
                Some(hash) if !from_genesis => Self::ScriptHash(hash),
                _ => Self::NonStandard,
            };
        }
        let data = match script {
            [scan::OP_RETURN, rest @ ..] if !from_genesis => Some(rest),
            [scan::OP_0, scan::OP_RETURN, rest @ ..] => Some(rest),
            _ => None,
        };
        if data.is_some_and(scan::is_push_only) {
            return Self::Data;
        }
        if let [0x76, 0xa9, 0x14, rest @ ..] = script
            && let Some((hash, [0x88, 0xac])) = rest.split_first_chunk()
        {
            return Self::PubKeyHash(hash);
        }
        let mut ops = Ops::new(script);
        if let (Some(key), Some(Op { code: scan::OP_CHECKSIG, .. }), None) =
            (ops.next(), ops.next(), ops.next())
            && !ops.is_cut()
            && KEY_BYTES.contains(&key.data.len())
        {
            return Self::PubKey(key.data);
        }
        multisig(script, from_genesis).unwrap_or(Self::NonStandard)
    }

    /// SV Node's name of the type, as JSON-RPC shows it. Source: `GetTxnOutputType`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PubKey(_) => "pubkey",
            Self::PubKeyHash(_) => "pubkeyhash",
            Self::ScriptHash(_) => "scripthash",
            Self::Multisig { .. } => "multisig",
            Self::Data => "nulldata",
            Self::NonStandard => "nonstandard",
        }
    }

    /// True if a transaction with such an output is standard. `data`: whether data outputs are welcome (`-datacarrier`).
    pub fn is_standard(&self, data: bool) -> bool {
        match self {
            Self::PubKey(_) | Self::PubKeyHash(_) | Self::ScriptHash(_) => true,
            Self::Multisig { keys, .. } => *keys <= STANDARD_MULTISIG_KEYS_MAX,
            Self::Data => data,
            Self::NonStandard => false,
        }
    }
}

/// A count in a multisig script: `OP_0`, `OP_1` to `OP_16`, from Genesis on also a push of up to four bytes.
fn count(op: Op<'_>, from_genesis: bool) -> Option<u32> {
    match op.code {
        scan::OP_0 => Some(0),
        scan::OP_1..=scan::OP_16 => Some(u32::from(op.code - scan::OP_1) + 1),
        _ if from_genesis && !op.data.is_empty() => scan::small_number(op.data),
        _ => None,
    }
}

fn multisig(script: &[u8], from_genesis: bool) -> Option<Template<'_>> {
    let mut ops = Ops::new(script);
    let required = count(ops.next()?, from_genesis)?;
    let mut found = 0u32;
    let after_keys = loop {
        let op = ops.next()?;
        if !KEY_BYTES.contains(&op.data.len()) {
            break op;
        }
        found += 1;
    };
    let keys = count(after_keys, from_genesis)?;
    let ends = ops.next()?.code == scan::OP_CHECKMULTISIG && ops.next().is_none() && !ops.is_cut();
    (ends && (1..=keys).contains(&required) && keys == found)
        .then_some(Template::Multisig { required, keys })
}

/// True if an output never becomes a coin.
///
/// From Genesis on only `FALSE RETURN` is unspendable: a bare `RETURN` ends its script and what the unlocking script left
/// decides. Source: SV Node `script/script.h` `IsUnspendable`.
pub fn is_unspendable(locking_script: &[u8], era: Era) -> bool {
    match locking_script {
        [scan::OP_0, scan::OP_RETURN, ..] => true,
        [scan::OP_RETURN, ..] => era == Era::PreGenesis,
        _ => era == Era::PreGenesis && locking_script.len() > 10_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_script(n: u8, m: u8) -> Vec<u8> {
        let mut s = vec![0x50 + m];
        for i in 0..n {
            s.push(33);
            s.push(2);
            s.extend_from_slice(&[i; 32]);
        }
        s.extend_from_slice(&[0x50 + n, 0xae]);
        s
    }

    #[test]
    fn templates_are_recognised() {
        let of = |s: &[u8]| Template::of(s, Era::PostGenesis).name();
        let mut p2pkh = vec![0x76, 0xa9, 0x14];
        p2pkh.extend_from_slice(&[5; 20]);
        p2pkh.extend_from_slice(&[0x88, 0xac]);
        assert_eq!(of(&p2pkh), "pubkeyhash");
        p2pkh.push(0);
        assert_eq!(of(&p2pkh), "nonstandard");
        let mut p2pk = vec![33];
        p2pk.extend_from_slice(&[2; 33]);
        p2pk.push(0xac);
        assert_eq!(of(&p2pk), "pubkey");
        assert_eq!(of(&[0x00, 0x6a, 1, 2]), "nulldata");
        assert_eq!(of(&[0x00, 0x6a, 5, 2]), "nonstandard");
        assert_eq!(of(&[0x6a, 1, 2]), "nonstandard");
        assert_eq!(Template::of(&[0x6a, 1, 2], Era::PreGenesis), Template::Data);
        assert_eq!(of(&[]), "nonstandard");
        let three = key_script(3, 2);
        assert_eq!(
            Template::of(&three, Era::PreGenesis),
            Template::Multisig { required: 2, keys: 3 }
        );
        assert!(!Template::of(&key_script(4, 2), Era::PreGenesis).is_standard(true));
        assert_eq!(of(&key_script(2, 3)), "nonstandard");
    }

    #[test]
    fn p2sh_is_a_template_only_for_old_coins() {
        let mut s = vec![0xa9, 0x14];
        s.extend_from_slice(&[1; 20]);
        s.push(0x87);
        assert_eq!(Template::of(&s, Era::PreGenesis).name(), "scripthash");
        assert_eq!(Template::of(&s, Era::PostGenesis).name(), "nonstandard");
    }

    #[test]
    fn a_bare_return_is_a_coin_from_genesis_on() {
        assert!(is_unspendable(&[0x6a], Era::PreGenesis));
        assert!(!is_unspendable(&[0x6a], Era::PostGenesis));
        assert!(is_unspendable(&[0x00, 0x6a], Era::PostChronicle));
        assert!(is_unspendable(&[0x51; 10_001], Era::PreGenesis));
        assert!(!is_unspendable(&[0x51; 10_001], Era::PostGenesis));
        assert!(!is_unspendable(&[], Era::PreGenesis));
    }
}
