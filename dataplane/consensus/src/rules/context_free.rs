//! What a transaction must be before anything else is looked at.
//!
//! Source and order: SV Node `validation.cpp` `CheckTransactionCommon`, `CheckCoinbase`, `CheckRegularTransaction`.

use super::reject::TxReject;
use super::scan::is_p2sh;
use super::sigops::{TX_SIGOPS_MAX_BEFORE_GENESIS, count_tx_sigops};
use crate::params::Era;
use crate::tx::{OutPoint, TxView};

/// All the money there will be, in satoshi. Source: SV Node `amount.h` `MAX_MONEY`.
pub const MONEY_MAX_SAT: u64 = 2_100_000_000_000_000;

/// Largest transaction in bytes before Genesis.
pub const TX_BYTES_MAX_BEFORE_GENESIS: u64 = 1_000_000;
/// Largest transaction in bytes from Genesis on.
pub const TX_BYTES_MAX: u64 = 1_000_000_000;

/// Below this many inputs duplicates are searched pair by pair.
const PAIRWISE_INPUTS_MAX: usize = 12;
/// Up to this many inputs duplicates are searched without allocating.
const ON_STACK_INPUTS_MAX: usize = 1024;

/// Limits of the context-free checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxLimits {
    /// Largest transaction in bytes before Genesis.
    pub bytes_before_genesis: u64,
    /// Largest transaction in bytes from Genesis on.
    pub bytes_from_genesis: u64,
}

impl TxLimits {
    /// What consensus says.
    pub const CONSENSUS: Self = Self {
        bytes_before_genesis: TX_BYTES_MAX_BEFORE_GENESIS,
        bytes_from_genesis: TX_BYTES_MAX,
    };

    fn bytes(&self, era: Era) -> u64 {
        if era == Era::PreGenesis { self.bytes_before_genesis } else { self.bytes_from_genesis }
    }
}

/// The checks that coinbases and other transactions share.
fn check_common(view: TxView<'_>, era: Era, limits: &TxLimits) -> Result<(), TxReject> {
    if view.input_count() == 0 {
        return Err(TxReject::InputsEmpty);
    }
    if view.output_count() == 0 {
        return Err(TxReject::OutputsEmpty);
    }
    if view.raw_size() > limits.bytes(era) {
        return Err(TxReject::Oversize);
    }
    output_total(view)?;
    if era == Era::PreGenesis
        && count_tx_sigops(view, era).is_ok_and(|n| n > TX_SIGOPS_MAX_BEFORE_GENESIS)
    {
        return Err(TxReject::Sigops);
    }
    Ok(())
}

/// Sum of the outputs in satoshi, each and all within all the money there is.
pub fn output_total(view: TxView<'_>) -> Result<u64, TxReject> {
    let mut total = 0;
    for output in view.outputs() {
        let value = u64::try_from(output.value_sat).map_err(|_| TxReject::OutputNegative)?;
        if value > MONEY_MAX_SAT {
            return Err(TxReject::OutputTooLarge);
        }
        total += value;
        if total > MONEY_MAX_SAT {
            return Err(TxReject::OutputTotalTooLarge);
        }
    }
    Ok(total)
}

/// Checks a transaction that is not the first of a block. `era` is that of the block (mempool: after the tip).
pub fn check_transaction(view: TxView<'_>, era: Era, limits: &TxLimits) -> Result<(), TxReject> {
    if view.is_coinbase() {
        return Err(TxReject::Coinbase);
    }
    check_common(view, era, limits)?;
    if era >= Era::PostGenesis && view.outputs().any(|o| is_p2sh(o.locking_script)) {
        return Err(TxReject::OutputP2sh);
    }
    let null = (0..view.input_count()).find(|&i| view.prev(i).is_null());
    // SV Node walks once and stops at the first of either kind.
    let searched = null.unwrap_or(view.input_count());
    if has_duplicate(view, searched) {
        return Err(TxReject::InputsDuplicate);
    }
    if null.is_some() { Err(TxReject::PrevoutNull) } else { Ok(()) }
}

