//! Reed-Solomon over GF(2^16): one code over thousands of symbols, by the crate `reed-solomon-simd`.
//!
//! In: the data symbols of a group of up to 32,768. Out: parity symbols, or the data. A large group needs the least parity: at 20 %
//! loss 26 % where groups of 128 take 45 % (`docs/bfr.md`, section 9). It pays with ten times the work and gives nothing back
//! before everything can be decoded, so it is for what is sent one way, when nobody can ask for more or say stop.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

/// The code. It keeps the library's tables and work space from call to call.
#[derive(Default)]
pub struct Rs16 {
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
}

impl std::fmt::Debug for Rs16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rs16").finish_non_exhaustive()
    }
}

impl Rs16 {
    /// Writes `out.len()` parity symbols. All symbols have one even length.
    ///
    /// # Panics
    /// If there are more symbols than the code has, or their lengths differ.
    pub fn encode(&mut self, data: &[&[u8]], out: &mut [&mut [u8]]) {
        let (k, r, len) = (data.len(), out.len(), data[0].len());
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset(k, r, len).expect("the code has so many symbols of even length");
                encoder
            }
            none => none.insert(
                ReedSolomonEncoder::new(k, r, len)
                    .expect("the code has so many symbols of even length"),
            ),
        };
        for symbol in data {
            encoder.add_original_shard(symbol).expect("symbols have one length");
        }
        let parity = encoder.encode().expect("every data symbol was given");
        for (out, parity) in out.iter_mut().zip(parity.recovery_iter()) {
            out.copy_from_slice(parity);
        }
    }

    /// Puts the data in place. Slot i holds symbol `numbers[i]`: i itself, or k and more for parity, each once; `parity` is how
    /// many parity symbols were made.
    ///
    /// # Panics
    /// If the numbers are no such numbers.
    pub fn decode(&mut self, slots: &mut [&mut [u8]], numbers: &[u16], parity: usize) {
        let (k, len) = (slots.len(), slots[0].len());
        assert_eq!(numbers.len(), k, "one number for each slot");
        if numbers.iter().enumerate().all(|(i, number)| i == usize::from(*number)) {
            return;
        }
        let decoder = match &mut self.decoder {
            Some(decoder) => {
                decoder.reset(k, parity, len).expect("the code has so many symbols");
                decoder
            }
            none => none.insert(
                ReedSolomonDecoder::new(k, parity, len).expect("the code has so many symbols"),
            ),
        };
        for (i, (slot, number)) in slots.iter().zip(numbers).enumerate() {
            let number = usize::from(*number);
            if number < k {
                assert_eq!(number, i, "slot {i} of {k} holds data symbol {number}");
                decoder.add_original_shard(i, slot).expect("a data symbol, once");
            } else {
                decoder.add_recovery_shard(number - k, slot).expect("a parity symbol, once");
            }
        }
        let restored = decoder.decode().expect("k symbols are enough");
        for (i, symbol) in restored.restored_original_iter() {
            slots[i].copy_from_slice(symbol);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_k_symbols_give_the_data_back(
            k in 1usize..400, r in 1usize..200, half in 1usize..40, seed: u64,
        ) {
            let mut state = seed | 1;
            let mut next = |bound: usize| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize % bound
            };
            let data: Vec<Vec<u8>> =
                (0..k).map(|_| (0..2 * half).map(|_| next(256) as u8).collect()).collect();
            let mut code = Rs16::default();
            // Twice, so that the second group meets what the first one left behind.
            for _ in 0..2 {
                let mut parity = vec![vec![0; 2 * half]; r];
                let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
                let mut out: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
                code.encode(&slices, &mut out);
                let mut slots = data.clone();
                let mut numbers: Vec<u16> = (0..k as u16).collect();
                for (lost, parity) in parity.iter().enumerate().take(k) {
                    let at = next(k);
                    if usize::from(numbers[at]) == at {
                        slots[at].clone_from(parity);
                        numbers[at] = (k + lost) as u16;
                    }
                }
                let mut places: Vec<&mut [u8]> = slots.iter_mut().map(Vec::as_mut_slice).collect();
                code.decode(&mut places, &numbers, r);
                prop_assert!(slots == data);
            }
        }
    }
}
