//! Random cases: scripts whose operands are mostly there, signed spends that are mostly right, and rubbish.
//!
//! A generator that only makes rubbish tests the first line of the interpreter; one that only makes sense tests none of its
//! refusals. So scripts are grown with a rough picture of the stack, signatures are made with real keys over the digest the
//! spend really has, and then some are broken in one place.

use super::case::{Case, Kind};
use crate::rng::Rng;
use consensus::hash::{hash160, sha256};
use consensus::script::{Budget, Flags, opcode};
use consensus::sighash::SighashCache;
use consensus::tx::{OutPoint, Tx, TxIn, TxLayout, TxOut, parse};
use secp256k1::{Message, SecretKey, ecdsa};

/// The flags a case may carry before Chronicle.
const FLAGS: [Flags; 17] = [
    Flags::P2SH,
    Flags::STRICTENC,
    Flags::DERSIG,
    Flags::LOW_S,
    Flags::NULLDUMMY,
    Flags::SIGPUSHONLY,
    Flags::MINIMALDATA,
    Flags::DISCOURAGE_UPGRADABLE_NOPS,
    Flags::CLEANSTACK,
    Flags::CHECKLOCKTIMEVERIFY,
    Flags::CHECKSEQUENCEVERIFY,
    Flags::MINIMALIF,
    Flags::NULLFAIL,
    Flags::COMPRESSED_PUBKEYTYPE,
    Flags::ENABLE_SIGHASH_FORKID,
    Flags::GENESIS,
    Flags::UTXO_AFTER_GENESIS,
];

/// Makes the next case.
pub fn case(rng: &mut Rng, chronicle: bool) -> Case {
    let mut flags = flags(rng, chronicle);
    let mut case = match rng.below(10) {
        0 => random_bytes(rng, flags),
        1..=4 => script(rng, flags),
        5 => mutated(rng, flags),
        _ => {
            // Signed spends under no flags of the fork say little about it.
            if !rng.one_in(4) {
                flags = flags.with(Flags::ENABLE_SIGHASH_FORKID);
            }
            signed(rng, flags)
        }
    };
    if chronicle {
        case.kind = Kind::Chronicle;
    }
    case
}

fn flags(rng: &mut Rng, chronicle: bool) -> Flags {
    // Sets as a block of some era has them, or any set at all.
    let mut flags = match rng.below(4) {
        0 => Flags::NONE,
        1 => FLAGS.into_iter().filter(|_| rng.one_in(2)).fold(Flags::NONE, Flags::with),
        2 => {
            let block = Flags::P2SH.with(Flags::DERSIG).with(Flags::CHECKLOCKTIMEVERIFY);
            let fork =
                block.with(Flags::STRICTENC).with(Flags::ENABLE_SIGHASH_FORKID).with(Flags::LOW_S);
            fork.with(Flags::NULLFAIL).with(Flags::CHECKSEQUENCEVERIFY)
        }
        _ => FLAGS.into_iter().filter(|_| rng.one_in(5)).fold(Flags::NONE, Flags::with),
    };
    if rng.one_in(2) {
        flags = flags.with(Flags::GENESIS);
        if rng.one_in(2) {
            flags = flags.with(Flags::UTXO_AFTER_GENESIS);
        }
    }
    if chronicle {
        flags = flags.with(Flags::GENESIS).with(Flags::CHRONICLE);
        if rng.one_in(2) {
            flags = flags.with(Flags::UTXO_AFTER_GENESIS);
        }
        if flags.has(Flags::UTXO_AFTER_GENESIS) && rng.one_in(2) {
            flags = flags.with(Flags::UTXO_AFTER_CHRONICLE);
        }
    }
    // SV Node asserts that a clean stack is only asked for together with P2SH.
    if flags.has(Flags::CLEANSTACK) { flags.with(Flags::P2SH) } else { flags }
}