/// Checks the first transaction of a block. P2SH outputs are allowed in it.
pub fn check_coinbase(view: TxView<'_>, era: Era, limits: &TxLimits) -> Result<(), TxReject> {
    if !view.is_coinbase() {
        return Err(TxReject::CoinbaseMissing);
    }
    check_common(view, era, limits)?;
    if !(2..=100).contains(&view.input(0).unlocking_script.len()) {
        return Err(TxReject::CoinbaseLength);
    }
    Ok(())
}

/// True if two of the first `n` inputs spend the same output.
///
/// Up to [`ON_STACK_INPUTS_MAX`] inputs nothing is allocated; sorting keeps the cost from an attacker's hands.
fn has_duplicate(view: TxView<'_>, n: usize) -> bool {
    if n <= PAIRWISE_INPUTS_MAX {
        let mut seen = [OutPoint::NULL; PAIRWISE_INPUTS_MAX];
        for i in 0..n {
            let prev = view.prev(i);
            if seen[..i].contains(&prev) {
                return true;
            }
            seen[i] = prev;
        }
        false
    } else if n <= ON_STACK_INPUTS_MAX {
        let mut order = [0u32; ON_STACK_INPUTS_MAX];
        has_duplicate_sorted(view, &mut order[..n])
    } else {
        has_duplicate_sorted(view, &mut vec![0; n])
    }
}

