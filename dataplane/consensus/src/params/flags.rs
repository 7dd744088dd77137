//! Which script flags hold at which height: the heights of a network meet the bits of `script::Flags`.

use super::{ChainParams, Era};
use crate::script::Flags;

/// Flags of the mempool, those of an era apart. Source: SV Node `policy/policy.h`.
const STANDARD: Flags = Flags::P2SH
    .with(Flags::STRICTENC)
    .with(Flags::ENABLE_SIGHASH_FORKID)
    .with(Flags::LOW_S)
    .with(Flags::NULLFAIL)
    .with(Flags::DERSIG)
    .with(Flags::NULLDUMMY)
    .with(Flags::DISCOURAGE_UPGRADABLE_NOPS)
    .with(Flags::CHECKLOCKTIMEVERIFY)
    .with(Flags::CHECKSEQUENCEVERIFY)
    .with(Flags::CLEANSTACK)
    .with(Flags::MINIMALDATA);

/// What the era of the spending block sets.
fn of_spend(era: Era) -> Flags {
    match era {
        Era::PreGenesis => Flags::NONE,
        Era::PostGenesis => Flags::GENESIS,
        Era::PostChronicle => Flags::GENESIS.with(Flags::CHRONICLE),
    }
}

/// What the era of the coin sets.
fn of_coin(era: Era) -> Flags {
    match era {
        Era::PreGenesis => Flags::NONE,
        Era::PostGenesis => Flags::UTXO_AFTER_GENESIS,
        Era::PostChronicle => Flags::UTXO_AFTER_GENESIS.with(Flags::UTXO_AFTER_CHRONICLE),
    }
}

impl ChainParams {
    /// Bits of the script flags of a block, without those that depend on each coin.
    ///
    /// Some rules start at a height, some one block after a height (they compare with the block before).
    /// Source: SV Node `verify_script_flags.cpp` `GetBlockScriptFlags`.
    pub fn flags_for_block(&self, height: u32) -> u32 {
        let era = self.era(height);
        // Columns: the rule holds, and what it sets.
        let rules = [
            (height > self.p2sh_height, Flags::P2SH),
            (height >= self.bip66_height, Flags::DERSIG),
            (height >= self.bip65_height, Flags::CHECKLOCKTIMEVERIFY),
            (height >= self.csv_height, Flags::CHECKSEQUENCEVERIFY),
            (height > self.uahf_height, Flags::STRICTENC.with(Flags::ENABLE_SIGHASH_FORKID)),
            (height > self.daa_height, Flags::LOW_S.with(Flags::NULLFAIL)),
            (era >= Era::PostGenesis, Flags::SIGPUSHONLY),
        ];
        rules
            .into_iter()
            .filter(|(holds, _)| *holds)
            .fold(of_spend(era), |all, (_, flags)| all.with(flags))
            .0
    }

    /// Bits of the script flags of the mempool, whose transactions spend at the height after the tip.
    ///
    /// Source: SV Node `policy/policy.h` `StandardScriptVerifyFlags`.
    pub fn flags_for_mempool(&self, height: u32) -> u32 {
        STANDARD.with(of_spend(self.era(height))).0
    }

    /// Bits that one input adds to the flags of its block: what the coin's height and the spending height say.
    ///
    /// Source: SV Node `policy/policy.h` `InputScriptVerifyFlags`.
    pub fn flags_for_input(&self, spend_height: u32, coin_height: u32) -> u32 {
        let from_genesis = self.era(spend_height) >= Era::PostGenesis;
        let spend = if from_genesis { Flags::SIGPUSHONLY } else { Flags::NONE };
        spend.with(of_coin(self.era(coin_height))).0
    }
}
