//! The shape of an object: how its bytes are cut into symbols and its symbols into groups.
//!
//! In: a length, a group size, a symbol size. Out: where symbol i lies. Symbol i belongs to group i mod G, so that
//! neighbours on the wire are in different groups and a burst of losses is shared by all of them.

use crate::origin::{parity_below, proof_len};
use crate::wire::{Data, SYMBOL_LEN, flags};

/// Bytes of a symbol that carries the origin's proof beside it.
pub const PROVED_SYMBOL_LEN: usize = 1_024;
/// Data symbols of a group in objects up to [`SMALL_BYTES_MAX`].
pub const K_SMALL: u8 = 64;
/// Data symbols of a group in larger objects.
pub const K_LARGE: u8 = 128;
/// Objects up to here use the small group. Source: reference/relay.md B5, choice at 1 % to 20 % loss.
pub const SMALL_BYTES_MAX: u32 = 4 << 20;

/// How an object is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    len: u32,
    symbol_len: u16,
    symbols: u32,
    groups: u32,
    proved: bool,
}

impl Shape {
    /// The shape a sender gives to an object of `len` bytes.
    pub fn of(len: u32, proved: bool) -> Self {
        let k = if len <= SMALL_BYTES_MAX { K_SMALL } else { K_LARGE };
        let proved = proved && len as usize > PROVED_SYMBOL_LEN;
        Self::with(len, k, proved).expect("64 MB are fewer than 65,536 groups")
    }

    /// The shape that a symbol's packet names; `None` when it is none, or the packet does not fit it.
    pub fn of_packet(data: &Data<'_>) -> Option<Self> {
        let proved = data.fields.flags & flags::ORIGIN_PROOF != 0;
        let shape = Self::with(data.fields.object_len, data.fields.k, proved)?;
        let fits = data.fields.k <= K_LARGE && u32::from(data.fields.group) < shape.groups;
        fits.then_some(shape)
    }

    fn with(len: u32, k: u8, proved: bool) -> Option<Self> {
        let full = if proved { PROVED_SYMBOL_LEN } else { SYMBOL_LEN };
        let symbol_len = full.min(len as usize) as u16;
        if symbol_len == 0 || k == 0 || proved && len as usize <= full {
            return None;
        }
        let symbols = len.div_ceil(u32::from(symbol_len));
        let groups = symbols.div_ceil(u32::from(k));
        (groups <= 1 << 16).then_some(Self { len, symbol_len, symbols, groups, proved })
    }

    /// Whether each symbol carries the origin's proof; only objects of several symbols do.
    pub fn is_proved(&self) -> bool {
        self.proved
    }

    /// Bytes beside the symbols of this group.
    pub fn proof_len(&self, group: u16) -> usize {
        if self.proved { proof_len(self.k(group)) } else { 0 }
    }

    /// Parity symbols that this group can have.
    pub fn parity_max(&self, group: u16) -> usize {
        let k = self.k(group);
        if self.proved { parity_below(k) } else { 256 - k }
    }

    /// Bytes of the object.
    pub fn object_len(&self) -> u32 {
        self.len
    }

    /// Bytes of a symbol. An object of one symbol has a symbol of its own length; the last of several is padded with zeros.
    pub fn symbol_len(&self) -> usize {
        usize::from(self.symbol_len)
    }

    /// Data symbols of the object.
    pub fn symbols(&self) -> usize {
        self.symbols as usize
    }

    /// Groups of the object.
    pub fn groups(&self) -> usize {
        self.groups as usize
    }

    /// Data symbols of this group.
    pub fn k(&self, group: u16) -> usize {
        (self.symbols - u32::from(group)).div_ceil(self.groups) as usize
    }

    /// Data symbols of the largest group: what packets carry.
    pub fn k_max(&self) -> u8 {
        self.k(0) as u8
    }

    /// The group and the number in it of data symbol `index`.
    pub fn place(&self, index: usize) -> (u16, u8) {
        ((index % self.groups()) as u16, (index / self.groups()) as u8)
    }

    /// The data symbol at this place.
    pub fn index(&self, group: u16, number: u8) -> usize {
        usize::from(group) + usize::from(number) * self.groups()
    }

    /// Bytes of all symbols, padding included.
    pub fn padded_len(&self) -> usize {
        self.symbols() * self.symbol_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_megabyte_is_fourteen_groups_of_at_most_sixty_four() {
        let shape = Shape::of(1_000_000, false);
        assert_eq!((shape.symbols(), shape.groups()), (869, 14));
        assert_eq!((shape.k(0), shape.k(13)), (63, 62));
    }

    #[test]
    fn a_small_object_is_one_symbol_of_its_own_length() {
        let shape = Shape::of(120, false);
        assert_eq!((shape.symbols(), shape.symbol_len(), shape.k_max()), (1, 120, 1));
    }

    proptest! {
        #[test]
        fn every_symbol_has_one_place_and_the_packet_names_the_same_shape(
            len in 1u32..20_000_000, proved: bool,
        ) {
            let shape = Shape::of(len, proved);
            prop_assert_eq!(Shape::with(len, shape.k_max(), shape.is_proved()), Some(shape));
            let sum: usize = (0..shape.groups()).map(|group| shape.k(group as u16)).sum();
            prop_assert_eq!(sum, shape.symbols());
            let limit = if len <= SMALL_BYTES_MAX { K_SMALL } else { K_LARGE };
            prop_assert!(shape.k_max() <= limit);
            for index in (0..shape.symbols()).step_by(97) {
                let (group, number) = shape.place(index);
                prop_assert!(usize::from(number) < shape.k(group));
                prop_assert_eq!(shape.index(group, number), index);
            }
        }
    }
}
