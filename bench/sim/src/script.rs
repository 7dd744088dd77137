//! Locks of the simulator's coins: mostly cheap ones, a few that need a signature, one that is slow, one that is long.

use consensus::hash::{hash160, sha256};
use consensus::script::Budget;
use consensus::sighash::SighashCache;
use consensus::tx::{Tx, TxLayout, parse};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa};

/// Keys there are.
pub const KEYS: u8 = 4;
const SIGHASH_ALL_FORKID: u8 = 0x41;

const OP_1: u8 = 0x51;
const OP_VERIFY: u8 = 0x69;
const OP_DROP: u8 = 0x75;
const OP_EQUAL: u8 = 0x87;
const OP_ADD: u8 = 0x93;
const OP_NUMEQUAL: u8 = 0x9c;
const OP_SHA256: u8 = 0xa8;

/// What has to be shown to spend a coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Nothing; the number makes the script its own.
    Number(u32),
    /// The preimage of a hash.
    Preimage(u32),
    /// Two numbers with this sum, 3 to 16.
    Sum(u8),
    /// A signature of this key.
    Key(u8),
    /// Nothing, but it takes three thousand operations.
    Costly(u32),
    /// Nothing, in a script that no frag holds in line.
    Long(u32),
}

fn push(script: &mut Vec<u8>, bytes: &[u8]) {
    assert!(bytes.len() < 0x4c, "only short pushes");
    script.push(bytes.len() as u8);
    script.extend_from_slice(bytes);
}

fn secret(key: u8) -> SecretKey {
    SecretKey::from_secret_bytes([key + 1; 32]).expect("small numbers are keys")
}

fn public(key: u8) -> [u8; 33] {
    PublicKey::from_secret_key(&secret(key)).serialize()
}

impl Lock {
    /// Its locking script.
    pub fn locking_script(self) -> Vec<u8> {
        let mut s = Vec::new();
        match self {
            Self::Number(n) => {
                push(&mut s, &n.to_le_bytes());
                s.extend([OP_DROP, OP_1]);
            }
            Self::Preimage(n) => {
                s.push(OP_SHA256);
                push(&mut s, &sha256(&preimage(n)));
                s.push(OP_EQUAL);
            }
            Self::Sum(k) => s.extend([OP_ADD, OP_1 + k - 1, OP_NUMEQUAL]),
            Self::Key(key) => {
                s.extend([0x76, 0xa9]);
                push(&mut s, &hash160(&public(key)));
                s.extend([0x88, 0xac]);
            }
            Self::Costly(n) => {
                push(&mut s, &n.to_le_bytes());
                s.push(OP_DROP);
                for _ in 0..1_500 {
                    s.extend([OP_1, OP_DROP]);
                }
                s.push(OP_1);
            }
            Self::Long(n) => {
                push(&mut s, &n.to_le_bytes());
                s.push(OP_DROP);
                for i in 0..20_u8 {
                    s.extend([0x4d, 0xf4, 0x01]);
                    s.extend([i; 500]);
                    s.push(OP_DROP);
                }
                s.truncate(9_000 - 9_000 % 504 + 6);
                s.push(OP_1);
            }
        }
        s
    }

    /// What unlocks it; a signature is put in later.
    fn unlocking_script(self) -> Vec<u8> {
        let mut s = Vec::new();
        match self {
            Self::Preimage(n) => push(&mut s, &preimage(n)),
            Self::Sum(k) => s.extend([OP_1, OP_1 + k - 2]),
            Self::Number(_) | Self::Key(_) | Self::Costly(_) | Self::Long(_) => {}
        }
        s
    }
}

fn preimage(n: u32) -> [u8; 8] {
    u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

/// What no lock opens to.
pub fn wrong_unlocking_script() -> Vec<u8> {
    vec![0x00, OP_VERIFY]
}

/// Fills the unlocking scripts of `tx`, whose inputs carry their coins, with what `locks` ask for.
pub fn unlock(tx: &mut Tx, locks: &[Lock]) {
    for (input, lock) in tx.inputs.iter_mut().zip(locks) {
        input.unlocking_script = lock.unlocking_script();
    }
    if !locks.iter().any(|lock| matches!(lock, Lock::Key(_))) {
        return;
    }
    let bytes = tx.to_bytes();
    let mut layout = TxLayout::new();
    let view = parse(&bytes, &mut layout).expect("a transaction just written is one");
    let mut cache = SighashCache::new();
    for (i, lock) in locks.iter().enumerate() {
        let Lock::Key(key) = *lock else { continue };
        let coin = tx.inputs[i].coin.as_ref().expect("a signed input carries its coin");
        let mut budget = Budget::UNLIMITED;
        let digest = cache
            .digest(
                &view,
                i,
                SIGHASH_ALL_FORKID.into(),
                coin.value_sat,
                &coin.locking_script,
                true,
                &mut budget,
            )
            .expect("an unlimited budget");
        let signature = ecdsa::sign(Message::from_digest(digest), &secret(key));
        let mut der = signature.serialize_der().to_vec();
        der.push(SIGHASH_ALL_FORKID);
        let mut script = Vec::new();
        push(&mut script, &der);
        push(&mut script, &public(key));
        tx.inputs[i].unlocking_script = script;
    }
}
