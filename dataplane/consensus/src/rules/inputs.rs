//! What the coins say: maturity, amounts, fee, and the rule of confiscations.
//!
//! Coins come in one by one, in the order of the inputs ([`InputTally`]), so a transaction of any size can be judged in pieces
//! as its coins arrive. Source: SV Node `validation.cpp` `Consensus::CheckTxInputs`, `frozentxo_db.cpp`.

use super::context_free::MONEY_MAX_SAT;
use super::reject::TxReject;
use crate::tx::TxView;

/// Blocks before a coinbase may be spent. Source: SV Node `COINBASE_MATURITY`.
pub const COINBASE_MATURITY_BLOCKS: u32 = 100;
/// Blocks before a confiscated coin may be spent. Source: SV Node `CONFISCATION_MATURITY`.
pub const CONFISCATION_MATURITY_BLOCKS: u32 = 1000;

/// What the rules need to know of a coin, its script apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinFacts {
    /// Value in satoshi.
    pub value_sat: u64,
    /// Height of the block that made it (mempool: after the tip).
    pub height: u32,
    /// It is an output of a coinbase.
    pub is_coinbase: bool,
    /// It is an output of a confiscation transaction.
    pub is_confiscation: bool,
}

/// Adds up the coins of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputTally {
    spend_height: u32,
    total_sat: u64,
}

impl InputTally {
    /// Starts for a transaction that spends at this height (mempool: after the tip).
    pub fn new(spend_height: u32) -> Self {
        Self { spend_height, total_sat: 0 }
    }

    /// Adds the coin of the next input.
    pub fn add(&mut self, coin: &CoinFacts) -> Result<(), TxReject> {
        let age = self.spend_height.saturating_sub(coin.height);
        if coin.is_coinbase && age < COINBASE_MATURITY_BLOCKS {
            return Err(TxReject::CoinbaseImmature);
        }
        if coin.is_confiscation && age < CONFISCATION_MATURITY_BLOCKS {
            return Err(TxReject::ConfiscationImmature);
        }
        if coin.value_sat > MONEY_MAX_SAT {
            return Err(TxReject::InputValues);
        }
        let total_sat = self.total_sat + coin.value_sat;
        if total_sat > MONEY_MAX_SAT {
            return Err(TxReject::InputValues);
        }
        self.total_sat = total_sat;
        Ok(())
    }

    /// Sum of the coins so far, in satoshi.
    pub fn total_sat(&self) -> u64 {
        self.total_sat
    }

    /// The fee, once every coin has been added.
    pub fn fee_sat(&self, output_total_sat: u64) -> Result<u64, TxReject> {
        let fee = self.total_sat.checked_sub(output_total_sat).ok_or(TxReject::InBelowOut)?;
        if fee > MONEY_MAX_SAT {
            return Err(TxReject::FeeOutOfRange);
        }
        Ok(fee)
    }
}

/// Checks all inputs at once and gives the fee in satoshi; `coin(i)` is the unspent coin of input `i`.
pub fn check_inputs(
    view: TxView<'_>,
    spend_height: u32,
    mut coin: impl FnMut(usize) -> Option<CoinFacts>,
) -> Result<u64, TxReject> {
    let mut tally = InputTally::new(spend_height);
    // All coins must exist before any is judged.
    if (0..view.input_count()).any(|i| coin(i).is_none()) {
        return Err(TxReject::InputsMissingOrSpent);
    }
    for i in 0..view.input_count() {
        let facts = coin(i).ok_or(TxReject::InputsMissingOrSpent)?;
        tally.add(&facts)?;
    }
    tally.fee_sat(super::output_total(view)?)
}

/// Before the order in a confiscation transaction's first output: `OP_FALSE OP_RETURN` and a push of `cftx`.
const CONFISCATION_PREFIX: [u8; 7] = [0x00, 0x6a, 0x04, b'c', b'f', b't', b'x'];
const CONFISCATION_SCRIPT_BYTES: std::ops::RangeInclusive<usize> = 29..=83;
const CONFISCATION_VERSION: u8 = 1;

/// A well-formed confiscation transaction: spends frozen coins by the order of a court, without running their scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confiscation {
    /// Hash160 of the order.
    pub order_hash: [u8; 20],
}

/// True if the first output makes the transaction a confiscation, well-formed or not.
///
/// Without data from the alert system every such transaction is invalid. Source: SV Node `CFrozenTXODB::IsConfiscationTx`.
pub fn is_confiscation(view: TxView<'_>) -> bool {
    view.output_count() > 0 && view.output(0).locking_script.starts_with(&CONFISCATION_PREFIX)
}

