//! Block headers: eighty bytes, their name, and the rules that need nothing but the headers before them.
//!
//! The caller looks up what the rules need (height, median time, required bits) and hands it in as a [`HeaderContext`].
//! Source of the order of checks: SV Node `validation.cpp` `AcceptBlockHeader`, `CheckBlockHeader`,
//! `ContextualCheckBlockHeader`.

use crate::hash::{BlockHash, MerkleHash};
use crate::params::ChainParams;
use crate::pow;
use crate::rules::{Dos, RejectCode};
use crate::wire::{ParseError, Reader};

/// How far a header's time may be ahead of network-adjusted time, in seconds. Source: SV Node `MAX_FUTURE_BLOCK_TIME`.
pub const FUTURE_SECONDS_MAX: u32 = 2 * 60 * 60;

/// Blocks in a median time past. Source: SV Node `CBlockIndex::nMedianTimeSpan`.
pub const MEDIAN_TIME_BLOCKS: usize = 11;

/// A block header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Version, compared as a signed number.
    pub version: i32,
    /// The block before.
    pub prev: BlockHash,
    /// Root of the merkle tree of the block's transaction ids.
    pub merkle_root: MerkleHash,
    /// Seconds since 1970 according to the miner.
    pub time_s: u32,
    /// The target in compact form.
    pub n_bits: u32,
    /// What the miner turned.
    pub nonce: u32,
}

impl Header {
    /// Bytes of every header.
    pub const BYTES: usize = 80;

    /// Reads a header. Any eighty bytes are one.
    pub fn from_bytes(bytes: &[u8; 80]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes(*bytes[at..].first_chunk().expect("the header has 80 bytes"))
        };
        let hash = |at: usize| *bytes[at..].first_chunk().expect("the header has 80 bytes");
        Self {
            version: word(0) as i32,
            prev: BlockHash(hash(4)),
            merkle_root: MerkleHash(hash(36)),
            time_s: word(68),
            n_bits: word(72),
            nonce: word(76),
        }
    }

    /// Reads a header from the front of a reader.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        Ok(Self::from_bytes(&reader.array()?))
    }

    /// The wire form.
    pub fn to_bytes(&self) -> [u8; 80] {
        let mut b = [0u8; 80];
        b[..4].copy_from_slice(&self.version.to_le_bytes());
        b[4..36].copy_from_slice(&self.prev.0);
        b[36..68].copy_from_slice(&self.merkle_root.0);
        b[68..72].copy_from_slice(&self.time_s.to_le_bytes());
        b[72..76].copy_from_slice(&self.n_bits.to_le_bytes());
        b[76..].copy_from_slice(&self.nonce.to_le_bytes());
        b
    }

    /// The block's name.
    pub fn hash(&self) -> BlockHash {
        BlockHash::of(&self.to_bytes())
    }
}

/// Why a header is refused. Numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HeaderReject {
    /// The header is already known to be invalid.
    Duplicate = 1,
    /// The bits make no target, or the hash is above it.
    HighHash = 2,
    /// The block before is not known.
    PrevNotFound = 3,
    /// The block before is invalid.
    BadPrev = 4,
    /// Another block is known at this checkpoint's height.
    CheckpointMismatch = 5,
    /// The header forks off before the last checkpoint.
    ForkPriorToCheckpoint = 6,
    /// The bits are not the required ones.
    BadDiffBits = 7,
    /// Not later than the median time past.
    TimeTooOld = 8,
    /// More than two hours ahead.
    TimeTooNew = 9,
    /// A version that the chain no longer accepts; its reason carries the version, see [`Self::write_reason`].
    BadVersion = 10,
}

