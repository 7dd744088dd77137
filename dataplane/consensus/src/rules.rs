//! Rules: bytes are parsed, coins are handed in, a verdict goes out.
//!
//! | file | judges | needs |
//! | --- | --- | --- |
//! | `context_free` | a transaction by itself | its era |
//! | `locks` | when it may be in a block | height, median times |
//! | `inputs` | what it spends | its coins |
//! | `sigops` | how many signatures it may ask for | eras |
//! | `template`, `policy` | whether this node relays it | the operator's numbers |
//! | `block` | a block as a whole | chain parameters, its height |
//!
//! Scripts are judged in `script`. Every verdict is an exhaustive enum with stable numbers that carries SV Node's reject
//! reason, reject code and ban score.

mod block;
mod context_free;
mod inputs;
mod locks;
mod policy;
mod reject;
mod scan;
mod sigops;
mod template;

pub use block::{
    BlockChecker, BlockReject, BlockSummary, check_coinbase_amount, coinbase_height_script,
    late_parent, read_coinbase_height,
};
pub use context_free::{
    MONEY_MAX_SAT, TX_BYTES_MAX, TX_BYTES_MAX_BEFORE_GENESIS, TxLimits, check_coinbase,
    check_transaction, output_total,
};
pub use inputs::{
    COINBASE_MATURITY_BLOCKS, CONFISCATION_MATURITY_BLOCKS, CoinFacts, Confiscation, InputTally,
    check_inputs, is_confiscation, read_confiscation,
};
pub use locks::{
    CoinAge, LOCKTIME_THRESHOLD, RelativeLock, has_relative_locks, is_final, lock_time_limit_s,
};
pub use policy::{
    ConsolidationCoin, ConsolidationPolicy, FeeRate, StandardPolicy, check_standard,
    is_consolidation, is_dust, is_input_standard,
};
pub use reject::{Dos, RejectCode, TxReject};
pub use sigops::{
    BLOCK_SIGOPS_MAX_PER_MB_BEFORE_GENESIS, TX_SIGOPS_MAX_BEFORE_GENESIS, Uncountable,
    block_sigops_max, count_p2sh_sigops, count_sigops, count_tx_sigops,
};
pub use template::{STANDARD_MULTISIG_KEYS_MAX, Template, is_unspendable};