/// A transaction around one input to verify, now and then with neighbours.
fn spending(rng: &mut Rng, unlocking: Vec<u8>) -> (Tx, usize) {
    let inputs = if rng.one_in(3) { 1 + rng.below(4) as usize } else { 1 };
    let at = rng.below(inputs as u64) as usize;
    let mut tx = Tx {
        version: *rng.pick(&[1, 1, 2, 2, -1, 0, 3, i32::MAX, i32::MIN]),
        lock_time: *rng.pick(&[0, 0, 1, 100, 499_999_999, 500_000_000, 1_700_000_000, u32::MAX]),
        ..Tx::default()
    };
    for _ in 0..inputs {
        let txid = consensus::hash::TxId(rng.bytes32());
        let vout = rng.below(5) as u32;
        let any = rng.next() as u32;
        let sequence = *rng.pick(&[u32::MAX, u32::MAX, 0, 1, u32::MAX - 1, 1 << 22, 1 << 31, any]);
        tx.inputs.push(TxIn {
            prev: OutPoint { txid, vout },
            unlocking_script: Vec::new(),
            sequence,
            coin: None,
        });
    }
    for _ in 0..=rng.below(3) {
        let len = rng.below(30) as usize;
        let locking_script = rng.bytes(len);
        tx.outputs.push(TxOut { value_sat: rng.below(1 << 40) as i64, locking_script });
    }
    tx.inputs[at].unlocking_script = unlocking;
    (tx, at)
}

fn finish(rng: &mut Rng, kind: Kind, unlocking: Vec<u8>, locking: Vec<u8>, flags: Flags) -> Case {
    let (tx, input) = spending(rng, unlocking);
    Case { kind, tx: tx.to_bytes(), input, value_sat: rng.below(1 << 50), locking, flags }
}

fn random_bytes(rng: &mut Rng, flags: Flags) -> Case {
    let (a, b) = (rng.below(20) as usize, rng.below(60) as usize);
    let (unlocking, locking) = (rng.bytes(a), rng.bytes(b));
    finish(rng, Kind::RandomBytes, unlocking, locking, flags)
}

fn script(rng: &mut Rng, flags: Flags) -> Case {
    let mut unlocking = Vec::new();
    let mut depth = 0;
    for _ in 0..rng.below(6) {
        push(rng, &mut unlocking);
        depth += 1;
    }
    if rng.one_in(6) {
        grow(rng, &mut unlocking, &mut depth, 5, true);
    }
    let mut locking = Vec::new();
    let items = 1 + rng.below(25);
    grow(rng, &mut locking, &mut depth, items, true);
    if rng.one_in(2) {
        locking.push(0x51);
    }
    finish(rng, Kind::Script, unlocking, locking, flags)
}

fn mutated(rng: &mut Rng, flags: Flags) -> Case {
    let mut case = script(rng, flags);
    for _ in 0..=rng.below(3) {
        let len = case.locking.len() as u64;
        if len == 0 {
            break;
        }
        let at = rng.below(len) as usize;
        match rng.below(3) {
            0 => case.locking[at] ^= 1 << rng.below(8),
            1 => case.locking.insert(at, rng.next() as u8),
            _ => {
                case.locking.remove(at);
            }
        }
    }
    case.kind = Kind::MutatedScript;
    case
}

/// A push: small numbers, numbers at the edges, short and long data, now and then not in the shortest form.
fn push(rng: &mut Rng, script: &mut Vec<u8>) {
    match rng.below(12) {
        0..=4 => push_number(script, rng.below(20) as i64 - 2),
        5 | 6 => {
            let edge = *rng.pick(&[
                127,
                128,
                255,
                256,
                32_767,
                32_768,
                8_388_607,
                2_147_483_647,
                2_147_483_648,
            ]);
            let number = if rng.one_in(2) { edge } else { -edge };
            push_number(script, number);
        }
        7 | 8 => {
            let len = rng.below(12) as usize;
            let data = rng.bytes(len);
            opcode::write_push(script, &data);
        }
        9 => {
            let len = *rng.pick(&[32, 33, 64, 75, 76, 80, 255, 256, 519, 520, 521]);
            let data = rng.bytes(len);
            opcode::write_push(script, &data);
        }
        10 => {
            // One byte too many in the length, or a number with padding.
            let data = rng.bytes(2);
            script.extend([0x4c, 2]);
            script.extend(data);
        }
        _ => script.extend([2, rng.below(256) as u8, *rng.pick(&[0x00, 0x80])]),
    }
}