/// Reads a confiscation; `None` for other transactions.
///
/// The caller looks the txid up in its list and refuses with `ConfiscationNotWhitelisted` what is not on it at this height.
/// Source: SV Node `CFrozenTXODB::ValidateConfiscationTxContents`.
pub fn read_confiscation(view: TxView<'_>) -> Option<Result<Confiscation, TxReject>> {
    if !is_confiscation(view) {
        return None;
    }
    let script = view.output(0).locking_script;
    let order = match script[CONFISCATION_PREFIX.len()..] {
        [push, CONFISCATION_VERSION, ref order @ ..] if push < 0x4c => order.first_chunk(),
        _ => None,
    };
    Some(match order {
        Some(hash) if CONFISCATION_SCRIPT_BYTES.contains(&script.len()) => {
            Ok(Confiscation { order_hash: *hash })
        }
        _ => Err(TxReject::ConfiscationInvalid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tx::{Tx, TxIn, TxLayout, TxOut, parse};

    fn coin(value_sat: u64) -> CoinFacts {
        CoinFacts { value_sat, height: 10, is_coinbase: false, is_confiscation: false }
    }

    #[test]
    fn a_coinbase_ripens_for_a_hundred_blocks() {
        let coinbase = CoinFacts { is_coinbase: true, ..coin(1) };
        let confiscated = CoinFacts { is_confiscation: true, ..coin(1) };
        assert_eq!(InputTally::new(109).add(&coinbase), Err(TxReject::CoinbaseImmature));
        assert_eq!(InputTally::new(110).add(&coinbase), Ok(()));
        assert_eq!(InputTally::new(1009).add(&confiscated), Err(TxReject::ConfiscationImmature));
        assert_eq!(InputTally::new(1010).add(&confiscated), Ok(()));
    }

    #[test]
    fn nobody_spends_more_than_he_has_or_than_there_is() {
        let mut tally = InputTally::new(100);
        assert_eq!(tally.add(&coin(MONEY_MAX_SAT + 1)), Err(TxReject::InputValues));
        tally.add(&coin(MONEY_MAX_SAT)).unwrap();
        assert_eq!(tally.add(&coin(1)), Err(TxReject::InputValues));
        let mut tally = InputTally::new(100);
        tally.add(&coin(5)).unwrap();
        assert_eq!(tally.fee_sat(6), Err(TxReject::InBelowOut));
        assert_eq!(tally.fee_sat(3), Ok(2));
    }

    #[test]
    fn a_missing_coin_is_found_before_an_immature_one() {
        let tx = Tx {
            inputs: vec![TxIn::default(); 2],
            outputs: vec![TxOut { value_sat: 1, locking_script: vec![] }],
            ..Tx::default()
        };
        let bytes = tx.to_bytes();
        let mut layout = TxLayout::new();
        let view = parse(&bytes, &mut layout).unwrap();
        let immature = CoinFacts { is_coinbase: true, ..coin(1) };
        let got = check_inputs(view, 11, |i| (i == 0).then_some(immature));
        assert_eq!(got, Err(TxReject::InputsMissingOrSpent));
        assert_eq!(check_inputs(view, 11, |_| Some(coin(3))), Ok(5));
    }

    #[test]
    fn confiscations_are_read_or_invalid() {
        let read = |script: &[u8]| {
            let output = TxOut { value_sat: 0, locking_script: script.to_vec() };
            let bytes = Tx { outputs: vec![output], ..Tx::default() }.to_bytes();
            let mut layout = TxLayout::new();
            read_confiscation(parse(&bytes, &mut layout).unwrap())
        };
        let mut script = CONFISCATION_PREFIX.to_vec();
        assert_eq!(read(&script[..6]), None);
        assert_eq!(read(&script), Some(Err(TxReject::ConfiscationInvalid)));
        script.extend_from_slice(&[21, 1]);
        script.extend_from_slice(&[9; 20]);
        assert_eq!(script.len(), 29);
        assert_eq!(read(&script), Some(Ok(Confiscation { order_hash: [9; 20] })));
        script[8] = 2;
        assert_eq!(read(&script), Some(Err(TxReject::ConfiscationInvalid)));
        script[8] = 1;
        script.resize(84, 0);
        assert_eq!(read(&script), Some(Err(TxReject::ConfiscationInvalid)));
    }
}
