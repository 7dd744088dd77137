//! Parity on demand: rows of a group are made a few at a time, when a link asks for the next one.
//!
//! In: the data of a group and a symbol number. Out: that parity symbol. Making four at once costs little more than one
//! (the data is read once), and the next three asked for are usually those; making all of them first would stall the pacer
//! (reference/relay.md B4, lesson 3). One cache serves all peers an object is sent to.

use super::shape::Shape;
use crate::fec::{Rs8, SYMBOLS_MAX};

/// Rows made together.
const ROWS: usize = 4;

/// The rows made last of each group of one object.
#[derive(Debug, Default)]
pub struct Rows {
    /// First row of each group's batch; 0 where there is none, since row 0 is data.
    first: Vec<u8>,
    bytes: Vec<u8>,
    symbol_len: usize,
}

impl Rows {
    /// Bytes it takes for an object of this shape once parity was asked for.
    pub fn cost_bytes(shape: &Shape) -> usize {
        shape.groups() * (ROWS * shape.symbol_len() + 1)
    }

    /// Parity symbol `number` of a group. `data` are the group's k data symbols, asked for only when rows are made.
    pub fn get<'a>(
        &mut self,
        groups: usize,
        group: u16,
        number: u8,
        symbol_len: usize,
        code: Rs8,
        k: usize,
        data: impl Fn(usize) -> &'a [u8],
    ) -> &[u8] {
        if self.first.is_empty() {
            self.symbol_len = symbol_len;
            self.first = vec![0; groups];
            self.bytes = vec![0; groups * ROWS * symbol_len];
        }
        let at = usize::from(group);
        let batch = &mut self.bytes[at * ROWS * symbol_len..][..ROWS * symbol_len];
        let first = self.first[at];
        let has = first != 0 && number >= first && usize::from(number - first) < ROWS;
        let first = if has { first } else { number };
        if !has {
            let mut slices: [&[u8]; SYMBOLS_MAX] = [&[]; SYMBOLS_MAX];
            for (i, slice) in slices[..k].iter_mut().enumerate() {
                *slice = data(i);
            }
            let numbers: [u8; ROWS] = std::array::from_fn(|i| number.saturating_add(i as u8));
            let count = ROWS.min(SYMBOLS_MAX - usize::from(number));
            let mut out: [&mut [u8]; ROWS] = std::array::from_fn(|_| Default::default());
            for (out, row) in out.iter_mut().zip(batch.chunks_exact_mut(symbol_len)) {
                *out = row;
            }
            code.encode(&slices[..k], &numbers[..count], &mut out[..count]);
            self.first[at] = number;
        }
        &batch[usize::from(number - first) * symbol_len..][..symbol_len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_if_each_had_been_made_alone_whatever_the_order() {
        let data: Vec<Vec<u8>> = (0..2 * 5).map(|i| vec![i as u8 + 1; 40]).collect();
        let mut rows = Rows::default();
        for (group, number) in
            [(0, 5), (0, 6), (1, 9), (0, 8), (0, 9), (0, 5), (1, 255), (1, 253), (1, 254), (1, 9)]
        {
            let of = |i: usize| data[usize::from(group) * 5 + i].as_slice();
            let got = rows.get(2, group, number, 40, Rs8::default(), 5, of).to_vec();
            let slices: Vec<&[u8]> = (0..5).map(of).collect();
            let mut expected = vec![0; 40];
            Rs8::default().encode(&slices, &[number], &mut [&mut expected]);
            assert_eq!(got, expected, "group {group}, row {number}");
        }
    }
}
