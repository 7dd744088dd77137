//! The dump: everything a foreign script needs to recompute a run.
//!
//! `block-000104.raw` are raw Bitcoin blocks, one a height from 1 on. `coins.jsonl` holds the previous outputs in the row form,
//! section by section: first an object that names block and height, then `[tx index, input index, coin height, coinbase 0/1,
//! amount sat, locking script hex]`, one a non-coinbase input; `block-000104.coins.jsonl` is the section of one block, for
//! `metanode verify-block --coins`. `verdicts.jsonl` has one `{txid, verdict, winner}` an offered transaction, in sending order.

use super::{DemoBlock, DemoError, Run};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The file name of a block in the dump.
pub(crate) fn file_name(height: u32) -> String {
    format!("block-{height:06}.raw")
}

pub(crate) fn dump(dir: &Path, run: &Run) -> Result<(), DemoError> {
    let fail = |name: &str| {
        let path = dir.join(name);
        move |source: io::Error| DemoError::Dump { path, source }
    };
    std::fs::create_dir_all(dir).map_err(fail(""))?;
    let mut all = create(dir, "coins.jsonl").map_err(fail("coins.jsonl"))?;
    for block in &run.blocks {
        let name = file_name(block.height);
        std::fs::write(dir.join(&name), &block.raw).map_err(fail(&name))?;
        if block.applied.prevouts.is_empty() {
            continue;
        }
        let section = section(block);
        all.write_all(section.as_bytes()).map_err(fail("coins.jsonl"))?;
        let name = format!("block-{:06}.coins.jsonl", block.height);
        std::fs::write(dir.join(&name), section).map_err(fail(&name))?;
    }
    all.flush().map_err(fail("coins.jsonl"))?;
    verdicts(dir, run).map_err(fail("verdicts.jsonl"))
}

fn create(dir: &Path, name: &str) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::new(File::create(dir.join(name))?))
}

fn section(block: &DemoBlock) -> String {
    let head = serde_json::json!({
        "block": file_name(block.height),
        "height": block.height,
        "rows": "[tx index, input index, coin height, coinbase 0/1, amount sat, scriptPubKey hex]",
        "total_fees": block.applied.fees_sat,
    });
    let mut text = format!("{head}\n");
    for row in &block.applied.prevouts {
        text += &row.to_json().to_string();
        text.push('\n');
    }
    text
}

fn verdicts(dir: &Path, run: &Run) -> io::Result<()> {
    let others: std::collections::HashMap<_, _> = run.log.others().into_iter().collect();
    let mut out = create(dir, "verdicts.jsonl")?;
    for offered in run.offer.iter() {
        let verdict = run.log.outcome(offered.place as usize).map(|o| o.verdict.name());
        let winner = others.get(&offered.place).map(ToString::to_string);
        let row = serde_json::json!({
            "txid": offered.txid.to_string(),
            "verdict": verdict.unwrap_or("none"),
            "winner": winner,
        });
        writeln!(out, "{row}")?;
    }
    out.flush()
}
