//! Policy: what this node relays and mines beyond what must be valid.
//!
//! Fee rates, standardness, and the free ride of transactions that consolidate coins. All numbers are the operator's; the
//! defaults are SV Node's. Source: SV Node `policy/policy.cpp` `IsStandardTx`, `AreInputsStandard`, `IsConsolidationTxn`,
//! `policy/fees.h`, `amount.cpp` `CFeeRate::GetFee`.

use super::reject::TxReject;
use super::scan::{self, Ops};
use super::sigops::count_sigops;
use super::template::{Template, is_unspendable};
use crate::params::Era;
use crate::tx::TxView;

/// Largest unlocking script that was standard before Genesis.
const UNLOCKING_BYTES_MAX_BEFORE_GENESIS: usize = 1650;
/// Highest version that is standard before Chronicle.
const VERSION_MAX: i32 = 2;
/// Most signature operations in the redeem script of a standard P2SH input.
const P2SH_SIGOPS_MAX: u64 = 15;
/// The least a spendable output must hold, in satoshi.
const DUST_SAT: i64 = 1;
/// The one output of a transaction that gives its dust to the miner: `FALSE RETURN "dust"`.
const DUST_RETURN_SCRIPT: [u8; 7] = [0x00, 0x6a, 0x04, b'd', b'u', b's', b't'];

/// A fee rate in satoshi for 1000 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FeeRate {
    /// Satoshi for 1000 bytes.
    pub sat_per_kb: u64,
}

impl FeeRate {
    /// The fee for so many bytes, rounded down but at least one satoshi where the rate is not zero.
    pub fn fee_sat(self, size_bytes: u64) -> u64 {
        let fee = u128::from(self.sat_per_kb) * u128::from(size_bytes) / 1000;
        let fee = u64::try_from(fee).unwrap_or(u64::MAX);
        if fee == 0 && self.sat_per_kb > 0 && size_bytes > 0 { 1 } else { fee }
    }

    /// The rate somebody paid.
    pub fn paid(fee_sat: u64, size_bytes: u64) -> Self {
        let rate = u128::from(fee_sat) * 1000 / u128::from(size_bytes.max(1));
        Self { sat_per_kb: u64::try_from(rate).unwrap_or(u64::MAX) }
    }
}

/// What this node calls standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandardPolicy {
    /// Largest transaction in bytes from Genesis on (`maxtxsizepolicy`).
    pub tx_bytes_max: u64,
    /// Largest transaction in bytes before Genesis.
    pub tx_bytes_max_before_genesis: u64,
    /// Data outputs are relayed (`datacarrier`).
    pub data_carrier: bool,
    /// Most bytes of data outputs of one transaction (`datacarriersize`).
    pub data_carrier_bytes_max: u64,
    /// Bare multisig outputs are relayed (`permitbaremultisig`).
    pub bare_multisig: bool,
}

impl Default for StandardPolicy {
    fn default() -> Self {
        Self {
            tx_bytes_max: 10_000_000,
            tx_bytes_max_before_genesis: 99_999,
            data_carrier: true,
            data_carrier_bytes_max: u64::from(u32::MAX),
            bare_multisig: true,
        }
    }
}

/// True if an output holds less than it costs: below one satoshi where it could be spent.
///
/// Source: SV Node `primitives/transaction.h` `CTxOut::IsDust`.
pub fn is_dust(value_sat: i64, locking_script: &[u8], era: Era) -> bool {
    value_sat < DUST_SAT && !is_unspendable(locking_script, era)
}

/// Checks a transaction against the node's idea of standard. `era` is that of the block after the tip.
///
/// `LockingScript` comes last: from Genesis on a node that accepts non-standard outputs ignores that one reason.
pub fn check_standard(view: TxView<'_>, era: Era, policy: &StandardPolicy) -> Result<(), TxReject> {
    if era < Era::PostChronicle && !(1..=VERSION_MAX).contains(&view.version()) {
        return Err(TxReject::Version);
    }
    let bytes_max = if era == Era::PreGenesis {
        policy.tx_bytes_max_before_genesis
    } else {
        policy.tx_bytes_max
    };
    if view.raw_size() > bytes_max {
        return Err(TxReject::TxSize);
    }
    for input in view.inputs() {
        let script = input.unlocking_script;
        if era == Era::PreGenesis && script.len() > UNLOCKING_BYTES_MAX_BEFORE_GENESIS {
            return Err(TxReject::UnlockingSize);
        }
        if era < Era::PostChronicle && !scan::is_push_only(script) {
            return Err(TxReject::UnlockingNotPushOnly);
        }
    }
    let mut data_bytes = 0;
    let mut has_non_standard = false;
    for output in view.outputs() {
        let template = Template::of(output.locking_script, era);
        has_non_standard |= !template.is_standard(policy.data_carrier);
        match template {
            Template::Data => data_bytes += output.locking_script.len() as u64,
            Template::Multisig { .. } if !policy.bare_multisig => {
                return Err(TxReject::BareMultisig);
            }
            _ if is_dust(output.value_sat, output.locking_script, era) => {
                return Err(TxReject::Dust);
            }
            _ => {}
        }
    }
    if data_bytes > policy.data_carrier_bytes_max {
        return Err(TxReject::DataCarrierSize);
    }
    if has_non_standard { Err(TxReject::LockingScript) } else { Ok(()) }
}

