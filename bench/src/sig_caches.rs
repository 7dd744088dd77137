//! Would a cache of keys or of verified signatures pay? What `bench sig` measures about it.
//!
//! In: the verifier and mainnet block 413567 where it lies beside the checkout. Out: how much of a signature the square root of a
//! compressed key is (what a hit could save at most), how often a key of a block was seen before in it, how often all sixteen
//! keys of a round were (one root serves sixteen lanes: fifteen hits save nothing), and how often a whole signature repeats.

use consensus::block::BlockView;
use consensus::tx::TxLayout;
use secp256k1::PublicKey;
use serde_json::{Value, json};
use sigbatch::proof::cases::Case;
use sigbatch::{SigVerdict, Verifier};
use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

/// The block, from the checkout's root.
const BLOCK: &str = "../shared/vectors/bitcoin-sv+bitcoin-sv/src/bench/data/block413567.raw";
/// Signatures of one round of the kernel.
const ROUND: usize = 16;
/// Signatures timed at once, and how often.
const SLICE: usize = 512;
const SLICES: usize = 40;

/// What is known about caches.
pub fn measure(kernel: &mut Verifier, rows: &[Case]) -> Value {
    let rows = &rows[..SLICE.min(rows.len())];
    let given: Vec<Case> = rows
        .iter()
        .map(|row| {
            let key = PublicKey::from_slice(&row.key).expect("rows are right");
            Case { key: key.serialize_uncompressed().to_vec(), ..row.clone() }
        })
        .collect();
    let mut ratios: Vec<f64> = (0..SLICES)
        .map(|_| {
            let compressed = seconds(kernel, rows);
            seconds(kernel, &given) / compressed
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let saved = 1.0 - ratios[SLICES / 2];
    let seen = seen(Path::new(BLOCK));
    let (key_hits, round_hits) = seen.as_ref().map_or((0.0, 0.0), |seen| (seen.keys, seen.rounds));
    json!({
        "key_root_share": round(saved),
        "block": seen.as_ref().map(|seen| json!({
            "inputs_with_key": seen.inputs, "key_hit_rate": round(seen.keys),
            "rounds_all_hit_rate": round(seen.rounds), "signature_hit_rate": round(seen.signatures),
        })),
        "key_cache_gain": round(saved * round_hits),
        "key_cache_gain_if_lanes_were_sorted": round(saved * key_hits),
        "pays": saved * round_hits > 0.02,
    })
}

fn round(x: f64) -> f64 {
    (x * 10_000.0).round() / 10_000.0
}

fn seconds(kernel: &mut Verifier, rows: &[Case]) -> f64 {
    let mut verdicts = [SigVerdict::default(); SLICE];
    let began = Instant::now();
    kernel.verify_each(|i| rows[i].check(), &mut verdicts[..rows.len()]);
    began.elapsed().as_secs_f64()
}

struct Seen {
    inputs: usize,
    keys: f64,
    rounds: f64,
    signatures: f64,
}

/// The pushes of an unlocking script that are pushes of one length byte.
fn pushes(script: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let mut rest = script;
    while let [len @ 1..=75, tail @ ..] = rest {
        let Some((push, tail)) = tail.split_at_checked(usize::from(*len)) else { break };
        out.push(push);
        rest = tail;
    }
    out
}

fn seen(path: &Path) -> Option<Seen> {
    let bytes = std::fs::read(path).ok()?;
    let block = BlockView::new(&bytes).ok()?;
    let (mut keys, mut signatures) = (HashSet::new(), HashSet::new());
    let (mut hits, mut repeated) = (Vec::new(), 0);
    let (mut txs, mut layout) = (block.txs(), TxLayout::new());
    while let Some(tx) = txs.next_tx(&mut layout).ok()? {
        for i in 0..tx.input_count() {
            let pushes = pushes(tx.input(i).unlocking_script);
            let [signature, key] = pushes[..] else { continue };
            if ![33, 65].contains(&key.len()) {
                continue;
            }
            hits.push(!keys.insert(key.to_vec()));
            repeated += usize::from(!signatures.insert(signature.to_vec()));
        }
    }
    let share = |n: usize, of: usize| if of == 0 { 0.0 } else { n as f64 / of as f64 };
    let rounds = hits.chunks_exact(ROUND);
    let count = rounds.len();
    let all = rounds.filter(|round| round.iter().all(|hit| *hit)).count();
    Some(Seen {
        inputs: hits.len(),
        keys: share(hits.iter().filter(|hit| **hit).count(), hits.len()),
        rounds: share(all, count),
        signatures: share(repeated, hits.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_read_up_to_the_first_thing_that_is_none() {
        assert_eq!(pushes(&[1, 7, 2, 8, 9]), [&[7][..], &[8, 9]]);
        assert_eq!(pushes(&[1, 7, 0x51]), [&[7][..]]);
        assert!(pushes(&[5, 1]).is_empty());
    }
}
