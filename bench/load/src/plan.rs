//! What a workload consists of, before anything is signed.
//!
//! A plan is a list of *units*. A unit takes coins of its own and gives one or more transactions; units never share a coin
//! unless that is the fault they are there for. So units are signed in parallel, and every coin of the plan is one output of
//! the fan-out.

use crate::keys::Keys;
use dataplane::rng::Rng;

/// Which transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// One P2PKH input, two P2PKH outputs.
    P2pkh,
    /// Long chains (one, unless [`Options::chains`] says more) of raw P2PKH transactions, each spending the one before, all
    /// unconfirmed.
    Chain,
    /// One `OP_TRUE` input, one `OP_TRUE` output: no signature at all.
    OpTrue,
    /// One P2PKH input, 200 to 1,000 bytes of data, change.
    Data,
    /// All of them, and two inputs to two outputs, and chains of 25.
    Mixed,
}

impl Workload {
    /// All, in the order reports list them.
    pub const ALL: [Self; 5] = [Self::P2pkh, Self::Chain, Self::OpTrue, Self::Data, Self::Mixed];

    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::P2pkh => "p2pkh",
            Self::Chain => "chain",
            Self::OpTrue => "optrue",
            Self::Data => "data",
            Self::Mixed => "mixed",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|w| w.name() == name)
    }
}

impl std::str::FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::parse(name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|w| w.name()).collect();
            format!("{name} is none of {}", names.join(", "))
        })
    }
}

/// How many faults of each kind are put between the honest transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Inject {
    /// A second spender of a coin an honest transaction spends.
    pub double_spends: usize,
    /// A child sent before its parent.
    pub orphans: usize,
    /// A child whose parent is never sent.
    pub lost_parents: usize,
    /// One bit of a signature flipped.
    pub bad_signatures: usize,
    /// A transaction cut short.
    pub malformed: usize,
    /// The same bytes again.
    pub duplicates: usize,
}

impl Inject {
    /// `n` of each.
    pub fn each(n: usize) -> Self {
        Self {
            double_spends: n,
            orphans: n,
            lost_parents: n,
            bad_signatures: n,
            malformed: n,
            duplicates: n,
        }
    }

    /// None.
    pub fn none() -> Self {
        Self::default()
    }
}

/// What to plan.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which transactions.
    pub workload: Workload,
    /// Honest transactions.
    pub txs: usize,
    /// Everything is drawn from it.
    pub seed: u64,
    /// Distinct keys; headline workloads use at least 10,000.
    pub keys: usize,
    /// Faults.
    pub inject: Inject,
    /// Fee of every transaction, satoshi per 1,000 bytes.
    pub fee_sat_per_kb: u64,
    /// Chains of the workload `chain`, side by side.
    pub chains: usize,
}

impl Options {
    /// `txs` honest transactions of `workload`, 10,000 keys, 500 satoshi per 1,000 bytes, no faults, one chain.
    pub fn new(workload: Workload, txs: usize, seed: u64) -> Self {
        let inject = Inject::none();
        Self { workload, txs, seed, keys: KEYS_DEFAULT, inject, fee_sat_per_kb: 500, chains: 1 }
    }
}

/// Keys of a headline workload.
pub const KEYS_DEFAULT: usize = 10_000;
/// Transactions in one chain of the mixed workload.
pub const MIXED_CHAIN_LEN: usize = 25;
/// Value of a coin for one or two transactions.
const COIN_SAT: u64 = 10_000;
/// What one transaction of a chain may cost.
const CHAIN_STEP_SAT: u64 = 200;

/// Who can spend a planned coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// The key of this number.
    Key(u32),
    /// Anybody.
    Anyone,
}

/// A coin the fan-out has to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoinPlan {
    pub(crate) lock: Lock,
    pub(crate) value_sat: u64,
}

/// The shape of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Pay,
    TwoTwo,
    Anyone,
    Data,
    Chain(usize),
    /// Parent and child, child first.
    Orphan,
    /// Parent and child; the parent is kept back.
    LostParent,
    /// A payment with one bit of its signature flipped.
    BadSignature,
}

impl Shape {
    fn coins(self) -> usize {
        if self == Self::TwoTwo { 2 } else { 1 }
    }

