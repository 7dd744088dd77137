//! Counting signature operations.
//!
//! Consensus counts them before Genesis only: 20,000 a transaction, and 20,000 a block for every started megabyte. Later the
//! count is the operator's policy. Source: SV Node `script/script.cpp` `CScript::GetSigOpCount`, `validation.cpp`
//! `GetSigOpCountWithoutP2SH`, `GetP2SHSigOpCount`.

use super::scan::{self, Op, Ops};
use crate::params::Era;
use crate::tx::TxView;

/// Most signature operations of one transaction before Genesis. Source: SV Node `MAX_TX_SIGOPS_COUNT_BEFORE_GENESIS`.
pub const TX_SIGOPS_MAX_BEFORE_GENESIS: u64 = 20_000;
/// Most signature operations of a block before Genesis, for each started megabyte.
pub const BLOCK_SIGOPS_MAX_PER_MB_BEFORE_GENESIS: u64 = 20_000;
/// What `OP_CHECKMULTISIG` counts where the number of keys is not known.
const KEYS_PER_MULTISIG: u64 = 20;

/// A script whose signature operations cannot be counted: a count that is no number, or an ENDIF without IF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature operations of the script cannot be counted")]
pub struct Uncountable;

/// Signature operations of one script.
///
/// `accurate` reads the number of keys before a CHECKMULTISIG; from Genesis on it is always read, and may be any push.
pub fn count_sigops(script: &[u8], era: Era, accurate: bool) -> Result<u64, Uncountable> {
    let from_genesis = era >= Era::PostGenesis;
    let reads = accurate || from_genesis;
    let mut count = 0u64;
    let mut depth = 0u64;
    let mut last = Op { code: scan::OP_INVALIDOPCODE, data: &[] };
    for op in Ops::new(script) {
        match op.code {
            scan::OP_INVALIDOPCODE => break,
            scan::OP_IF..=scan::OP_VERNOTIF if reads => depth += 1,
            scan::OP_ENDIF if reads => depth = depth.checked_sub(1).ok_or(Uncountable)?,
            scan::OP_RETURN if reads && depth == 0 => break,
            scan::OP_CHECKSIG | scan::OP_CHECKSIGVERIFY => count += 1,
            scan::OP_CHECKMULTISIG | scan::OP_CHECKMULTISIGVERIFY => {
                count += match last.code {
                    scan::OP_1..=scan::OP_16 if reads => u64::from(last.code - scan::OP_1) + 1,
                    scan::OP_0 if from_genesis => 0,
                    _ if from_genesis => {
                        u64::from(scan::small_number(last.data).ok_or(Uncountable)?)
                    }
                    _ => KEYS_PER_MULTISIG,
                };
            }
            _ => {}
        }
        last = op;
    }
    Ok(count)
}

/// Signature operations of all scripts of a transaction, P2SH not looked into.
pub fn count_tx_sigops(view: TxView<'_>, era: Era) -> Result<u64, Uncountable> {
    let mut count = 0;
    for input in view.inputs() {
        count += count_sigops(input.unlocking_script, era, false)?;
    }
    for output in view.outputs() {
        count += count_sigops(output.locking_script, era, false)?;
    }
    Ok(count)
}

/// Signature operations inside the redeem script of one input; zero if the coin is no P2SH coin from before Genesis.
pub fn count_p2sh_sigops(
    unlocking_script: &[u8],
    locking_script: &[u8],
    coin_era: Era,
) -> Result<u64, Uncountable> {
    if coin_era >= Era::PostGenesis || !scan::is_p2sh(locking_script) {
        return Ok(0);
    }
    if !scan::is_push_only(unlocking_script) {
        return Ok(0);
    }
    let redeem_script = Ops::new(unlocking_script).last().map_or(&[][..], |op| op.data);
    count_sigops(redeem_script, Era::PreGenesis, true)
}

/// Most signature operations of a block before Genesis.
///
/// Source: SV Node `consensus/consensus.h` `GetMaxBlockSigOpsCountConsensusBeforeGenesis`.
pub fn block_sigops_max(block_bytes: u64) -> u64 {
    let megabytes = 1 + block_bytes.saturating_sub(1) / 1_000_000;
    megabytes * BLOCK_SIGOPS_MAX_PER_MB_BEFORE_GENESIS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multisig_counts_twenty_unless_its_keys_are_read() {
        let two_of_three = [0x52, 0x53, 0xae];
        assert_eq!(count_sigops(&two_of_three, Era::PreGenesis, false), Ok(20));
        assert_eq!(count_sigops(&two_of_three, Era::PreGenesis, true), Ok(3));
        assert_eq!(count_sigops(&two_of_three, Era::PostGenesis, false), Ok(3));
        assert_eq!(count_sigops(&[2, 0xe8, 3, 0xae], Era::PostGenesis, false), Ok(1000));
        assert_eq!(count_sigops(&[1, 0x81, 0xae], Era::PostGenesis, false), Err(Uncountable));
        assert_eq!(count_sigops(&[0xae], Era::PreGenesis, true), Ok(20));
    }

    #[test]
    fn every_started_megabyte_adds_to_a_block() {
        assert_eq!(block_sigops_max(0), 20_000);
        assert_eq!(block_sigops_max(1_000_000), 20_000);
        assert_eq!(block_sigops_max(1_000_001), 40_000);
    }

    #[test]
    fn a_redeem_script_is_counted_when_it_is_the_last_push() {
        let mut locking = vec![0xa9, 0x14];
        locking.extend_from_slice(&[7; 20]);
        locking.push(0x87);
        let unlocking = [0x00, 0x03, 0x52, 0x53, 0xae];
        assert_eq!(count_p2sh_sigops(&unlocking, &locking, Era::PreGenesis), Ok(3));
        assert_eq!(count_p2sh_sigops(&unlocking, &locking, Era::PostGenesis), Ok(0));
        assert_eq!(count_p2sh_sigops(&[0x61, 0x01, 0xac], &locking, Era::PreGenesis), Ok(0));
    }
}
