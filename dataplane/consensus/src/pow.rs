//! Proof of work: targets, work, and the bits a block must have.
//!
//! Three algorithms live here, chosen by the chain parameters: SV Node's two (every 2016 blocks with the emergency
//! adjustment of August 2017; the DAA of November 2017) and Teranode's (the DAA alone). They look at earlier blocks through
//! the trait [`Chain`], which is all they know of a chain.
//!
//! Sources: SV Node `pow.cpp`, `arith_uint256.cpp`; Teranode `services/blockchain/Difficulty.go`.

use crate::hash::BlockHash;
use crate::header::{MEDIAN_TIME_BLOCKS, median_time_past};
use crate::params::{ChainParams, Retarget};

/// A 256-bit number.
pub type U256 = ruint::aliases::U256;

/// Seconds between blocks.
pub const SPACING_S: u32 = 600;
/// Blocks between two changes of the target below the DAA.
pub const RETARGET_BLOCKS: u32 = 2016;
const RETARGET_SPAN_S: i64 = RETARGET_BLOCKS as i64 * SPACING_S as i64;
/// A block later than this after the one before may have the easiest target (testnet).
const MIN_DIFFICULTY_AFTER_S: u32 = 2 * SPACING_S;
/// Blocks between the two ends of the DAA's window.
const DAA_WINDOW_BLOCKS: u32 = 144;
/// Teranode keeps the limit while the block before is below this height.
const TERANODE_FIRST_PREV: u32 = DAA_WINDOW_BLOCKS + 4;
/// The emergency adjustment looks this far back.
const EDA_BLOCKS: u32 = 6;
const EDA_AFTER_S: i64 = 12 * 60 * 60;

/// A compact number, opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compact {
    /// The value modulo 2^256, without its sign.
    pub value: U256,
    /// The sign bit is set and the value is not zero.
    pub is_negative: bool,
    /// The value does not fit 256 bits.
    pub is_overflow: bool,
}

/// Opens compact bits: one byte of exponent, three of mantissa. Source: SV Node `arith_uint256::SetCompact`.
pub fn expand_compact(bits: u32) -> Compact {
    let exponent = bits >> 24;
    let mut mantissa = bits & 0x7f_ffff;
    let value = if exponent <= 3 {
        mantissa >>= 8 * (3 - exponent);
        U256::from(mantissa)
    } else {
        let shift = 8 * (exponent as usize - 3);
        if shift < 256 { U256::from(mantissa).wrapping_shl(shift) } else { U256::ZERO }
    };
    Compact {
        value,
        is_negative: mantissa != 0 && bits & 0x80_0000 != 0,
        is_overflow: mantissa != 0
            && (exponent > 34
                || (mantissa > 0xff && exponent > 33)
                || (mantissa > 0xffff && exponent > 32)),
    }
}

/// Closes a number into compact bits, dropping what does not fit the mantissa. Source: SV Node `arith_uint256::GetCompact`.
pub fn compact_from_target(target: U256) -> u32 {
    let mut bytes = target.bit_len().div_ceil(8);
    let mut mantissa = if bytes <= 3 {
        target.as_limbs()[0] << (8 * (3 - bytes))
    } else {
        (target >> (8 * (bytes - 3))).as_limbs()[0]
    };
    // The top bit of the mantissa is a sign.
    if mantissa & 0x80_0000 != 0 {
        mantissa >>= 8;
        bytes += 1;
    }
    mantissa as u32 | (bytes as u32) << 24
}

/// The target of bits that may stand in a header: positive, not zero, not above the limit.
pub fn target_from_bits(bits: u32, pow_limit: U256) -> Option<U256> {
    let c = expand_compact(bits);
    let valid = !c.is_negative && !c.is_overflow && !c.value.is_zero() && c.value <= pow_limit;
    valid.then_some(c.value)
}

