//! `metanode utxo export` of a node's directory: the coins as of the chain's tip as one file, with the headers below it.
//!
//! In: the directory of a stopped node, or of one that runs. Out: the same two files as of any other set. A node that runs is asked
//! for a checkpoint, which it takes beside its work; that is read from its files, which stay as they are for whoever has opened
//! them, one shard at a time. A block lies in one epoch as a whole, so the coins as of an epoch's end are those of a block.

use super::node_dir::{NodeDir, seed_head};
use super::{HEADERS, UtxoError, Whole, os};
use crate::datadir::NODE_FILE;
use crate::load::rpc::{Rpc, credentials};
use load::evidence::Evidence;
use std::path::Path;
use std::time::Instant;
use utxo_shard::journal::BlockNote;
use utxo_shard::seed::CoinWriter;
use utxo_shard::seed_headers::HeaderWriter;
use utxo_shard::{Folder, FolderError, Shard};

/// Writes the coins of a node's directory to `file`, the headers beside it.
pub(super) fn export(
    node: &NodeDir,
    file: &Path,
    evidence: &mut Evidence,
) -> Result<(), UtxoError> {
    let beside = file.with_extension(HEADERS);
    for path in [file, &beside] {
        if path.exists() {
            return Err(UtxoError::InTheWay { path: path.to_owned() });
        }
    }
    match node.examine() {
        Ok((_folder, examined)) => {
            evidence.set("epoch", examined.complete);
            evidence.set("running", false);
            let mut shards = examined.shards.into_iter();
            write(node, file, evidence, &examined.chain, || Ok(shards.next()))
        }
        Err(UtxoError::Folder(FolderError::InUse { .. })) => export_running(node, file, evidence),
        Err(error) => Err(error),
    }
}

/// The same while the node goes on.
fn export_running(node: &NodeDir, file: &Path, evidence: &mut Evidence) -> Result<(), UtxoError> {
    let began = Instant::now();
    let epoch = ask_for_checkpoint(&node.folder)?;
    eprintln!(
        "utxo: the node took a checkpoint as of epoch {epoch} within {:.3} s",
        began.elapsed().as_secs_f64()
    );
    evidence.set("checkpoint_s", began.elapsed().as_secs_f64());
    let folder = Folder::look_at_checkpoint(&node.utxo)?;
    evidence.set("epoch", folder.manifest().checkpoint);
    evidence.set("running", true);
    let configs = node.configs(&folder)?;
    let load = |shard: usize| folder.checkpointed(&configs[shard]).map_err(node.recover());
    let (first, _) = load(0)?;
    let chain = first.chain_notes();
    let mut first = Some(first);
    let mut next = 0;
    write(node, file, evidence, &chain, || {
        next += 1;
        match first.take() {
            Some(first) => Ok(Some(first)),
            None if next > configs.len() => Ok(None),
            None => load(next - 1).map(|(shard, _)| Some(shard)),
        }
    })
}

/// The files, from one shard after the other.
fn write(
    node: &NodeDir,
    file: &Path,
    evidence: &mut Evidence,
    chain: &[BlockNote],
    mut next: impl FnMut() -> Result<Option<Shard>, UtxoError>,
) -> Result<(), UtxoError> {
    let tip = node.tip(chain);
    let headers = node.headers(tip)?;
    let head = seed_head(tip, &headers);
    let mut writer = CoinWriter::new(Whole::begin(file)?, &head).map_err(os("write", file))?;
    let mut shards = 0_u64;
    while let Some(shard) = next()? {
        shard.for_each_mined_coin(&mut |outpoint, coin| writer.take(outpoint, coin));
        if !writer.is_good() {
            break;
        }
        eprintln!("utxo: shard {shards} is written");
        shards += 1;
    }
    let (transactions, utxos, whole) = writer.finish().map_err(os("write", file))?;
    whole.end()?;
    evidence.set("directory", node.utxo.display().to_string());
    evidence.set("block", head.block.to_string());
    evidence.set("height", head.height);
    evidence.set("transactions", transactions);
    evidence.set("utxos", utxos);
    evidence.set("written", file.display().to_string());
    eprintln!(
        "utxo: {transactions} transactions with {utxos} unspent outputs as of block {} at height {}",
        head.block, head.height
    );
    if headers.is_empty() {
        return Ok(());
    }
    let to = file.with_extension(HEADERS);
    let whole = Whole::begin(&to)?;
    let mut writer = HeaderWriter::new(whole, tip).map_err(os("write", &to))?;
    for header in &headers {
        writer.write(header).map_err(os("write", &to))?;
    }
    writer.finish().map_err(os("write", &to))?.end()?;
    evidence.set("headers", headers.len());
    evidence.set("headers_written", to.display().to_string());
    Ok(())
}

/// Asks the node that runs in `folder` over its RPC; gives the epoch.
fn ask_for_checkpoint(folder: &Path) -> Result<u64, UtxoError> {
    let file = folder.join(NODE_FILE);
    let text = std::fs::read_to_string(&file).map_err(os("read", &file))?;
    let info: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let said = |value: &serde_json::Value, what| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| UtxoError::NotAsked { path: file.clone(), what })
    };
    let authority = said(&info["listen"]["rpc"], "no RPC listener")?;
    let cookie = said(&info["cookie_file"], "no cookie")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(os("start a runtime for", &file))?;
    runtime.block_on(async {
        let credentials = credentials(Some(Path::new(&cookie)), None, None)?;
        let mut rpc = Rpc::new(&authority, credentials.as_deref())?;
        Ok(rpc.number("takecheckpoint", serde_json::json!([])).await?)
    })
}