impl HeaderReject {
    /// SV Node's reject reason. `BadVersion` lacks its number here.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::HighHash => "high-hash",
            Self::PrevNotFound => "prev-blk-not-found",
            Self::BadPrev => "bad-prevblk",
            Self::CheckpointMismatch => "checkpoint mismatch",
            Self::ForkPriorToCheckpoint => "bad-fork-prior-to-checkpoint",
            Self::BadDiffBits => "bad-diffbits",
            Self::TimeTooOld => "time-too-old",
            Self::TimeTooNew => "time-too-new",
            Self::BadVersion => "bad-version",
        }
    }

    /// The whole reason for a header: `bad-version(0x00000001)`.
    pub fn write_reason(self, version: i32, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        match self {
            Self::BadVersion => write!(out, "bad-version(0x{version:08x})"),
            _ => out.write_str(self.reason()),
        }
    }

    /// Ban score for the peer that sent it.
    pub fn dos(self) -> Dos {
        match self {
            Self::HighHash => 50,
            Self::PrevNotFound => 10,
            Self::BadPrev
            | Self::CheckpointMismatch
            | Self::ForkPriorToCheckpoint
            | Self::BadDiffBits => 100,
            Self::Duplicate | Self::TimeTooOld | Self::TimeTooNew | Self::BadVersion => 0,
        }
    }

    /// The code of the `reject` message.
    pub fn code(self) -> RejectCode {
        match self {
            Self::Duplicate => RejectCode::Duplicate,
            Self::BadVersion => RejectCode::Obsolete,
            Self::CheckpointMismatch | Self::ForkPriorToCheckpoint => RejectCode::Checkpoint,
            _ => RejectCode::Invalid,
        }
    }

    /// True if the same header can never become valid and may be remembered as invalid.
    pub fn is_permanent(self) -> bool {
        !matches!(self, Self::TimeTooNew | Self::PrevNotFound)
    }
}

/// What the chain says about the place of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderContext {
    /// Height the header would have.
    pub height: u32,
    /// Median time past of the block before.
    pub prev_median_time_s: u32,
    /// What `pow::required_bits` says.
    pub required_bits: u32,
    /// The node's network-adjusted time.
    pub adjusted_time_s: u32,
}

/// The check that needs no context: proof of work.
///
/// Source: SV Node `validation.cpp` `CheckBlockHeader`, `pow.cpp` `CheckProofOfWork`.
pub fn check_header_work(header: &Header, params: &ChainParams) -> Result<(), HeaderReject> {
    if pow::hash_meets_bits(&header.hash(), header.n_bits, params.pow_limit()) {
        Ok(())
    } else {
        Err(HeaderReject::HighHash)
    }
}

/// The checks that need the headers before. Call [`check_header_work`] first.
///
/// Source: SV Node `validation.cpp` `ContextualCheckBlockHeader`.
pub fn check_header_in_context(
    header: &Header,
    context: &HeaderContext,
    params: &ChainParams,
) -> Result<(), HeaderReject> {
    if header.n_bits != context.required_bits {
        return Err(HeaderReject::BadDiffBits);
    }
    if header.time_s <= context.prev_median_time_s {
        return Err(HeaderReject::TimeTooOld);
    }
    if u64::from(header.time_s) > u64::from(context.adjusted_time_s) + u64::from(FUTURE_SECONDS_MAX)
    {
        return Err(HeaderReject::TimeTooNew);
    }
    if header.version < params.version_floor(context.height) {
        return Err(HeaderReject::BadVersion);
    }
    Ok(())
}

/// The checkpoint rules: the hash at a checkpoint's height, and no fork below the last one that is known.
///
/// `last_known_checkpoint_height` is that of the highest checkpoint whose block is in the index, if any.
/// Source: SV Node `validation.cpp` `CheckIndexAgainstCheckpoint`.
pub fn check_checkpoints(
    hash: &BlockHash,
    height: u32,
    last_known_checkpoint_height: Option<u32>,
    params: &ChainParams,
) -> Result<(), HeaderReject> {
    if params.checkpoint_at(height).is_some_and(|expected| expected != *hash) {
        return Err(HeaderReject::CheckpointMismatch);
    }
    if last_known_checkpoint_height.is_some_and(|last| height < last) {
        return Err(HeaderReject::ForkPriorToCheckpoint);
    }
    Ok(())
}