    fn coin(self, key: u32) -> CoinPlan {
        match self {
            Self::Anyone => CoinPlan { lock: Lock::Anyone, value_sat: COIN_SAT },
            Self::Chain(len) => {
                let value_sat = COIN_SAT + CHAIN_STEP_SAT * len as u64;
                CoinPlan { lock: Lock::Key(key), value_sat }
            }
            _ => CoinPlan { lock: Lock::Key(key), value_sat: COIN_SAT },
        }
    }

    /// Honest transactions the unit sends.
    fn honest(self) -> usize {
        match self {
            Self::Chain(len) => len,
            Self::Pay | Self::TwoTwo | Self::Anyone | Self::Data => 1,
            Self::Orphan | Self::LostParent | Self::BadSignature => 0,
        }
    }
}

/// Some transactions and the coins they start from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) shape: Shape,
    /// Index of the first coin in the plan.
    pub(crate) coin: usize,
}

/// A workload before its coins exist.
#[derive(Debug)]
pub struct Plan {
    pub(crate) options: Options,
    pub(crate) keys: Keys,
    pub(crate) units: Vec<Unit>,
    pub(crate) coins: Vec<CoinPlan>,
}

impl Plan {
    /// Draws the plan of `options`.
    pub fn new(options: Options) -> Self {
        let mut plan = Self {
            options,
            keys: Keys::derive(options.seed, options.keys),
            units: Vec::new(),
            coins: Vec::new(),
        };
        let mut rng = Rng::salted(options.seed, PLAN_SALT);
        let mut honest = 0;
        let chain_len = options.txs.div_ceil(options.chains.max(1));
        while honest < options.txs {
            let shape = draw(options.workload, &mut rng, chain_len, options.txs - honest);
            honest += shape.honest();
            plan.push(shape);
        }
        for (shape, count) in [
            (Shape::Orphan, options.inject.orphans),
            (Shape::LostParent, options.inject.lost_parents),
            (Shape::BadSignature, options.inject.bad_signatures),
        ] {
            (0..count).for_each(|_| plan.push(shape));
        }
        plan
    }

    /// What was asked for.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Coins the fan-out makes.
    pub fn coin_count(&self) -> usize {
        self.coins.len()
    }

    fn push(&mut self, shape: Shape) {
        self.units.push(Unit { shape, coin: self.coins.len() });
        for _ in 0..shape.coins() {
            let key = (self.coins.len() % self.keys.len()) as u32;
            self.coins.push(shape.coin(key));
        }
    }
}

const PLAN_SALT: u64 = 0x70_6c_61_6e;

fn draw(workload: Workload, rng: &mut Rng, chain_len: usize, left: usize) -> Shape {
    match workload {
        Workload::P2pkh => Shape::Pay,
        Workload::Chain => Shape::Chain(chain_len.min(left)),
        Workload::OpTrue => Shape::Anyone,
        Workload::Data => Shape::Data,
        Workload::Mixed => match rng.next_u64() % 100 {
            0..=54 => Shape::Pay,
            55..=74 => Shape::TwoTwo,
            75..=84 => Shape::Data,
            85..=98 => Shape::Anyone,
            _ => Shape::Chain(MIXED_CHAIN_LEN.min(left)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_holds_exactly_the_honest_transactions_asked_for() {
        for workload in Workload::ALL {
            let options = Options { keys: 16, ..Options::new(workload, 1_234, 3) };
            let plan = Plan::new(options);
            let honest: usize = plan.units.iter().map(|u| u.shape.honest()).sum();
            assert_eq!(honest, 1_234, "{}", workload.name());
        }
    }

    #[test]
    fn chains_side_by_side_share_the_transactions() {
        let options = Options { keys: 16, chains: 3, ..Options::new(Workload::Chain, 100, 3) };
        let lengths: Vec<usize> =
            Plan::new(options).units.iter().map(|u| u.shape.honest()).collect();
        assert_eq!(lengths, [34, 34, 32]);
    }

    #[test]
    fn workload_names_are_read_back() {
        for workload in Workload::ALL {
            assert_eq!(Workload::parse(workload.name()), Some(workload));
        }
        let error = "p2sh".parse::<Workload>().unwrap_err();
        assert!(error.contains("p2pkh, chain, optrue"), "{error}");
    }
}
