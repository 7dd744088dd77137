//! Systematic Cauchy Reed-Solomon over GF(2^8): the code of every group.
//!
//! In: the data symbols of a group, or k slots that hold any k of its symbols. Out: parity symbols, or the data. A slot
//! whose data symbol is missing holds a parity symbol instead, so a group in flight never needs more memory than its
//! data, and decoding happens in place.

use super::field::{INVERSE, logarithm, power};
use super::kernel::Kernel;

/// Symbols a group can have, data and parity: the elements of the field.
pub const SYMBOLS_MAX: usize = 256;

/// Memory that decoding reuses from group to group. It grows to the largest group seen and stays.
#[derive(Debug, Default)]
pub struct Scratch {
    syndromes: Vec<u8>,
    matrix: Vec<u8>,
}

/// The code: which kernel it runs on is its only state.
#[derive(Clone, Copy, Debug)]
pub struct Rs8 {
    kernel: Kernel,
}

impl Default for Rs8 {
    fn default() -> Self {
        Self::new(Kernel::best())
    }
}

impl Rs8 {
    /// The code on this kernel.
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel }
    }

    /// The kernel it runs on.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Writes the parity symbols with these numbers (k and above) into `out`, sixteen at a time at most.
    pub fn encode(&self, data: &[&[u8]], numbers: &[u8], out: &mut [&mut [u8]]) {
        const ROWS: usize = 16;
        let k = data.len();
        assert!((1..SYMBOLS_MAX).contains(&k), "{k} data symbols: a group has 1 to 255");
        assert_eq!(numbers.len(), out.len(), "one output for each parity symbol");
        let mut matrix = [0; ROWS * SYMBOLS_MAX];
        for (numbers, out) in numbers.chunks(ROWS).zip(out.chunks_mut(ROWS)) {
            for (number, row) in numbers.iter().zip(matrix.chunks_exact_mut(k)) {
                assert!(usize::from(*number) >= k, "symbol {number} of a group of {k} is data");
                for (i, c) in row.iter_mut().enumerate() {
                    *c = INVERSE[usize::from(number ^ i as u8)];
                }
            }
            self.kernel.multiply(&matrix[..numbers.len() * k], data, out, false);
        }
    }

    /// Puts the data of a group in place. `slots` are its k places; slot i holds symbol `numbers[i]`, which is i itself
    /// or the number of a parity symbol, each at most once. Afterwards slot i holds data symbol i.
    ///
    /// Cost: missing * k products a byte; the inverse of the matrix is missing^2 lookups.
    pub fn decode(&self, slots: &mut [&mut [u8]], numbers: &[u8], scratch: &mut Scratch) {
        let k = slots.len();
        assert!((1..SYMBOLS_MAX).contains(&k), "{k} data symbols: a group has 1 to 255");
        assert_eq!(numbers.len(), k, "one number for each slot");
        let mut missing = [0u8; SYMBOLS_MAX];
        let mut parity = [0u8; SYMBOLS_MAX];
        let mut lost = 0;
        for (i, number) in numbers.iter().enumerate().filter(|(i, n)| *i != usize::from(**n)) {
            assert!(usize::from(*number) >= k, "slot {i} of {k} holds data symbol {number}");
            (missing[lost], parity[lost]) = (i as u8, *number);
            lost += 1;
        }
        if lost == 0 {
            return;
        }
        let (missing, parity) = (&missing[..lost], &parity[..lost]);
        let bytes = slots[0].len();
        scratch.syndromes.clear();
        scratch.syndromes.resize(lost * bytes, 0);
        scratch.matrix.clear();

        // What the parity symbols say about the missing ones alone: their own bytes, less the share of the known.
        let mut known: [&[u8]; SYMBOLS_MAX] = [&[]; SYMBOLS_MAX];
        let mut knowns = 0;
        for (i, slot) in slots.iter().enumerate() {
            if usize::from(numbers[i]) == i {
                known[knowns] = slot;
                knowns += 1;
            }
        }
        let mut syndromes = no_slices();
        for ((syndrome, into), i) in
            scratch.syndromes.chunks_exact_mut(bytes).zip(&mut syndromes).zip(missing)
        {
            syndrome.copy_from_slice(slots[usize::from(*i)]);
            *into = syndrome;
        }
        for s in parity {
            let present = (0..k).filter(|i| usize::from(numbers[*i]) == *i);
            scratch.matrix.extend(present.map(|i| INVERSE[usize::from(*s ^ i as u8)]));
        }
        self.kernel.multiply(&scratch.matrix, &known[..knowns], &mut syndromes[..lost], true);

        invert(parity, missing, &mut scratch.matrix);
        let mut inputs: [&[u8]; SYMBOLS_MAX] = [&[]; SYMBOLS_MAX];
        for (input, syndrome) in inputs.iter_mut().zip(scratch.syndromes.chunks_exact(bytes)) {
            *input = syndrome;
        }
        let mut outputs = no_slices();
        let holes = slots.iter_mut().zip(numbers).enumerate();
        let holes = holes.filter(|(i, (_, number))| *i != usize::from(**number));
        for (output, (_, (slot, _))) in outputs.iter_mut().zip(holes) {
            *output = slot;
        }
        self.kernel.multiply(&scratch.matrix, &inputs[..lost], &mut outputs[..lost], false);
    }
}