/// A number as the shortest push: its own opcode for -1 to 16.
fn push_number(script: &mut Vec<u8>, number: i64) {
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

/// How many items an opcode takes and leaves, for those that just work on the stack.
const STACK_EFFECTS: &[(u8, i64, i64)] = &[
    (0x61, 0, 0),
    (0x69, 1, 0),
    (0x6b, 1, 0),
    (0x6d, 2, 0),
    (0x6e, 2, 4),
    (0x6f, 3, 6),
    (0x70, 4, 6),
    (0x71, 6, 6),
    (0x72, 4, 4),
    (0x73, 1, 1),
    (0x74, 0, 1),
    (0x75, 1, 0),
    (0x76, 1, 2),
    (0x77, 2, 1),
    (0x78, 2, 3),
    (0x79, 2, 2),
    (0x7a, 2, 1),
    (0x7b, 3, 3),
    (0x7c, 2, 2),
    (0x7d, 2, 3),
    (0x7e, 2, 1),
    (0x7f, 2, 2),
    (0x80, 2, 1),
    (0x81, 1, 1),
    (0x82, 1, 2),
    (0x83, 1, 1),
    (0x84, 2, 1),
    (0x85, 2, 1),
    (0x86, 2, 1),
    (0x87, 2, 1),
    (0x88, 2, 0),
    (0x8b, 1, 1),
    (0x8c, 1, 1),
    (0x8d, 1, 1),
    (0x8e, 1, 1),
    (0x8f, 1, 1),
    (0x90, 1, 1),
    (0x91, 1, 1),
    (0x92, 1, 1),
    (0x93, 2, 1),
    (0x94, 2, 1),
    (0x95, 2, 1),
    (0x96, 2, 1),
    (0x97, 2, 1),
    (0x98, 2, 1),
    (0x99, 2, 1),
    (0x9a, 2, 1),
    (0x9b, 2, 1),
    (0x9c, 2, 1),
    (0x9d, 2, 0),
    (0x9e, 2, 1),
    (0x9f, 2, 1),
    (0xa0, 2, 1),
    (0xa1, 2, 1),
    (0xa2, 2, 1),
    (0xa3, 2, 1),
    (0xa4, 2, 1),
    (0xa5, 3, 1),
    (0xa6, 1, 1),
    (0xa7, 1, 1),
    (0xa8, 1, 1),
    (0xa9, 1, 1),
    (0xaa, 1, 1),
    (0xab, 0, 0),
    (0xac, 2, 1),
    (0xad, 2, 0),
    (0xb0, 0, 0),
    (0xb1, 1, 1),
    (0xb2, 1, 1),
    (0xb3, 3, 1),
    (0xb4, 2, 1),
    (0xb5, 2, 1),
    (0xb6, 2, 1),
    (0xb7, 2, 1),
    (0xb8, 0, 0),
    (0xb9, 0, 0),
    (0x62, 0, 1),
];

/// Grows a script item by item; `depth` is a guess of the stack's height.
fn grow(rng: &mut Rng, script: &mut Vec<u8>, depth: &mut i64, items: u64, nest: bool) {
    for _ in 0..items {
        match rng.below(20) {
            0..=6 => {
                push(rng, script);
                *depth += 1;
            }
            7 if nest && *depth > 0 => {
                script.push(*rng.pick(&[0x63, 0x63, 0x63, 0x64, 0x65, 0x66]));
                *depth -= 1;
                let inside = rng.below(5);
                grow(rng, script, &mut depth.clone(), inside, false);
                if rng.one_in(2) {
                    script.push(0x67);
                    let inside = rng.below(5);
                    grow(rng, script, &mut depth.clone(), inside, false);
                }
                if !rng.one_in(12) {
                    script.push(0x68);
                }
            }
            8 => script.push(rng.next() as u8),
            9 if rng.one_in(4) => {
                script.push(*rng.pick(&[0x6a, 0x6c, 0x50, 0x89, 0x8a, 0xba, 0xff, 0x67, 0x68]));
            }
            10 if rng.one_in(4) => multisig_of_rubbish(rng, script, depth),
            _ => {
                // A few tries to find one whose operands are there.
                let effect =
                    (0..4).map(|_| *rng.pick(STACK_EFFECTS)).find(|(_, takes, _)| takes <= depth);
                let (code, takes, leaves) = effect.unwrap_or((0x51, 0, 1));
                script.push(code);
                *depth += leaves - takes;
            }
        }
    }
}

fn multisig_of_rubbish(rng: &mut Rng, script: &mut Vec<u8>, depth: &mut i64) {
    let keys = rng.below(4);
    let signatures = rng.below(keys + 2);
    script.push(0x00);
    for _ in 0..signatures {
        push(rng, script);
    }
    push_number(script, signatures as i64);
    for _ in 0..keys {
        push(rng, script);
    }
    push_number(script, keys as i64);
    script.push(*rng.pick(&[0xae, 0xae, 0xaf]));
    *depth += 1;
}

/// Keys come from the case's own stream.
fn key(rng: &mut Rng) -> SecretKey {
    loop {
        if let Ok(key) = SecretKey::from_secret_bytes(rng.bytes32()) {
            return key;
        }
    }
}

/// A public key in one of its forms; hybrid ones start with 6 or 7.
fn public(rng: &mut Rng, key: &SecretKey) -> Vec<u8> {
    let public = secp256k1::PublicKey::from_secret_key(key);
    match rng.below(10) {
        0 | 1 => public.serialize_uncompressed().to_vec(),
        2 => {
            let mut hybrid = public.serialize_uncompressed().to_vec();
            hybrid[0] = (6 + (hybrid[64] & 1)) ^ u8::from(rng.one_in(4));
            hybrid
        }
        _ => public.serialize().to_vec(),
    }
}

/// The shapes of outputs that are spent.
#[derive(Clone, Copy)]
enum Spend {
    KeyHash,
    Key,
    Multisig,
    Separated,
}

fn signed(rng: &mut Rng, flags: Flags) -> Case {
    let spend =
        *rng.pick(&[Spend::KeyHash, Spend::KeyHash, Spend::Key, Spend::Multisig, Spend::Separated]);
    let keys: Vec<SecretKey> = (0..3).map(|_| key(rng)).collect();
    let publics: Vec<Vec<u8>> = keys.iter().map(|key| public(rng, key)).collect();
    let needed = if matches!(spend, Spend::Multisig) { 1 + rng.below(3) as usize } else { 1 };
    let inner = match spend {
        Spend::KeyHash => {
            let mut script = vec![0x76, 0xa9, 20];
            script.extend(hash160(&publics[0]));
            script.extend([0x88, 0xac]);
            script
        }
        Spend::Key => with_push(&publics[0], &[0xac]),
        Spend::Multisig => {
            let mut script = Vec::new();
            push_number(&mut script, needed as i64);
            for public in &publics {
                opcode::write_push(&mut script, public);
            }
            script.extend([0x53, 0xae]);
            script
        }
        Spend::Separated => {
            let mut script = vec![0x51, 0x75, 0xab];
            script.extend(with_push(&publics[0], &[0xac]));
            script
        }
    };
    let p2sh = rng.one_in(5);
    let locking = if p2sh {
        let mut script = vec![0xa9, 20];
        script.extend(hash160(&inner));
        script.push(0x87);
        script
    } else {
        inner.clone()
    };
    let (mut tx, at) = spending(rng, Vec::new());
    let value_sat = rng.below(1 << 50);
    // What is signed starts behind the last code separator.
    let code = if matches!(spend, Spend::Separated) { inner[3..].to_vec() } else { inner.clone() };
    let mut unlocking = Vec::new();
    if matches!(spend, Spend::Multisig) {
        unlocking.push(if rng.one_in(10) { 0x51 } else { 0x00 });
    }
    let mut signers: Vec<usize> = (0..3).collect();
    while signers.len() > needed {
        let drop = rng.below(signers.len() as u64) as usize;
        signers.remove(drop);
    }
    for signer in signers {
        let signature = signature(rng, &tx, at, value_sat, &code, &keys[signer], flags);
        opcode::write_push(&mut unlocking, &signature);
    }
    if matches!(spend, Spend::KeyHash) {
        opcode::write_push(&mut unlocking, &publics[0]);
    }
    if p2sh {
        opcode::write_push(&mut unlocking, &inner);
    }
    if rng.one_in(20) {
        unlocking.insert(0, 0x61);
    }
    if rng.one_in(15) {
        tx.outputs[0].value_sat ^= 1;
    }
    tx.inputs[at].unlocking_script = unlocking;
    Case { kind: Kind::Signed, tx: tx.to_bytes(), input: at, value_sat, locking, flags }
}

fn with_push(data: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut script = Vec::new();
    opcode::write_push(&mut script, data);
    script.extend(rest);
    script
}

/// A signature with its hash type, mostly good.
fn signature(
    rng: &mut Rng,
    tx: &Tx,
    at: usize,
    value_sat: u64,
    code: &[u8],
    key: &SecretKey,
    flags: Flags,
) -> Vec<u8> {
    let fork_id = flags.has(Flags::ENABLE_SIGHASH_FORKID);
    let base = *rng.pick(&[1, 1, 1, 2, 3, 0x81, 0x82, 0x83]);
    let mut hash_type: u8 = if fork_id { base | 0x40 } else { base };
    if rng.one_in(15) {
        hash_type = rng.next() as u8;
    }
    if flags.has(Flags::CHRONICLE) && rng.one_in(3) {
        hash_type |= 0x20;
    }
    let bytes = tx.to_bytes();
    let mut layout = TxLayout::default();
    let view = parse(&bytes, &mut layout).expect("a transaction we built parses");
    let digest = SighashCache::new()
        .digest(
            &view,
            at,
            hash_type.into(),
            value_sat,
            code,
            fork_id,
            &mut Budget::UNLIMITED.clone(),
        )
        .expect("an unlimited budget does not end");
    let mut signature = ecdsa::sign(Message::from_digest(digest), key);
    if rng.one_in(8) {
        signature = high_s(&signature);
    }
    let mut der = signature.serialize_der().to_vec();
    match rng.below(30) {
        0 => {
            let at = rng.below(der.len() as u64) as usize;
            der[at] ^= 1 << rng.below(8);
        }
        1 => der.clear(),
        2 => {
            der.push(0);
        }
        3 => {
            // A zero too many before R: accepted by the lax reader, refused by the strict one.
            der.insert(4, 0);
            der[3] += 1;
            der[1] += 1;
        }
        4 => der = sha256(&der).to_vec(),
        _ => {}
    }
    if !der.is_empty() || rng.one_in(2) {
        der.push(hash_type);
    }
    der
}

/// The other signature that is as good: the order minus S.
fn high_s(signature: &ecdsa::Signature) -> ecdsa::Signature {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let mut compact = signature.serialize_compact();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(compact[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        compact[32 + at] = difference.rem_euclid(256) as u8;
    }
    ecdsa::Signature::from_compact(&compact).unwrap_or(*signature)
}
