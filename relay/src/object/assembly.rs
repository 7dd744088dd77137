//! An object in the making: symbols come in, in any order, and decoded groups stay.
//!
//! Memory is the object's own size and no more: a parity symbol waits in the place of a data symbol that is missing, and
//! moves on when that one arrives after all. What is in place is hashed in passing, sixteen symbols at a time.

use super::head::{HEAD_LEN, Head, hash_leaves, hash_object};
use super::shape::Shape;
use crate::fec::{Rs8, SYMBOLS_MAX, Scratch};
use crate::wire::Class;
use sigbatch::Hasher;

/// Symbols that wait to be hashed together: the lanes of the widest kernel.
const HASH_TOGETHER: usize = 16;
/// A slot that holds nothing.
const EMPTY: u16 = u16::MAX;

/// What a symbol did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// Nothing: it, or its whole group, was here before.
    Known,
    /// It is kept.
    Held,
    /// With it, its group is complete.
    Decoded,
}

/// What is there of one group.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    seen: [u64; 4],
    held: u16,
    done: bool,
}

/// An object in the making.
#[derive(Debug)]
pub struct Assembly {
    shape: Shape,
    bytes: Vec<u8>,
    /// What the slot of each data symbol holds: a symbol's number, or [`EMPTY`].
    slots: Vec<u16>,
    groups: Vec<Group>,
    groups_done: usize,
    symbols_held: usize,
    leaves: Vec<[u8; 32]>,
    unhashed: Vec<u32>,
    hasher: Hasher,
}

impl Assembly {
    /// Bytes an assembly of this shape takes.
    pub fn cost_bytes(shape: &Shape) -> usize {
        shape.padded_len()
            + shape.symbols() * (size_of::<u16>() + size_of::<[u8; 32]>())
            + shape.groups() * size_of::<Group>()
    }

    /// An assembly with nothing in it.
    pub fn new(shape: Shape, hasher: Hasher) -> Self {
        Self {
            shape,
            bytes: vec![0; shape.padded_len()],
            slots: vec![EMPTY; shape.symbols()],
            groups: vec![Group::default(); shape.groups()],
            groups_done: 0,
            symbols_held: 0,
            leaves: vec![[0; 32]; shape.symbols()],
            unhashed: Vec::with_capacity(HASH_TOGETHER + SYMBOLS_MAX),
            hasher,
        }
    }

    /// Whether every group is decoded.
    pub fn is_whole(&self) -> bool {
        self.groups_done == self.groups.len()
    }

    /// Symbols that were of use.
    pub fn symbols_held(&self) -> usize {
        self.symbols_held
    }

    /// Whether this group is decoded.
    pub fn is_done(&self, group: u16) -> bool {
        self.groups[usize::from(group)].done
    }

    /// Symbols this group still needs.
    pub fn need(&self, group: u16) -> usize {
        let state = &self.groups[usize::from(group)];
        if state.done { 0 } else { self.shape.k(group) - usize::from(state.held) }
    }

    /// Data symbol `index`, when it is in place.
    pub fn symbol(&self, index: usize) -> Option<&[u8]> {
        let (_, number) = self.shape.place(index);
        let len = self.shape.symbol_len();
        (self.slots[index] == u16::from(number)).then(|| &self.bytes[index * len..][..len])
    }

    /// A parity symbol that waits for its group to be decoded.
    pub fn parity(&self, group: u16, number: u8) -> Option<&[u8]> {
        let len = self.shape.symbol_len();
        let index = (0..self.shape.k(group))
            .map(|i| self.shape.index(group, i as u8))
            .find(|index| self.slots[*index] == u16::from(number))?;
        Some(&self.bytes[index * len..][..len])
    }