/// True if the coin an input spends is a template, and its redeem script, if it has one, is cheap.
///
/// SV Node runs the unlocking script to find the redeem script; an unlocking script that does more than push is called
/// non-standard here at once, since P2SH demands pushes anyway.
pub fn is_input_standard(unlocking_script: &[u8], locking_script: &[u8], coin_era: Era) -> bool {
    match Template::of(locking_script, coin_era) {
        Template::NonStandard => false,
        Template::ScriptHash(_) => {
            scan::is_push_only(unlocking_script)
                && Ops::new(unlocking_script).last().is_some_and(|redeem| {
                    count_sigops(redeem.data, Era::PreGenesis, true)
                        .is_ok_and(|n| n <= P2SH_SIGOPS_MAX)
                })
        }
        _ => true,
    }
}

/// When a transaction that shrinks the set of coins rides for free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsolidationPolicy {
    /// So many inputs for each output, in number and in script bytes; zero turns it off (`minconsolidationfactor`).
    pub factor: u64,
    /// Confirmations each coin must have (`minconfconsolidationinput`).
    pub confirmations_min: u32,
    /// Largest unlocking script of an input (`maxconsolidationinputscriptsize`).
    pub unlocking_bytes_max: u64,
    /// Coins may have any script (`acceptnonstdconsolidationinput`).
    pub non_standard_inputs: bool,
}

impl Default for ConsolidationPolicy {
    fn default() -> Self {
        Self {
            factor: 20,
            confirmations_min: 6,
            unlocking_bytes_max: 150,
            non_standard_inputs: false,
        }
    }
}

impl ConsolidationPolicy {
    /// Inputs for each output that this transaction needs; `None` if it has fewer, whatever it spends.
    fn factor_of(&self, view: TxView<'_>) -> Option<u64> {
        if self.factor == 0 || view.is_coinbase() {
            return None;
        }
        let inputs = view.input_count() as u64;
        let factor = if is_dust_return(view) { inputs } else { self.factor };
        (inputs >= factor.saturating_mul(view.output_count() as u64)).then_some(factor)
    }

    /// Whether the transaction may ride for free, if its coins are right.
    pub fn may_apply(&self, view: TxView<'_>) -> bool {
        self.factor_of(view).is_some()
    }
}

/// What the consolidation rule needs to know of a coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsolidationCoin {
    /// Bytes of its locking script.
    pub script_bytes: u64,
    /// Whether that is a template.
    pub is_standard: bool,
    /// The height of its block; `None` while its transaction is not in a block.
    pub height: Option<u32>,
}

impl ConsolidationCoin {
    /// Whether a locking script of a coin of `era` is a template for this rule.
    pub fn is_standard(locking_script: &[u8], era: Era) -> bool {
        Template::of(locking_script, era).is_standard(true)
    }
}

/// True if the transaction consolidates enough coins to be mined for free, or gives its dust away.
pub fn is_consolidation(
    view: TxView<'_>,
    tip_height: u32,
    policy: &ConsolidationPolicy,
    mut coin: impl FnMut(usize) -> ConsolidationCoin,
) -> bool {
    let Some(factor) = policy.factor_of(view) else { return false };
    let confirmations_min = if is_dust_return(view) { 0 } else { policy.confirmations_min };
    let mut coin_bytes = 0u64;
    for (i, input) in view.inputs().enumerate() {
        let coin = coin(i);
        let confirmations =
            coin.height.map_or(0, |height| tip_height.saturating_add(1).saturating_sub(height));
        if confirmations < confirmations_min
            || input.unlocking_script.len() as u64 > policy.unlocking_bytes_max
            || !(policy.non_standard_inputs || coin.is_standard)
        {
            return false;
        }
        coin_bytes += coin.script_bytes;
    }
    let output_bytes: u64 = view.outputs().map(|o| o.locking_script.len() as u64).sum();
    coin_bytes >= factor.saturating_mul(output_bytes)
}