/// True if a hash meets the target of `bits`. Source: SV Node `pow.cpp` `CheckProofOfWork`.
pub fn hash_meets_bits(hash: &BlockHash, bits: u32, pow_limit: U256) -> bool {
    target_from_bits(bits, pow_limit).is_some_and(|target| U256::from_le_bytes(hash.0) <= target)
}

/// Expected number of hashes for a block of these bits: 2^256 / (target + 1); zero where the bits make no target.
///
/// Source: SV Node `chain.cpp` `GetBlockProof`.
pub fn block_work(bits: u32) -> U256 {
    let c = expand_compact(bits);
    if c.is_negative || c.is_overflow || c.value.is_zero() {
        return U256::ZERO;
    }
    (!c.value / (c.value + U256::ONE)) + U256::ONE
}

/// What the rules of difficulty want to know of one block of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainPoint {
    /// Its time, in seconds since 1970.
    pub time_s: u32,
    /// Its compact target.
    pub n_bits: u32,
    /// Work of all blocks up to it, itself included.
    pub chain_work: U256,
}

/// The blocks before a header, by height.
pub trait Chain {
    /// The block at `height` on the chain that ends in the header's parent.
    fn point(&self, height: u32) -> Option<ChainPoint>;
}

impl<F: Fn(u32) -> Option<ChainPoint>> Chain for F {
    fn point(&self, height: u32) -> Option<ChainPoint> {
        self(height)
    }
}

/// The chain could not answer for a block the rules need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the required bits depend on the block at height {height}, which the chain does not have")]
pub struct MissingAncestor {
    /// The height that was asked for.
    pub height: i64,
}

struct Ancestors<'a, C: Chain + ?Sized>(&'a C);

impl<C: Chain + ?Sized> Ancestors<'_, C> {
    fn at(&self, height: i64) -> Result<ChainPoint, MissingAncestor> {
        u32::try_from(height).ok().and_then(|h| self.0.point(h)).ok_or(MissingAncestor { height })
    }

    /// Median time past of the block at `height`.
    fn median_time(&self, height: i64) -> Result<u32, MissingAncestor> {
        let mut times = [0u32; MEDIAN_TIME_BLOCKS];
        let n = MEDIAN_TIME_BLOCKS.min(height as usize + 1);
        for (back, time) in times[..n].iter_mut().enumerate() {
            *time = self.at(height - back as i64)?.time_s;
        }
        Ok(median_time_past(&times[..n]))
    }

    /// Of the block at `height` and the two before it, the one with the median time.
    ///
    /// The order of the swaps decides between equal times. Source: SV Node `pow.cpp` `GetSuitableBlock`.
    fn suitable(&self, height: i64) -> Result<ChainPoint, MissingAncestor> {
        let mut b = [self.at(height - 2)?, self.at(height - 1)?, self.at(height)?];
        for (i, j) in [(0, 2), (0, 1), (1, 2)] {
            if b[i].time_s > b[j].time_s {
                b.swap(i, j);
            }
        }
        Ok(b[1])
    }
}

/// The bits of the block after `prev_height`, if its time is `new_time_s`.
///
/// Source: SV Node `pow.cpp` `GetNextWorkRequired`.
pub fn required_bits(
    params: &ChainParams,
    prev_height: u32,
    new_time_s: u32,
    chain: &(impl Chain + ?Sized),
) -> Result<u32, MissingAncestor> {
    let ancestors = Ancestors(chain);
    match params.retarget {
        Retarget::None => Ok(ancestors.at(prev_height as i64)?.n_bits),
        Retarget::Teranode if prev_height < TERANODE_FIRST_PREV => Ok(params.pow_limit_bits),
        Retarget::Teranode => daa(params, prev_height as i64, new_time_s, &ancestors),
        Retarget::SvNode if prev_height >= params.daa_height => {
            daa(params, prev_height as i64, new_time_s, &ancestors)
        }
        Retarget::SvNode => legacy(params, prev_height as i64, new_time_s, &ancestors),
    }
}