fn has_duplicate_sorted(view: TxView<'_>, order: &mut [u32]) -> bool {
    for (i, slot) in order.iter_mut().enumerate() {
        *slot = i as u32;
    }
    order.sort_unstable_by_key(|&i| view.prev(i as usize));
    order.windows(2).any(|pair| view.prev(pair[0] as usize) == view.prev(pair[1] as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::TxId;
    use crate::tx::{SEQUENCE_FINAL, Tx, TxIn, TxLayout, TxOut, parse};

    fn verdict(tx: &Tx, era: Era) -> Result<(), TxReject> {
        let bytes = tx.to_bytes();
        let mut layout = TxLayout::new();
        check_transaction(parse(&bytes, &mut layout).unwrap(), era, &TxLimits::CONSENSUS)
    }

    fn spend(n: u32) -> TxIn {
        TxIn {
            prev: OutPoint { txid: TxId([7; 32]), vout: n },
            unlocking_script: vec![],
            sequence: SEQUENCE_FINAL,
            coin: None,
        }
    }

    fn pay(value_sat: i64) -> TxOut {
        TxOut { value_sat, locking_script: vec![0x51] }
    }

    fn tx(inputs: Vec<TxIn>, outputs: Vec<TxOut>) -> Tx {
        Tx { version: 1, inputs, outputs, lock_time: 0 }
    }

    #[test]
    fn each_rule_has_its_own_verdict() {
        let all = MONEY_MAX_SAT as i64;
        let null = TxIn { prev: OutPoint::NULL, ..spend(0) };
        let cases = [
            (tx(vec![spend(0)], vec![pay(0)]), Ok(())),
            (tx(vec![null.clone()], vec![pay(0)]), Err(TxReject::Coinbase)),
            (tx(vec![], vec![pay(0)]), Err(TxReject::InputsEmpty)),
            (tx(vec![spend(0)], vec![]), Err(TxReject::OutputsEmpty)),
            (tx(vec![spend(0)], vec![pay(-1)]), Err(TxReject::OutputNegative)),
            (tx(vec![spend(0)], vec![pay(all + 1)]), Err(TxReject::OutputTooLarge)),
            (tx(vec![spend(0)], vec![pay(all), pay(1)]), Err(TxReject::OutputTotalTooLarge)),
            (tx(vec![spend(0)], vec![pay(all)]), Ok(())),
            (tx(vec![spend(0), null.clone()], vec![pay(0)]), Err(TxReject::PrevoutNull)),
            (tx(vec![spend(0), spend(0)], vec![pay(0)]), Err(TxReject::InputsDuplicate)),
            (
                tx(vec![spend(0), spend(0), null.clone()], vec![pay(0)]),
                Err(TxReject::InputsDuplicate),
            ),
            (tx(vec![spend(0), null, spend(0)], vec![pay(0)]), Err(TxReject::PrevoutNull)),
        ];
        for (tx, want) in cases {
            assert_eq!(verdict(&tx, Era::PostGenesis), want, "{tx:?}");
        }
    }

    #[test]
    fn p2sh_outputs_ended_with_genesis_except_in_coinbases() {
        let mut script = vec![0xa9, 0x14];
        script.extend_from_slice(&[1; 20]);
        script.push(0x87);
        let p2sh = TxOut { value_sat: 1, locking_script: script };
        let t = tx(vec![spend(0)], vec![p2sh.clone()]);
        assert_eq!(verdict(&t, Era::PreGenesis), Ok(()));
        assert_eq!(verdict(&t, Era::PostGenesis), Err(TxReject::OutputP2sh));
        let coinbase = tx(
            vec![TxIn { prev: OutPoint::NULL, unlocking_script: vec![1, 2], ..spend(0) }],
            vec![p2sh],
        );
        let bytes = coinbase.to_bytes();
        let mut layout = TxLayout::new();
        let view = parse(&bytes, &mut layout).unwrap();
        assert_eq!(check_coinbase(view, Era::PostGenesis, &TxLimits::CONSENSUS), Ok(()));
    }

    #[test]
    fn a_coinbase_script_has_two_to_a_hundred_bytes() {
        for (len, want) in [
            (1, Err(TxReject::CoinbaseLength)),
            (2, Ok(())),
            (100, Ok(())),
            (101, Err(TxReject::CoinbaseLength)),
        ] {
            let input = TxIn { prev: OutPoint::NULL, unlocking_script: vec![0; len], ..spend(0) };
            let bytes = tx(vec![input], vec![pay(0)]).to_bytes();
            let mut layout = TxLayout::new();
            let view = parse(&bytes, &mut layout).unwrap();
            assert_eq!(check_coinbase(view, Era::PostGenesis, &TxLimits::CONSENSUS), want);
        }
    }

    #[test]
    fn duplicates_are_found_at_every_size() {
        for n in [2, 12, 13, 1024, 1025, 3000] {
            let mut inputs: Vec<_> = (0..n).map(spend).collect();
            assert_eq!(verdict(&tx(inputs.clone(), vec![pay(0)]), Era::PostGenesis), Ok(()));
            inputs[n as usize - 1] = spend(0);
            let duplicate = tx(inputs, vec![pay(0)]);
            assert_eq!(verdict(&duplicate, Era::PostGenesis), Err(TxReject::InputsDuplicate));
        }
    }

    #[test]
    fn a_megabyte_was_the_limit_and_so_were_twenty_thousand_sigops() {
        let big = TxOut { value_sat: 0, locking_script: vec![0x61; 1_000_000] };
        let t = tx(vec![spend(0)], vec![big]);
        assert_eq!(verdict(&t, Era::PreGenesis), Err(TxReject::Oversize));
        assert_eq!(verdict(&t, Era::PostGenesis), Ok(()));
        let sigops =
            |n| tx(vec![spend(0)], vec![TxOut { value_sat: 0, locking_script: vec![0xac; n] }]);
        assert_eq!(verdict(&sigops(20_000), Era::PreGenesis), Ok(()));
        assert_eq!(verdict(&sigops(20_001), Era::PreGenesis), Err(TxReject::Sigops));
        assert_eq!(verdict(&sigops(20_001), Era::PostGenesis), Ok(()));
    }
}
