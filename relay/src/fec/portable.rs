//! The kernel for every processor, and for the last bytes of the others: nibble tables, one byte at a time.
//!
//! In and out: as [`super::Kernel::multiply`], from byte `from` on.

use super::field::NIBBLES;

pub fn multiply(
    matrix: &[u8],
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    accumulate: bool,
    from: usize,
) {
    for (j, output) in outputs.iter_mut().enumerate() {
        let output = &mut output[from..];
        if output.is_empty() {
            return;
        }
        if !accumulate {
            output.fill(0);
        }
        for (c, input) in matrix[j * inputs.len()..].iter().zip(inputs) {
            let (low, high) = NIBBLES[usize::from(*c)].split_at(16);
            for (sum, x) in output.iter_mut().zip(&input[from..]) {
                *sum ^= low[usize::from(x & 15)] ^ high[usize::from(x >> 4)];
            }
        }
    }
}