/// More than twenty minutes after the block before, on networks that allow it.
fn is_late(params: &ChainParams, prev: ChainPoint, new_time_s: u32) -> bool {
    params.allows_min_difficulty
        && u64::from(new_time_s) > u64::from(prev.time_s) + u64::from(MIN_DIFFICULTY_AFTER_S)
}

/// The retarget of 2009 and the emergency adjustment of 2017.
///
/// The emergency adjustment has no activation height: it holds for every block below the DAA whose parent is not at the
/// limit, as in SV Node. Source: SV Node `pow.cpp` `GetNextEDAWorkRequired`.
fn legacy<C: Chain + ?Sized>(
    params: &ChainParams,
    p: i64,
    new_time_s: u32,
    chain: &Ancestors<'_, C>,
) -> Result<u32, MissingAncestor> {
    let prev = chain.at(p)?;
    let height = p + 1;
    let interval = RETARGET_BLOCKS as i64;
    if height % interval == 0 {
        let first = chain.at(height - interval)?;
        let span_s = prev.time_s as i64 - first.time_s as i64;
        return Ok(retarget_2016(prev.n_bits, span_s, params));
    }
    if params.allows_min_difficulty {
        if is_late(params, prev, new_time_s) {
            return Ok(params.pow_limit_bits);
        }
        // The last block that was not easy because it was late; at most 2015 steps.
        let mut at = p;
        let mut point = prev;
        while at > 0 && at % interval != 0 && point.n_bits == params.pow_limit_bits {
            at -= 1;
            point = chain.at(at)?;
        }
        return Ok(point.n_bits);
    }
    if prev.n_bits == params.pow_limit_bits {
        return Ok(prev.n_bits);
    }
    let six_blocks_s =
        chain.median_time(p)? as i64 - chain.median_time(p - EDA_BLOCKS as i64)? as i64;
    if six_blocks_s < EDA_AFTER_S {
        return Ok(prev.n_bits);
    }
    let target = expand_compact(prev.n_bits).value;
    Ok(compact_from_target(target.wrapping_add(target >> 2).min(params.pow_limit())))
}

/// The target of the next 2016 blocks, from the bits of the last and the seconds between first and last.
///
/// Source: SV Node `pow.cpp` `CalculateNextWorkRequired`.
pub fn retarget_2016(prev_bits: u32, span_s: i64, params: &ChainParams) -> u32 {
    let span_s = span_s.clamp(RETARGET_SPAN_S / 4, RETARGET_SPAN_S * 4);
    let target = expand_compact(prev_bits)
        .value
        .wrapping_mul(U256::from(span_s as u64))
        .wrapping_div(U256::from(RETARGET_SPAN_S as u64));
    compact_from_target(target.min(params.pow_limit()))
}

