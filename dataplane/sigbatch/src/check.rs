//! One signature check: what goes in, and the verdict that comes out.

/// An ECDSA signature as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature<'a> {
    /// r and s, 32 bytes each, big endian.
    Compact(&'a [u8; 64]),
    /// DER as old blocks hold it: parsed laxly (SV Node: `pubkey.cpp ecdsa_signature_parse_der_lax`), no hash type behind.
    Der(&'a [u8]),
}

/// One item of a batch. A high s is taken as its low twin, as `CPubKey::Verify` does; whether it was allowed is the
/// caller's rule.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// 33 bytes (02, 03) or 65 bytes (04; 06 and 07 hybrid).
    pub public_key: &'a [u8],
    /// What was signed: 32 bytes, taken big endian.
    pub digest: &'a [u8; 32],
    /// The signature.
    pub signature: Signature<'a>,
}

/// What became of one check. Numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum SigVerdict {
    /// The signature is right.
    Valid = 0,
    /// Key and signature were read, the equation does not hold.
    #[default]
    Wrong = 1,
    /// The key is no point of the curve in a known form.
    BadKey = 2,
    /// The signature is not r and s in any form the lax parser reads.
    BadSignature = 3,
}

impl SigVerdict {
    /// True for the one good end.
    pub fn is_valid(self) -> bool {
        self == Self::Valid
    }
}