/// Places for the slices a kernel writes to, on the stack.
fn no_slices<'a>() -> [&'a mut [u8]; SYMBOLS_MAX] {
    std::array::from_fn(|_| Default::default())
}

/// The inverse of the Cauchy matrix `1 / (x + y)` with a row for each of `xs` and a column for each of `ys`, row-major.
///
/// Element (i, j) of the inverse is the product over k of (x_j + y_k)(x_k + y_i), divided by (x_j + y_i), by the product
/// over k other than j of (x_j + x_k) and by the product over k other than i of (y_i + y_k). In this field plus and minus
/// are one. Source: Knuth, The Art of Computer Programming, volume 1, section 1.2.3, exercise 41.
fn invert(xs: &[u8], ys: &[u8], inverse: &mut Vec<u8>) {
    /// Logarithm of the product over `others` of (own + other); `own` itself is passed over.
    fn product(own: u8, others: &[u8]) -> u32 {
        others.iter().filter(|other| **other != own).map(|other| logarithm(own ^ other)).sum()
    }
    let mut of_x = [0u32; SYMBOLS_MAX];
    for (sum, x) in of_x.iter_mut().zip(xs) {
        // Dividing by an element is multiplying with the 254th power of it; sums stay below 2^25.
        *sum = product(*x, ys) + 254 * product(*x, xs);
    }
    inverse.clear();
    for y in ys {
        let of_y = product(*y, xs) + 254 * product(*y, ys);
        let row = xs.iter().zip(&of_x).map(|(x, of_x)| power(of_x + of_y + 254 * logarithm(x ^ y)));
        inverse.extend(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fec::Backend;
    use crate::fec::field::multiply;
    use proptest::prelude::*;

    /// Random symbols of one group from a seed.
    fn group(seed: u64, k: usize, bytes: usize) -> Vec<Vec<u8>> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        (0..k).map(|_| (0..bytes).map(|_| next()).collect()).collect()
    }

    fn parity(code: Rs8, data: &[Vec<u8>], numbers: &[u8]) -> Vec<Vec<u8>> {
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut out = vec![vec![0xa5; data[0].len()]; numbers.len()];
        let mut slices: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        code.encode(&data, numbers, &mut slices);
        out
    }

    /// Takes away `lost` data symbols and fills their slots with parity; true when decoding restores the data.
    fn survives(code: Rs8, data: &[Vec<u8>], lost: &[usize], numbers: &[u8]) -> bool {
        let rows = parity(code, data, numbers);
        let mut slots = data.to_vec();
        let mut held: Vec<u8> = (0..data.len() as u8).collect();
        for ((at, row), number) in lost.iter().zip(rows).zip(numbers) {
            slots[*at] = row;
            held[*at] = *number;
        }
        let mut slices: Vec<&mut [u8]> = slots.iter_mut().map(Vec::as_mut_slice).collect();
        code.decode(&mut slices, &held, &mut Scratch::default());
        slots == data
    }

    #[test]
    fn parity_is_the_sum_of_data_divided_by_the_sum_of_the_numbers() {
        let data = group(7, 3, 5);
        let row = &parity(Rs8::default(), &data, &[0xc8])[0];
        for at in 0..5 {
            let sum = (0..3u8).fold(0, |sum, i| {
                sum ^ multiply(INVERSE[usize::from(0xc8 ^ i)], data[usize::from(i)][at])
            });
            assert_eq!(row[at], sum);
        }
    }

    #[test]
    fn a_group_survives_the_loss_of_all_its_data() {
        for k in [1usize, 2, 64, 128] {
            let numbers: Vec<u8> = (0..k).map(|j| (255 - j) as u8).collect();
            let lost: Vec<usize> = (0..k).collect();
            assert!(survives(Rs8::default(), &group(k as u64, k, 100), &lost, &numbers), "k {k}");
        }
    }

    #[test]
    fn the_largest_group_survives_with_its_only_parity_symbol() {
        assert!(survives(Rs8::default(), &group(3, 255, 64), &[254], &[255]));
    }

    #[test]
    fn the_portable_kernel_is_always_there_and_the_best_one_comes_first() {
        let kernels: Vec<Kernel> = Kernel::all().collect();
        assert_eq!(kernels[0], Kernel::best());
        assert_eq!(kernels.last().map(|kernel| kernel.backend()), Some(Backend::Portable));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn every_kernel_makes_the_same_parity(
            seed: u64, k in 1usize..=128, rows in 1usize..=40, bytes in 1usize..300,
        ) {
            let data = group(seed, k, bytes);
            let numbers: Vec<u8> = (0..rows).map(|j| (k + j) as u8).collect();
            let portable = Kernel::of(Backend::Portable).expect("it is everywhere");
            let expected = parity(Rs8::new(portable), &data, &numbers);
            for kernel in Kernel::all() {
                let got = parity(Rs8::new(kernel), &data, &numbers);
                prop_assert!(got == expected, "{}", kernel.backend().name());
            }
        }

        #[test]
        fn any_k_symbols_of_a_group_give_its_data_back(
            seed: u64, k in 1usize..=128, bytes in prop_oneof![Just(1152usize), Just(1024), 1usize..200],
            order in any::<prop::sample::Index>(), losses in any::<prop::sample::Index>(),
        ) {
            let data = group(seed, k, bytes);
            // A pseudo-random choice of lost data and of parity numbers, both in any order.
            let mut places: Vec<usize> = (0..k).collect();
            let mut numbers: Vec<u8> = (k..256).map(|s| s as u8).collect();
            let mut state = seed ^ order.index(1 << 30) as u64;
            let mut shuffle = |len: usize, swap: &mut dyn FnMut(usize, usize)| {
                for i in (1..len).rev() {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    swap(i, (state >> 33) as usize % (i + 1));
                }
            };
            shuffle(places.len(), &mut |a, b| places.swap(a, b));
            shuffle(numbers.len(), &mut |a, b| numbers.swap(a, b));
            let lost = losses.index(k + 1);
            for kernel in Kernel::all() {
                let code = Rs8::new(kernel);
                let back = survives(code, &data, &places[..lost], &numbers[..lost]);
                prop_assert!(back, "{} lost {lost} of {k}", kernel.backend().name());
            }
        }
    }
}
