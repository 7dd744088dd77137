//! The origin's proofs of one object: a tree for each group, as much of it as is known here.
//!
//! In: signed roots, symbols with their ways. Out: ways for the symbols we send. The origin builds the tree of a group when its
//! first symbol is asked for, a relay when it has decoded the group and is to make parity itself.

use super::shape::Shape;
use crate::fec::{Rs8, SYMBOLS_MAX};
use crate::origin::{SignedRoot, Tree, parity_below};

/// Parity rows made together.
const ROWS: usize = 16;

/// One group's tree and the signature of its root.
#[derive(Debug)]
struct Proved {
    tree: Tree,
    signature: [u8; 64],
}

/// The proofs of one object.
#[derive(Debug)]
pub struct Proofs {
    groups: Vec<Option<Proved>>,
}

impl Proofs {
    /// No root is known.
    pub fn new(groups: usize) -> Self {
        Self { groups: (0..groups).map(|_| None).collect() }
    }

    /// Memory for the proofs of an object of this shape.
    pub fn cost_bytes(shape: &Shape) -> usize {
        let k = usize::from(shape.k_max());
        shape.groups() * (Tree::cost_bytes(k + parity_below(k)) + size_of::<Option<Proved>>())
    }

    /// Whether the root of a group is known.
    pub fn has(&self, group: u16) -> bool {
        self.groups[usize::from(group)].is_some()
    }

    /// The root of a group, where it is known.
    pub fn root(&self, group: u16) -> Option<SignedRoot> {
        let proved = self.groups[usize::from(group)].as_ref()?;
        Some(SignedRoot { root: *proved.tree.root(), signature: proved.signature })
    }

    /// Takes the signed root of a group; the first one counts.
    pub fn expect(&mut self, group: u16, leaves: usize, signed: &SignedRoot) {
        self.groups[usize::from(group)].get_or_insert_with(|| Proved {
            tree: Tree::of_root(signed.root, leaves),
            signature: signed.signature,
        });
    }

    /// Whether a symbol is the one the origin made.
    pub fn proves(&mut self, group: u16, number: u8, symbol: &[u8], way: &[u8]) -> bool {
        let proved = self.groups[usize::from(group)].as_mut();
        proved.is_some_and(|proved| proved.tree.proves(number, symbol, way))
    }

    /// Writes the proof of a symbol; false when its way is not known.
    pub fn write(&self, group: u16, number: u8, out: &mut [u8]) -> bool {
        let proved = self.groups[usize::from(group)].as_ref();
        proved.is_some_and(|proved| proved.tree.write(number, out))
    }

    /// Builds the whole tree of a group from its data. Where the root is not known, `sign` signs it. False when it is
    /// another root: then the origin's parity is not what it should be, and only what it sent can be passed on.
    pub fn build<'a>(
        &mut self,
        shape: &Shape,
        group: u16,
        code: Rs8,
        data: impl Fn(usize) -> &'a [u8],
        sign: impl FnOnce(&[u8; 32]) -> Option<[u8; 64]>,
    ) -> bool {
        let k = shape.k(group);
        let below = parity_below(k);
        let len = shape.symbol_len();
        let mut symbols: [&[u8]; SYMBOLS_MAX] = [&[]; SYMBOLS_MAX];
        for (i, symbol) in symbols[..k].iter_mut().enumerate() {
            *symbol = data(i);
        }
        let mut parity = vec![0; below * len];
        let numbers: Vec<u8> = (k..k + below).map(|number| number as u8).collect();
        for (rows, numbers) in parity.chunks_mut(ROWS * len).zip(numbers.chunks(ROWS)) {
            let mut out: [&mut [u8]; ROWS] = std::array::from_fn(|_| Default::default());
            for (out, row) in out.iter_mut().zip(rows.chunks_exact_mut(len)) {
                *out = row;
            }
            code.encode(&symbols[..k], numbers, &mut out[..numbers.len()]);
        }
        for (symbol, row) in symbols[k..].iter_mut().zip(parity.chunks_exact(len)) {
            *symbol = row;
        }
        let tree = Tree::build(symbols[..k + below].iter().copied());
        let place = &mut self.groups[usize::from(group)];
        if let Some(proved) = place {
            let same = proved.tree.root() == tree.root();
            if same {
                proved.tree = tree;
            }
            return same;
        }
        let Some(signature) = sign(tree.root()) else { return false };
        *place = Some(Proved { tree, signature });
        true
    }
}
