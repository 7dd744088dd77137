//! Coins by RPC: a regtest node mines to the plan's keys, and the plan's fan-out goes through its pool.
//!
//! In: a plan and a node that knows `generatetoaddress`. Out: the coins, confirmed. Only what bitcoind has is called, so any
//! node will do; on a network where nobody can mine at will, a file of signed transactions takes the place of all this.

use super::rpc::{Rpc, RpcError};
use consensus::address::Destination;
use consensus::block::BlockView;
use consensus::params::{ChainParams, Network};
use consensus::tx::{TxLayout, parse};
use load::{Coinbase, FanOut, Plan};
use serde_json::json;

/// Confirmations before a coinbase can be spent. Source: SV Node `COINBASE_MATURITY`.
const COINBASE_MATURITY: u32 = 100;
/// Coinbases a plan may ask for.
const COINBASES_MAX: usize = 1_000;
/// Outputs of the fan-out in one block: each is a signature operation, and before Genesis a block of up to a megabyte may
/// hold 20,000. Source: SV Node consensus.h, `GetMaxBlockSigOpsCountBeforeGenesis`.
const BLOCK_OUTPUTS_MAX: usize = 15_000;
/// Blocks mined until the fan-out is confirmed.
const DRAIN_BLOCKS_MAX: u32 = 50;

/// Why there are no coins.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoinsError {
    /// A call failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// Nobody can mine at will there.
    #[error(
        "the node is on chain `{chain}`, expected `regtest`, where coins can be mined at will; \
         give signed transactions with --file"
    )]
    Chain {
        /// What the node says.
        chain: String,
    },
    /// Old regtest chains pay nothing.
    #[error(
        "at height {height} a block pays {reward_sat} satoshi, too little for the workload's coins; \
         start the node on a fresh data directory, or send fewer transactions"
    )]
    Poor {
        /// The tip.
        height: u32,
        /// What the last coinbase would pay.
        reward_sat: u64,
    },
    /// A block that is none.
    #[error("the node's block {hash} cannot be read: {text}")]
    Block {
        /// Its hash.
        hash: String,
        /// What is wrong.
        text: String,
    },
    /// The pool does not empty.
    #[error(
        "{left} transactions are still in the pool after {blocks} blocks; is somebody else sending?"
    )]
    Left {
        /// How many.
        left: u64,
        /// After so many blocks.
        blocks: u32,
    },
}

/// How many coinbases the plan needs on top of `height`, and the least of them.
fn needs(plan: &Plan, params: &ChainParams, height: u32) -> Result<(usize, u64), CoinsError> {
    for count in 1..=COINBASES_MAX {
        // Blocks pay less and less.
        let reward_sat = params.subsidy_sat(height + count as u32);
        if !plan.is_enough(reward_sat) {
            return Err(CoinsError::Poor { height, reward_sat });
        }
        if plan.coinbases_needed(reward_sat) <= count {
            return Ok((count, reward_sat));
        }
    }
    Err(CoinsError::Poor { height, reward_sat: params.subsidy_sat(height) })
}

/// Mines, fans out, mines: what comes back can be spent.
pub async fn prepare(rpc: &mut Rpc, plan: &Plan) -> Result<FanOut, CoinsError> {
    let info = rpc.call("getblockchaininfo", json!([])).await?;
    let chain = info["chain"].as_str().unwrap_or_default();
    if chain != Network::Regtest.chain_name() {
        return Err(CoinsError::Chain { chain: chain.to_owned() });
    }
    let params = ChainParams::of(Network::Regtest);
    let height = rpc.number("getblockcount", json!([])).await? as u32;
    let (count, reward_sat) = needs(plan, &params, height)?;
    let address = |i: usize| Destination::PubKeyHash(plan.keys().at(i).hash).to_address(&params);
    let mut coinbases = Vec::with_capacity(count);
    for i in 0..count {
        let mined = rpc.call("generatetoaddress", json!([1, address(i)])).await?;
        let Some(hash) = mined[0].as_str() else {
            return Err(rpc.shape("generatetoaddress", &mined, "a list of block hashes").into());
        };
        coinbases.push(coinbase(rpc, hash).await?);
    }
    rpc.call("generatetoaddress", json!([COINBASE_MATURITY, address(0)])).await?;
    let fan_out = plan.fan_out(&coinbases, reward_sat);
    let mut outputs = 0;
    let mut layout = TxLayout::new();
    for tx in &fan_out.txs {
        let more = parse(tx, &mut layout).map_or(0, |view| view.output_count());
        if outputs > 0 && outputs + more > BLOCK_OUTPUTS_MAX {
            rpc.call("generatetoaddress", json!([1, address(0)])).await?;
            outputs = 0;
        }
        rpc.text("sendrawtransaction", json!([hex::encode(tx), true])).await?;
        outputs += more;
    }
    let mut blocks = 0;
    loop {
        rpc.call("generatetoaddress", json!([1, address(0)])).await?;
        blocks += 1;
        let left = rpc.pool_size().await?;
        if left == 0 {
            return Ok(fan_out);
        }
        if blocks >= DRAIN_BLOCKS_MAX {
            return Err(CoinsError::Left { left, blocks });
        }
    }
}

async fn coinbase(rpc: &mut Rpc, hash: &str) -> Result<Coinbase, CoinsError> {
    let text = rpc.text("getblock", json!([hash, 0])).await?;
    let wrong = |text: String| CoinsError::Block { hash: hash.to_owned(), text };
    let raw = hex::decode(text).map_err(|error| wrong(error.to_string()))?;
    let block = BlockView::new(&raw).map_err(|error| wrong(error.to_string()))?;
    let mut layout = TxLayout::new();
    let first = block.txs().next_tx(&mut layout).map_err(|error| wrong(error.to_string()))?;
    let Some(first) = first.filter(|tx| tx.output_count() > 0) else {
        return Err(wrong("it has no coinbase".to_owned()));
    };
    Ok(Coinbase { txid: first.txid(), value_sat: first.output(0).value_sat as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use load::{Options, Workload};

    #[test]
    fn an_old_chain_is_told_apart_from_one_that_still_pays() {
        let options = Options { keys: 4, ..Options::new(Workload::P2pkh, 20_000, 1) };
        let plan = Plan::new(options);
        let params = ChainParams::of(Network::Regtest);
        assert_eq!(needs(&plan, &params, 0).unwrap(), (1, 5_000_000_000));
        // After the first halvings one coinbase is no longer enough, later none is.
        let (count, reward_sat) = needs(&plan, &params, 150 * 6).unwrap();
        assert!(count > 1 && reward_sat < 100_000_000, "{count} of {reward_sat}");
        assert!(matches!(needs(&plan, &params, 150 * 12), Err(CoinsError::Poor { .. })));
    }
}
