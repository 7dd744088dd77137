//! The twenty-six kinds of signatures that verifiers get wrong, drawn from a seed.
//!
//! Signed with libsecp256k1, then bent: bits, ranges, parities, scalars at the ends, keys that are small multiples of G,
//! sums that collide, x(R) above n. What the verdict should be is not said here: libsecp256k1 is asked.

use super::draw::Draw;
use crate::ifma::scalar::{self, Words};
use crate::{Check, Signature};
use secp256k1::{Message, PublicKey, Scalar, SecretKey, ecdsa};

/// lambda * (x, y) = (beta * x, y). Source: libsecp256k1, scalar_impl.h.
pub const LAMBDA: Words =
    [0xDF02967C1B23BD72, 0x122E22EA20816678, 0xA5261C028812645A, 0x5363AD4CC05C30E0];

/// How many kinds there are.
pub const CATEGORIES: usize = 26;

/// One drawn signature.
#[derive(Clone, Debug)]
pub struct Case {
    /// Which kind.
    pub category: usize,
    /// 33 or 65 bytes.
    pub key: Vec<u8>,
    /// What was signed.
    pub digest: [u8; 32],
    /// r and s.
    pub compact: [u8; 64],
    /// The same as DER, where that is how it is given.
    pub der: Option<Vec<u8>>,
}

impl Case {
    /// As the verifier takes it.
    pub fn check(&self) -> Check<'_> {
        let signature = match &self.der {
            Some(der) => Signature::Der(der),
            None => Signature::Compact(&self.compact),
        };
        Check { public_key: &self.key, digest: &self.digest, signature }
    }

    /// A right signature, or one with a wrong digest.
    pub fn signed(draw: &mut Draw, right: bool) -> Self {
        let mut case = sign(draw, None, None);
        case.digest[31] ^= u8::from(!right);
        case
    }

    /// A signature whose check is u1 * G + u2 * d * G, and whose r is x of that (any r, where that is infinity; the sum of r and n
    /// is not tried). `None` where d or u2 is 0, or r is.
    pub fn of_scalars(u1: &[u8; 32], u2: &[u8; 32], d: &[u8; 32]) -> Option<Self> {
        secret(d)?;
        let product = times(u2, d);
        let sum = match (secret(&product), Scalar::from_be_bytes(*u1)) {
            (Some(k), Ok(tweak)) => k.add_tweak(&tweak).ok(),
            _ => None,
        };
        let r = match sum {
            Some(k) => {
                let point = PublicKey::from_secret_key(&k).serialize();
                let x = point.last_chunk::<32>().expect("33 bytes");
                bytes_of(&reduced(&scalar::from_bytes(x)))
            }
            None => product,
        };
        Self::of_scalars_and_r(u1, u2, d, &r)
    }

    /// As [`Case::of_scalars`] with an r of its own, right or not.
    pub fn of_scalars_and_r(
        u1: &[u8; 32],
        u2: &[u8; 32],
        d: &[u8; 32],
        r: &[u8; 32],
    ) -> Option<Self> {
        let key = PublicKey::from_secret_key(&secret(d)?).serialize().to_vec();
        let s = times(r, &inverse(u2));
        let mut compact = [0; 64];
        compact[..32].copy_from_slice(r);
        compact[32..].copy_from_slice(&s);
        let case = Self { category: 19, key, digest: times(u1, &s), compact, der: None };
        [*r, s].iter().all(|k| scalar::in_range(&scalar::from_bytes(k))).then_some(case)
    }

    /// A right DER signature by a new compressed key: what most inputs of a block hold.
    pub fn compressed(draw: &mut Draw) -> Self {
        loop {
            let case = sign(draw, None, None);
            if case.key.len() == 33 && case.der.is_some() {
                return case;
            }
        }
    }
}