    /// Takes a symbol.
    ///
    /// # Panics
    /// If the place or the length do not fit the shape.
    pub fn put(
        &mut self,
        group: u16,
        number: u8,
        payload: &[u8],
        code: Rs8,
        scratch: &mut Scratch,
    ) -> Put {
        let k = self.shape.k(group);
        assert_eq!(payload.len(), self.shape.symbol_len(), "a symbol of another length");
        let state = &mut self.groups[usize::from(group)];
        let (word, bit) = (usize::from(number / 64), 1u64 << (number % 64));
        if state.done || state.seen[word] & bit != 0 {
            return Put::Known;
        }
        state.seen[word] |= bit;
        state.held += 1;
        let complete = usize::from(state.held) == k;
        state.done = complete;
        self.symbols_held += 1;

        let slot = if usize::from(number) < k {
            let own = self.shape.index(group, number);
            if self.slots[own] != EMPTY {
                self.move_on(group, own);
            }
            self.unhashed.push(own as u32);
            own
        } else {
            self.empty_slot(group)
        };
        self.slots[slot] = u16::from(number);
        let len = self.shape.symbol_len();
        self.bytes[slot * len..][..len].copy_from_slice(payload);
        if complete {
            self.decode(group, code, scratch);
            self.groups_done += 1;
        }
        if self.unhashed.len() >= HASH_TOGETHER {
            self.hash_pending();
        }
        if complete { Put::Decoded } else { Put::Held }
    }

    /// A slot of the group that holds nothing, the last one first: in full mode data fills them from the front.
    fn empty_slot(&self, group: u16) -> usize {
        (0..self.shape.k(group))
            .rev()
            .map(|i| self.shape.index(group, i as u8))
            .find(|index| self.slots[*index] == EMPTY)
            .expect("a group with fewer than k symbols has an empty slot")
    }

    /// Moves the parity symbol that sits in a data symbol's slot to another one.
    fn move_on(&mut self, group: u16, from: usize) {
        let to = self.empty_slot(group);
        let len = self.shape.symbol_len();
        self.bytes.copy_within(from * len..(from + 1) * len, to * len);
        self.slots[to] = self.slots[from];
    }

    fn decode(&mut self, group: u16, code: Rs8, scratch: &mut Scratch) {
        let k = self.shape.k(group);
        let mut numbers = [0u8; SYMBOLS_MAX];
        for (i, number) in numbers[..k].iter_mut().enumerate() {
            let index = self.shape.index(group, i as u8);
            *number = self.slots[index] as u8;
            if usize::from(*number) != i {
                self.unhashed.push(index as u32);
                self.slots[index] = i as u16;
            }
        }
        let symbols = self.bytes.chunks_exact_mut(self.shape.symbol_len());
        let own = symbols.skip(usize::from(group)).step_by(self.shape.groups());
        let mut slots: [&mut [u8]; SYMBOLS_MAX] = std::array::from_fn(|_| Default::default());
        for (slot, symbol) in slots.iter_mut().zip(own) {
            *slot = symbol;
        }
        code.decode(&mut slots[..k], &numbers[..k], scratch);
    }

    fn hash_pending(&mut self) {
        let len = self.shape.symbol_len();
        for chunk in self.unhashed.chunks(HASH_TOGETHER) {
            let mut hashes = [[0; 32]; HASH_TOGETHER];
            let hashes = &mut hashes[..chunk.len()];
            let symbol = |i: usize| {
                let index = chunk[i] as usize;
                (index, &self.bytes[index * len..][..len])
            };
            hash_leaves(&self.hasher, symbol, hashes);
            for (index, hash) in chunk.iter().zip(hashes) {
                self.leaves[*index as usize] = *hash;
            }
        }
        self.unhashed.clear();
    }

