//! Speeds of the erasure codes: one thread, one megabyte, every kernel this processor has.
//!
//! In: nothing. Out: rows of megabytes of the object a second, to make all parity and to get the data back after the worst loss that
//! parity allows (r data symbols of each group). The best of several rounds counts, since a machine only ever adds time. Beside ours
//! stands the best code over a whole object, `rs16` of the crate `reed-solomon-simd`: `docs/bfr.md` says why relays do not use it.

use crate::rng::Rng;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use relay::fec::{Kernel, Rs8, Scratch};
use relay::wire::SYMBOL_LEN;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Data and parity symbols of a group: those of `docs/bfr.md` at 1, 5 and 20 % loss.
const GROUPS: [(usize, usize); 5] = [(32, 10), (64, 10), (64, 18), (64, 44), (128, 20)];
/// Data and parity of the code over the whole object, at 1, 5 and 20 % loss.
const WHOLE: [(usize, usize); 3] = [(868, 19), (868, 66), (868, 261)];
/// Bytes of the object.
const OBJECT_BYTES: usize = 1_000_000;
/// How long a row is repeated.
const ROUNDS: Duration = Duration::from_millis(60);

/// All rows.
pub fn rows() -> Vec<Value> {
    let mut rows = Vec::new();
    for kernel in Kernel::all() {
        for (k, r) in GROUPS {
            let (enc_mb_s, dec_mb_s) = speeds(Rs8::new(kernel), k, r);
            let codec = format!("rs8-{}", kernel.backend().name());
            eprintln!("fec: {codec:<16} {k:>3}+{r:<3} {enc_mb_s:>8.0} {dec_mb_s:>8.0} MB/s");
            rows.push(json!({
                "codec": codec, "k": k, "r": r,
                "enc_mb_s": enc_mb_s.round(), "dec_mb_s": dec_mb_s.round(),
            }));
        }
    }
    for (k, r) in WHOLE {
        let (enc_mb_s, dec_mb_s) = speeds_of_whole(k, r);
        eprintln!("fec: {:<16} {k:>3}+{r:<3} {enc_mb_s:>8.0} {dec_mb_s:>8.0} MB/s", "rs16");
        rows.push(json!({
            "codec": "rs16", "k": k, "r": r,
            "enc_mb_s": enc_mb_s.round(), "dec_mb_s": dec_mb_s.round(),
        }));
    }
    rows
}

/// The same for the code over the whole object, after the loss of `r` of its data symbols.
fn speeds_of_whole(k: usize, r: usize) -> (f64, f64) {
    let data = Rng::new(1).bytes(k * SYMBOL_LEN);
    let mut parity = vec![0; r * SYMBOL_LEN];
    let fits = "the code has so many symbols of even length";
    let mut encoder = ReedSolomonEncoder::new(k, r, SYMBOL_LEN).expect(fits);
    let enc = best(|| {
        encoder.reset(k, r, SYMBOL_LEN).expect(fits);
        for symbol in data.chunks_exact(SYMBOL_LEN) {
            encoder.add_original_shard(symbol).expect("symbols have one length");
        }
        let made = encoder.encode().expect("every data symbol was given");
        for (out, symbol) in parity.chunks_exact_mut(SYMBOL_LEN).zip(made.recovery_iter()) {
            out.copy_from_slice(symbol);
        }
    });
    let mut decoder = ReedSolomonDecoder::new(k, r, SYMBOL_LEN).expect(fits);
    let mut object = data.clone();
    let mut dec = Duration::MAX;
    let until = Instant::now() + ROUNDS;
    while dec == Duration::MAX || Instant::now() < until {
        object[..r * SYMBOL_LEN].fill(0);
        let began = Instant::now();
        decoder.reset(k, r, SYMBOL_LEN).expect(fits);
        for (i, symbol) in data.chunks_exact(SYMBOL_LEN).enumerate().skip(r) {
            decoder.add_original_shard(i, symbol).expect("a data symbol, once");
        }
        for (i, symbol) in parity.chunks_exact(SYMBOL_LEN).enumerate() {
            decoder.add_recovery_shard(i, symbol).expect("a parity symbol, once");
        }
        for (i, symbol) in decoder.decode().expect("k symbols are enough").restored_original_iter()
        {
            object[i * SYMBOL_LEN..][..SYMBOL_LEN].copy_from_slice(symbol);
        }
        dec = dec.min(began.elapsed());
        assert!(object == data, "{k}+{r}: what was decoded is not what was encoded");
    }
    (data.len() as f64 / enc.as_secs_f64() / 1e6, data.len() as f64 / dec.as_secs_f64() / 1e6)
}

/// Megabytes a second of encoding and of decoding; what is decoded is compared with what was encoded.
fn speeds(code: Rs8, k: usize, r: usize) -> (f64, f64) {
    let mut rng = Rng::new(1);
    let groups = OBJECT_BYTES.div_ceil(k * SYMBOL_LEN);
    let data: Vec<Vec<u8>> = (0..groups).map(|_| rng.bytes(k * SYMBOL_LEN)).collect();
    let mut parity = vec![vec![0; r * SYMBOL_LEN]; groups];
    let numbers: Vec<u8> = (k..k + r).map(|number| number as u8).collect();
    let enc = best(|| {
        for (data, parity) in data.iter().zip(&mut parity) {
            let data: Vec<&[u8]> = data.chunks_exact(SYMBOL_LEN).collect();
            let mut out: Vec<&mut [u8]> = parity.chunks_exact_mut(SYMBOL_LEN).collect();
            code.encode(&data, &numbers, &mut out);
        }
    });
    // The first symbols of every group are lost; parity stands in their place.
    let lost = r.min(k);
    let held: Vec<u8> = (0..k).map(|i| if i < lost { (k + i) as u8 } else { i as u8 }).collect();
    let mut scratch = Scratch::default();
    let mut groups = data.clone();
    let mut dec = Duration::MAX;
    let until = Instant::now() + ROUNDS;
    while dec == Duration::MAX || Instant::now() < until {
        for (group, parity) in groups.iter_mut().zip(&parity) {
            group[..lost * SYMBOL_LEN].copy_from_slice(&parity[..lost * SYMBOL_LEN]);
        }
        let began = Instant::now();
        for group in &mut groups {
            let mut slots: Vec<&mut [u8]> = group.chunks_exact_mut(SYMBOL_LEN).collect();
            code.decode(&mut slots, &held, &mut scratch);
        }
        dec = dec.min(began.elapsed());
        assert!(groups == data, "{k}+{r}: what was decoded is not what was encoded");
    }
    let bytes = (data.len() * k * SYMBOL_LEN) as f64;
    (bytes / enc.as_secs_f64() / 1e6, bytes / dec.as_secs_f64() / 1e6)
}

fn best(mut f: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    let until = Instant::now() + ROUNDS;
    while best == Duration::MAX || Instant::now() < until {
        let began = Instant::now();
        f();
        best = best.min(began.elapsed());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_that_of_a_code_that_gives_the_data_back() {
        let (enc_mb_s, dec_mb_s) = speeds(Rs8::default(), 64, 10);
        assert!(enc_mb_s > 1.0 && dec_mb_s > 1.0, "{enc_mb_s} {dec_mb_s}");
    }
}