/// Median of the times of a block and up to ten before it, in any order.
///
/// Element n/2 after sorting. Source: SV Node `chain.h` `CBlockIndex::GetMedianTimePast`. (Teranode fb3d000c takes the
/// oldest eleven of about a hundred: wrong.)
///
/// # Panics
/// If there is no time or there are more than eleven.
pub fn median_time_past(times_s: &[u32]) -> u32 {
    let n = times_s.len();
    assert!((1..=MEDIAN_TIME_BLOCKS).contains(&n), "a median time past of {n} blocks");
    let mut sorted = [u32::MAX; MEDIAN_TIME_BLOCKS];
    sorted[..n].copy_from_slice(times_s);
    sorted[..n].sort_unstable();
    sorted[n / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_eighty_bytes_are_a_header_and_come_back(bytes: [u8; 40], more: [u8; 40]) {
            let mut all = [0u8; 80];
            all[..40].copy_from_slice(&bytes);
            all[40..].copy_from_slice(&more);
            prop_assert_eq!(Header::from_bytes(&all).to_bytes(), all);
        }
    }

    #[test]
    fn the_median_of_few_blocks_is_the_upper_middle() {
        assert_eq!(median_time_past(&[5]), 5);
        assert_eq!(median_time_past(&[5, 4]), 5);
        assert_eq!(median_time_past(&[9, 1, 5]), 5);
        assert_eq!(median_time_past(&[11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]), 6);
    }

    fn context() -> (Header, HeaderContext, ChainParams) {
        let params = ChainParams::of(Network::Main);
        let header = Header { version: 4, time_s: 1000, n_bits: 7, ..Header::default() };
        let context = HeaderContext {
            height: 500_000,
            prev_median_time_s: 999,
            required_bits: 7,
            adjusted_time_s: 1000,
        };
        (header, context, params)
    }

    #[test]
    fn header_rules_fail_in_sv_nodes_order() {
        let (header, ok, params) = context();
        let check = |h: &Header, c: &HeaderContext| check_header_in_context(h, c, &params);
        assert_eq!(check(&header, &ok), Ok(()));
        let mut c = ok;
        let mut h = header;
        h.version = 3;
        assert_eq!(check(&h, &c), Err(HeaderReject::BadVersion));
        h.time_s = ok.adjusted_time_s + FUTURE_SECONDS_MAX + 1;
        assert_eq!(check(&h, &c), Err(HeaderReject::TimeTooNew));
        c.prev_median_time_s = h.time_s;
        assert_eq!(check(&h, &c), Err(HeaderReject::TimeTooOld));
        c.required_bits = 8;
        assert_eq!(check(&h, &c), Err(HeaderReject::BadDiffBits));
        let mut text = String::new();
        HeaderReject::BadVersion.write_reason(3, &mut text).unwrap();
        assert_eq!(text, "bad-version(0x00000003)");
    }

    #[test]
    fn two_hours_ahead_is_allowed_and_a_second_more_is_not() {
        let (mut h, c, params) = context();
        h.time_s = c.adjusted_time_s + FUTURE_SECONDS_MAX;
        assert_eq!(check_header_in_context(&h, &c, &params), Ok(()));
        h.time_s += 1;
        assert_eq!(check_header_in_context(&h, &c, &params), Err(HeaderReject::TimeTooNew));
        assert!(!HeaderReject::TimeTooNew.is_permanent());
    }

    #[test]
    fn checkpoints_hold_their_height_and_what_is_below() {
        let params = ChainParams::of(Network::Main);
        let right = params.checkpoint_at(11_111).unwrap();
        assert_eq!(check_checkpoints(&right, 11_111, None, &params), Ok(()));
        assert_eq!(
            check_checkpoints(&BlockHash::ZERO, 11_111, None, &params),
            Err(HeaderReject::CheckpointMismatch)
        );
        assert_eq!(
            check_checkpoints(&BlockHash::ZERO, 11_110, Some(11_111), &params),
            Err(HeaderReject::ForkPriorToCheckpoint)
        );
    }
}