    /// Ends the assembly: the head, the payload, and the hash that the symbols have. `None` when there is no head.
    ///
    /// # Panics
    /// If a group is missing.
    pub fn finish(mut self, class: Class) -> Option<(Head, Vec<u8>, [u8; 32])> {
        assert!(self.is_whole(), "an object was finished with groups missing");
        self.hash_pending();
        let hash = hash_object(class, &self.shape, &self.leaves);
        let head = Head::read(&self.bytes)?;
        self.bytes.truncate(self.shape.object_len() as usize);
        if self.bytes.len() < HEAD_LEN {
            return None;
        }
        Some((head, self.bytes, hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::content::Content;
    use crate::object::head::Form;
    use proptest::prelude::*;

    fn content(len: usize) -> (Content, [u8; 32], Vec<u8>) {
        let payload: Vec<u8> = (0..len).map(|i| ((i * i) >> 3) as u8).collect();
        let (content, hash) = Content::cut(
            Class::Opaque,
            Form::Plain,
            len as u32,
            payload.clone().into(),
            0,
            false,
            &Hasher::new(),
        );
        (content, hash, payload)
    }

    fn symbol(content: &Content, group: u16, number: u8) -> Vec<u8> {
        let shape = content.shape();
        let k = shape.k(group);
        if usize::from(number) < k {
            return content.symbol(shape.index(group, number)).to_vec();
        }
        let data: Vec<&[u8]> =
            (0..k).map(|i| content.symbol(shape.index(group, i as u8))).collect();
        let mut out = vec![0; shape.symbol_len()];
        Rs8::default().encode(&data, &[number], &mut [&mut out]);
        out
    }

    #[test]
    fn a_symbol_that_comes_twice_is_known_and_a_late_one_too() {
        let (content, _, _) = content(2_000);
        let mut assembly = Assembly::new(*content.shape(), Hasher::new());
        let mut scratch = Scratch::default();
        let mut put = |number| {
            let bytes = symbol(&content, 0, number);
            assembly.put(0, number, &bytes, Rs8::default(), &mut scratch)
        };
        assert_eq!(
            [put(1), put(1), put(7), put(0)],
            [Put::Held, Put::Known, Put::Decoded, Put::Known]
        );
        assert_eq!(assembly.symbol(0), Some(content.symbol(0)));
        assert!(assembly.is_whole());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_k_symbols_of_each_group_in_any_order_make_the_object(
            len in 1usize..200_000, seed: u64, parity_first: bool,
        ) {
            let (content, hash, payload) = content(len);
            let shape = *content.shape();
            let mut state = seed | 1;
            let mut next = move |bound: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 20) as usize % bound
            };
            let mut order: Vec<(u16, u8)> = Vec::new();
            for group in 0..shape.groups() as u16 {
                let k = shape.k(group);
                // As many parity symbols as data symbols; half of all that exist get lost.
                let mut numbers: Vec<u8> = (0..2 * k).map(|number| number as u8).collect();
                for i in (1..numbers.len()).rev() {
                    numbers.swap(i, next(i + 1));
                }
                order.extend(numbers.into_iter().take(k).map(|number| (group, number)));
            }
            for i in (1..order.len()).rev() {
                order.swap(i, next(i + 1));
            }
            if parity_first {
                order.sort_by_key(|(group, number)| usize::from(*number) < shape.k(*group));
            }
            let mut assembly = Assembly::new(shape, Hasher::new());
            let mut scratch = Scratch::default();
            for (at, (group, number)) in order.iter().enumerate() {
                prop_assert!(!assembly.is_whole(), "whole after {at} of {}", order.len());
                let need = assembly.need(*group);
                let bytes = symbol(&content, *group, *number);
                let put = assembly.put(*group, *number, &bytes, Rs8::default(), &mut scratch);
                prop_assert_eq!(put, if need == 1 { Put::Decoded } else { Put::Held });
            }
            prop_assert!(assembly.is_whole());
            let (head, bytes, got) = assembly.finish(Class::Opaque).expect("the head is there");
            prop_assert_eq!(got, hash);
            prop_assert_eq!(head.hash, hash);
            prop_assert_eq!(&bytes[HEAD_LEN..], &payload[..]);
        }
    }
}