/// The difficulty adjustment of November 2017. Source: SV Node `pow.cpp` `GetNextCashWorkRequired`, `ComputeTarget`.
fn daa<C: Chain + ?Sized>(
    params: &ChainParams,
    p: i64,
    new_time_s: u32,
    chain: &Ancestors<'_, C>,
) -> Result<u32, MissingAncestor> {
    if is_late(params, chain.at(p)?, new_time_s) {
        return Ok(params.pow_limit_bits);
    }
    let last = chain.suitable(p)?;
    let first = chain.suitable(p - DAA_WINDOW_BLOCKS as i64)?;
    let window_s = DAA_WINDOW_BLOCKS as i64 * SPACING_S as i64;
    let span_s =
        (last.time_s as i64 - first.time_s as i64).clamp(window_s / 2, window_s * 2) as u64;
    let work = last
        .chain_work
        .wrapping_sub(first.chain_work)
        .wrapping_mul(U256::from(SPACING_S))
        .wrapping_div(U256::from(span_s));
    if work.is_zero() {
        // SV Node would divide by zero; chain work always grows, so no chain gets here.
        return Ok(params.pow_limit_bits);
    }
    // 2^256 / work - 1, in 256 bits.
    let target = work.wrapping_neg() / work;
    Ok(compact_from_target(target.min(params.pow_limit())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn closing_and_opening_keeps_the_leading_bits(limbs: [u64; 4], shift in 0usize..256) {
            let value = U256::from_limbs(limbs) >> shift;
            let bits = compact_from_target(value);
            let opened = expand_compact(bits);
            prop_assert!(!opened.is_negative && !opened.is_overflow);
            prop_assert!(opened.value <= value);
            prop_assert_eq!(compact_from_target(opened.value), bits);
            prop_assert!(value - opened.value <= value >> 15);
        }

        #[test]
        fn any_bits_open_and_give_work_without_panic(bits: u32) {
            let _ = block_work(bits);
            let _ = target_from_bits(bits, U256::MAX >> 32);
        }
    }

    #[test]
    fn the_easiest_block_is_two_to_the_thirty_two_hashes() {
        assert_eq!(block_work(0x1d00_ffff), U256::from(0x1_0001_0001u64));
        assert_eq!(block_work(0x207f_ffff), U256::from(2));
        assert_eq!(block_work(0), U256::ZERO);
    }

    fn point(time_s: u32, n_bits: u32) -> ChainPoint {
        ChainPoint { time_s, n_bits, chain_work: U256::ZERO }
    }

    #[test]
    fn the_first_retarget_of_mainnet_looks_back_2015_blocks() {
        let params = ChainParams::of(Network::Main);
        let chain = |height: u32| match height {
            30_240 => Some(point(1_261_130_161, 0x1d00_ffff)),
            32_255 => Some(point(1_262_152_739, 0x1d00_ffff)),
            _ => None,
        };
        assert_eq!(required_bits(&params, 32_255, 0, &chain), Ok(0x1d00_d86a));
    }

    #[test]
    fn testnet_takes_an_easy_block_when_late_and_then_goes_back_to_the_last_real_target() {
        let params = ChainParams::of(Network::Test);
        let (limit, real) = (params.pow_limit_bits, 0x1c00_ffff);
        // Block 2016 k + 2 is the last real one; three easy blocks follow.
        let first = 2016 * 50;
        let chain = |height: u32| {
            (height >= first).then(|| point(1000, if height > first + 2 { limit } else { real }))
        };
        let required = |prev, time_s| required_bits(&params, prev, time_s, &chain);
        assert_eq!(required(first + 5, 1000 + 1200), Ok(real));
        assert_eq!(required(first + 5, 1000 + 1201), Ok(limit));
        // A period that began easy stays easy: the walk ends at its first block.
        let easy = |height: u32| (height >= first).then(|| point(1000, limit));
        assert_eq!(required_bits(&params, first + 5, 1000, &easy), Ok(limit));
        // The rule does not reach into the block that retargets.
        let both = |height: u32| (height >= first).then(|| point(1000, real));
        let retargeted = required_bits(&params, first + 2015, u32::MAX, &both);
        assert_eq!(retargeted, Ok(retarget_2016(real, 0, &params)));
    }

    #[test]
    fn regtest_keeps_its_bits() {
        let params = ChainParams::of(Network::Regtest);
        let chain = |_: u32| Some(point(0, 0x207f_ffff));
        assert_eq!(required_bits(&params, 5000, u32::MAX, &chain), Ok(0x207f_ffff));
    }

    #[test]
    fn a_chain_without_the_ancestor_says_which_one() {
        let params = ChainParams::of(Network::Main);
        let nothing = |_: u32| None;
        assert_eq!(
            required_bits(&params, 600_000, 0, &nothing),
            Err(MissingAncestor { height: 600_000 })
        );
    }

    #[test]
    fn teranode_stays_at_the_limit_until_149() {
        let params = ChainParams::of(Network::TeraTestnet);
        let nothing = |_: u32| None;
        assert_eq!(required_bits(&params, 147, 0, &nothing), Ok(0x1d00_ffff));
        assert!(required_bits(&params, 148, 0, &nothing).is_err());
    }
}