/// 32 bytes, big endian.
pub fn bytes_of(words: &Words) -> [u8; 32] {
    let mut out = [0; 32];
    for (place, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(words.iter().rev()) {
        *place = word.to_be_bytes();
    }
    out
}

/// n - k, for k in 1..n.
pub fn minus(k: &[u8; 32]) -> [u8; 32] {
    bytes_of(&scalar::sub(&scalar::N, &scalar::from_bytes(k)).0)
}

/// a * b modulo n.
pub fn times(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mont = scalar::mul(&scalar::INTO, &reduced(&scalar::from_bytes(a)));
    bytes_of(&scalar::mul(&scalar::from_bytes(b), &mont))
}

/// 1 / a modulo n.
pub fn inverse(a: &[u8; 32]) -> [u8; 32] {
    let inverse = scalar::invert(&scalar::mul(&scalar::INTO, &reduced(&scalar::from_bytes(a))));
    bytes_of(&scalar::mul(&[1, 0, 0, 0], &inverse))
}

fn reduced(k: &Words) -> Words {
    if scalar::less(k, &scalar::N) { *k } else { scalar::sub(k, &scalar::N).0 }
}

fn secret(k: &[u8; 32]) -> Option<SecretKey> {
    SecretKey::from_secret_bytes(*k).ok()
}

/// A scalar at which tables, windows or the split could stumble, of either sign.
pub fn special(draw: &mut Draw) -> [u8; 32] {
    let lambda = bytes_of(&LAMBDA);
    let small = |k: u64| bytes_of(&[k, 0, 0, 0]);
    let power = |bit: u64| {
        let mut words = [0; 4];
        words[(bit / 64) as usize] = 1 << (bit % 64);
        bytes_of(&reduced(&words))
    };
    let k = match draw.below(11) {
        0 => small(1 + draw.below(40)),
        1 => lambda,
        2 => times(&lambda, &lambda),
        3 => power(draw.below(256)),
        4 => times(&lambda, &small(1 + draw.below(40))),
        5 => small(1 + draw.below(1 << 17)),
        6 => times(&power(128), &small(1 + draw.below(70_000))),
        7 => times(&lambda, &power(5 * draw.below(27))),
        8 => times(&power(5 * draw.below(27)), &small(1 + draw.below(32))),
        9 => times(&power(16 * draw.below(16)), &small(1 + draw.below(65_535))),
        _ => times(&inverse(&small(2)), &small(1 + draw.below(9))),
    };
    if draw.below(2) == 0 { k } else { minus(&k) }
}

fn sign(draw: &mut Draw, key: Option<[u8; 32]>, digest: Option<[u8; 32]>) -> Case {
    let secret = key
        .and_then(|k| secret(&k))
        .or_else(|| secret(&draw.bytes()))
        .unwrap_or_else(|| secret(&[1; 32]).expect("1 <= k < n"));
    let public = PublicKey::from_secret_key(&secret);
    let digest = digest.unwrap_or_else(|| draw.bytes());
    let signature = ecdsa::sign(Message::from_digest(digest), &secret);
    let mut key = match draw.below(4) {
        0 => public.serialize_uncompressed().to_vec(),
        _ => public.serialize().to_vec(),
    };
    if key.len() == 65 && draw.below(2) == 0 {
        key[0] = 6 + (key[64] & 1);
    }
    let der = (draw.below(2) == 0).then(|| signature.serialize_der().to_vec());
    Case { category: 0, key, digest, compact: signature.serialize_compact(), der }
}

/// The next case, of any kind.
pub fn draw_case(draw: &mut Draw) -> Case {
    let category = draw.below(CATEGORIES as u64) as usize;
    let n = bytes_of(&scalar::N);
    let below_n = bytes_of(&scalar::sub(&scalar::N, &[1, 0, 0, 0]).0);
    let one = bytes_of(&[1, 0, 0, 0]);
    let key = match category {
        17 if draw.below(2) == 0 => Some(one),
        17 => Some(minus(&one)),
        18 => Some(special(draw)),
        _ => None,
    };
    let digest = match (category, draw.below(4)) {
        (15, _) => Some([0; 32]),
        (16, 0) => Some(n),
        (16, 1) => Some([0xff; 32]),
        (16, _) => {
            let mut digest = draw.bytes();
            digest[..16].fill(0xff);
            Some(digest)
        }
        _ => None,
    };
    let mut case = sign(draw, key, digest);
    case.category = category;
    if (1..=14).contains(&category) || category > 18 {
        // What is bent is r and s themselves.
        case.der = None;
    }
    let flip = |draw: &mut Draw, bytes: &mut [u8]| {
        let bit = draw.below(bytes.len() as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
    };
    let half = 32 * draw.below(2) as usize;
    match category {
        1 => flip(draw, &mut case.compact[..32]),
        2 => flip(draw, &mut case.compact[32..]),
        3 => flip(draw, &mut case.digest),
        4 => flip(draw, &mut case.key[1..33]),
        5 => case.key[0] ^= 1,
        6 => {
            let s = minus(case.compact.last_chunk().expect("64 bytes"));
            case.compact[32..].copy_from_slice(&s);
        }
        7 => case.compact[..32].fill(0),
        8 => case.compact[32..].fill(0),
        9 => case.compact[half..][..32].copy_from_slice(&n),
        10 => case.compact[half..][..32].copy_from_slice(&below_n),
        11 => case.compact[half..][..16].fill(0xff),
        12 => {
            case.compact[half..][..31].fill(0);
            case.compact[half + 31] = draw.below(5) as u8;
        }
        13 if draw.below(3) == 0 => case.key[1..33].copy_from_slice(&bytes_of(&scalar::P)),
        13 => case.key[1..29].fill(0xff),
        14 => case.key[0] = draw.word() as u8,
        19..=21 => relate(draw, &mut case),
        22 => small_r(draw, &mut case),
        23 => case.key[1..33].copy_from_slice(&draw.bytes()),
        24 => {
            case.compact[..32].copy_from_slice(&draw.bytes());
            case.compact[32..].copy_from_slice(&draw.bytes());
        }
        25 if draw.below(2) == 0 => {
            case.digest = minus(&bytes_of(&reduced(&scalar::from_bytes(&case.digest))));
        }
        25 => case.compact.rotate_left(32),
        _ => {}
    }
    case
}

/// Chosen u1, u2 and key: partial sums that collide, u1 G = +-u2 Q, R at infinity.
fn relate(draw: &mut Draw, case: &mut Case) {
    let d = if draw.below(2) == 0 { special(draw) } else { draw.bytes() };
    let u2 = special(draw);
    let product = times(&u2, &d);
    let u1 = match draw.below(4) {
        0 => product,
        1 => minus(&product),
        2 => times(&special(draw), &product),
        _ => special(draw),
    };
    if let Some(made) = Case::of_scalars(&u1, &u2, &d) {
        *case = Case { category: case.category, ..made };
    }
}

/// An r below p - n: two values of x stand for it. The key is made to fit: Q = (R - u1 G) / u2.
fn small_r(draw: &mut Draw, case: &mut Case) {
    for _ in 0..64 {
        let r: Words = [1 + draw.below(1 << 10), 0, 0, 0];
        let x = if draw.below(2) == 0 {
            r
        } else {
            let (low, carry) = r[0].overflowing_add(scalar::N[0]);
            [low, scalar::N[1] + u64::from(carry), scalar::N[2], scalar::N[3]]
        };
        let point = [&[2 + draw.below(2) as u8][..], &bytes_of(&x)].concat();
        let Ok(point) = PublicKey::from_slice(&point) else { continue };
        let (u1, u2) = (draw.bytes(), draw.bytes());
        let (Some(u1_key), Ok(factor)) = (secret(&u1), Scalar::from_be_bytes(inverse(&u2))) else {
            continue;
        };
        let back = PublicKey::from_secret_key(&u1_key).negate();
        let Ok(key) = point.combine(&back).and_then(|sum| sum.mul_tweak(&factor)) else { continue };
        let r = bytes_of(&r);
        let s = times(&r, &inverse(&u2));
        case.digest = times(&u1, &s);
        case.compact[..32].copy_from_slice(&r);
        case.compact[32..].copy_from_slice(&s);
        case.key = key.serialize().to_vec();
        return;
    }
}