/// Exactly one output, worth nothing, that says `dust`.
fn is_dust_return(view: TxView<'_>) -> bool {
    view.output_count() == 1
        && view.output(0).value_sat == 0
        && view.output(0).locking_script == DUST_RETURN_SCRIPT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tx::{Tx, TxIn, TxLayout, TxOut, parse};

    fn p2pkh() -> Vec<u8> {
        let mut s = vec![0x76, 0xa9, 0x14];
        s.extend_from_slice(&[5; 20]);
        s.extend_from_slice(&[0x88, 0xac]);
        s
    }

    fn with_view<T>(tx: &Tx, f: impl FnOnce(TxView<'_>) -> T) -> T {
        let bytes = tx.to_bytes();
        let mut layout = TxLayout::new();
        f(parse(&bytes, &mut layout).unwrap())
    }

    fn tx(inputs: usize, outputs: Vec<TxOut>) -> Tx {
        Tx { version: 1, inputs: vec![TxIn::default(); inputs], outputs, lock_time: 0 }
    }

    fn verdict(tx: &Tx, era: Era) -> Result<(), TxReject> {
        with_view(tx, |v| check_standard(v, era, &StandardPolicy::default()))
    }

    #[test]
    fn fees_are_rounded_down_but_never_to_nothing() {
        let rate = FeeRate { sat_per_kb: 500 };
        assert_eq!([0, 1, 2, 1999, 2000].map(|n| rate.fee_sat(n)), [0, 1, 1, 999, 1000]);
        assert_eq!(FeeRate::default().fee_sat(1_000_000), 0);
        assert_eq!(FeeRate { sat_per_kb: u64::MAX }.fee_sat(u64::MAX), u64::MAX);
        assert_eq!(FeeRate::paid(500, 2000).sat_per_kb, 250);
    }

    #[test]
    fn what_is_standard_changes_with_the_eras() {
        let good = TxOut { value_sat: 1, locking_script: p2pkh() };
        let mut t = tx(1, vec![good.clone()]);
        for era in [Era::PreGenesis, Era::PostGenesis, Era::PostChronicle] {
            assert_eq!(verdict(&t, era), Ok(()));
        }
        t.version = 3;
        assert_eq!(verdict(&t, Era::PostGenesis), Err(TxReject::Version));
        assert_eq!(verdict(&t, Era::PostChronicle), Ok(()));
        t.version = 1;
        t.inputs[0].unlocking_script = vec![0x61];
        assert_eq!(verdict(&t, Era::PostGenesis), Err(TxReject::UnlockingNotPushOnly));
        assert_eq!(verdict(&t, Era::PostChronicle), Ok(()));
        t.inputs[0].unlocking_script = vec![0x51; 1651];
        assert_eq!(verdict(&t, Era::PreGenesis), Err(TxReject::UnlockingSize));
        assert_eq!(verdict(&t, Era::PostGenesis), Ok(()));
        let dust = tx(1, vec![TxOut { value_sat: 0, ..good.clone() }]);
        assert_eq!(verdict(&dust, Era::PostGenesis), Err(TxReject::Dust));
        let data = tx(1, vec![TxOut { value_sat: 0, locking_script: vec![0x00, 0x6a] }]);
        assert_eq!(verdict(&data, Era::PostGenesis), Ok(()));
        let odd = TxOut { value_sat: 1, locking_script: vec![0x51] };
        let two = tx(1, vec![odd, TxOut { value_sat: 0, ..good }]);
        assert_eq!(verdict(&two, Era::PostGenesis), Err(TxReject::Dust), "scripts come last");
    }

    #[test]
    fn twenty_coins_into_one_ride_for_free() {
        let coin = |_| ConsolidationCoin { script_bytes: 25, is_standard: true, height: Some(95) };
        assert!(ConsolidationCoin::is_standard(&p2pkh(), Era::PostGenesis));
        assert!(!ConsolidationCoin::is_standard(&[0x51], Era::PostGenesis));
        let policy = ConsolidationPolicy::default();
        let out = TxOut { value_sat: 1, locking_script: p2pkh() };
        let free = |n, tip| {
            with_view(&tx(n, vec![out.clone()]), |v| is_consolidation(v, tip, &policy, coin))
        };
        assert!(free(20, 100));
        assert!(!free(19, 100));
        assert!(!free(20, 99), "five confirmations");
        let off = ConsolidationPolicy { factor: 0, ..policy };
        assert!(!with_view(&tx(20, vec![out]), |v| is_consolidation(v, 100, &off, coin)));
        let dust = TxOut { value_sat: 0, locking_script: DUST_RETURN_SCRIPT.to_vec() };
        let unconfirmed = |i| ConsolidationCoin { height: None, ..coin(i) };
        assert!(with_view(&tx(1, vec![dust]), |v| is_consolidation(v, 100, &policy, unconfirmed)));
    }
}
