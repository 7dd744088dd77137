//! Memory for the bytes of transactions in flight: one region, taken at start, in blocks of powers of two.
//!
//! A buddy allocator, because transactions of 200 bytes and of many megabytes lie side by side and none may wander. Giving
//! and taking cost at most one step an order (about twenty); a block wastes less than half of itself. What has no room is
//! refused, and the tile stops taking transactions.

/// Smallest block, bytes.
const UNIT_BYTES: usize = 256;
/// Number of orders: the largest block is `UNIT_BYTES << (ORDERS - 1)`, 4 GiB.
const ORDERS: usize = 25;
const NONE: u32 = u32::MAX;
/// No block begins here, or the one that does is in use.
const IN_USE: u8 = u8::MAX;

/// Some bytes in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Span {
    unit: u32,
    len: u32,
}

impl Span {
    /// Bytes asked for.
    pub fn len(self) -> usize {
        self.len as usize
    }

    fn order(self) -> usize {
        order_of(self.len as usize)
    }
}

fn order_of(len: usize) -> usize {
    len.div_ceil(UNIT_BYTES).max(1).next_power_of_two().trailing_zeros() as usize
}

/// The region and its free blocks.
#[derive(Debug)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    /// Order of the free block that begins at a unit.
    free_order: Vec<u8>,
    next: Vec<u32>,
    prev: Vec<u32>,
    heads: [u32; ORDERS],
    used_bytes: usize,
}

impl Arena {
    /// Takes a region of at least `bytes`.
    pub fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT_BYTES).max(1).next_power_of_two();
        let top = units.trailing_zeros() as usize;
        assert!(top < ORDERS, "an arena of {bytes} bytes is above the limit of 4 GiB");
        let mut arena = Self {
            bytes: vec![0; units * UNIT_BYTES],
            free_order: vec![IN_USE; units],
            next: vec![NONE; units],
            prev: vec![NONE; units],
            heads: [NONE; ORDERS],
            used_bytes: 0,
        };
        arena.link(0, top);
        arena
    }

    /// Bytes in blocks that are in use.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Bytes of the whole region.
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a block for `len` bytes can be had now.
    pub fn has_room(&self, len: usize) -> bool {
        let order = order_of(len);
        order < ORDERS && self.heads[order..].iter().any(|&head| head != NONE)
    }

    /// A block for `len` bytes, with old content.
    pub fn take(&mut self, len: usize) -> Option<Span> {
        let order = order_of(len);
        let mut from = (order..ORDERS).find(|&o| self.heads[o] != NONE)?;
        let unit = self.heads[from];
        self.unlink(unit, from);
        while from > order {
            from -= 1;
            self.link(unit + (1 << from), from);
        }
        self.used_bytes += UNIT_BYTES << order;
        Some(Span { unit, len: u32::try_from(len).ok()? })
    }

    /// Gives a block back.
    pub fn give(&mut self, span: Span) {
        let mut order = span.order();
        let mut unit = span.unit;
        self.used_bytes -= UNIT_BYTES << order;
        let units = self.free_order.len() as u32;
        while (1 << order) < units {
            let buddy = unit ^ (1 << order);
            if usize::from(self.free_order[buddy as usize]) != order {
                break;
            }
            self.unlink(buddy, order);
            unit = unit.min(buddy);
            order += 1;
        }
        self.link(unit, order);
    }

    /// The bytes of a block.
    #[inline]
    pub fn get(&self, span: Span) -> &[u8] {
        let at = span.unit as usize * UNIT_BYTES;
        &self.bytes[at..at + span.len as usize]
    }

    /// The bytes of a block, to be written.
    #[inline]
    pub fn get_mut(&mut self, span: Span) -> &mut [u8] {
        let at = span.unit as usize * UNIT_BYTES;
        &mut self.bytes[at..at + span.len as usize]
    }

    /// Copies the bytes of `from` that begin at `at` into `to`, all of it.
    pub fn copy_within(&mut self, from: Span, at: usize, to: Span) {
        assert!(at + to.len() <= from.len(), "a copy ends behind its block");
        let begin = from.unit as usize * UNIT_BYTES + at;
        self.bytes.copy_within(begin..begin + to.len(), to.unit as usize * UNIT_BYTES);
    }

    fn link(&mut self, unit: u32, order: usize) {
        let head = std::mem::replace(&mut self.heads[order], unit);
        self.next[unit as usize] = head;
        self.prev[unit as usize] = NONE;
        if head != NONE {
            self.prev[head as usize] = unit;
        }
        self.free_order[unit as usize] = order as u8;
    }

    fn unlink(&mut self, unit: u32, order: usize) {
        let (prev, next) = (self.prev[unit as usize], self.next[unit as usize]);
        match prev {
            NONE => self.heads[order] = next,
            _ => self.next[prev as usize] = next,
        }
        if next != NONE {
            self.prev[next as usize] = prev;
        }
        self.free_order[unit as usize] = IN_USE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn blocks_never_overlap_and_all_of_them_come_back() {
        let mut arena = Arena::new(1 << 20);
        let mut rng = Rng::new(5);
        let mut held: Vec<(Span, u8)> = Vec::new();
        let mut refused = 0;
        for round in 0..20_000_u32 {
            if rng.chance(11, 20) {
                let order = rng.below(16);
                let len = 1 + rng.index(1 << order);
                assert_eq!(arena.has_room(len), {
                    let took = arena.take(len);
                    if let Some(span) = took {
                        assert_eq!(span.len(), len);
                        arena.get_mut(span).fill(round as u8);
                        held.push((span, round as u8));
                    }
                    took.is_some()
                });
                refused += u32::from(held.is_empty());
            } else if !held.is_empty() {
                let (span, mark) = held.swap_remove(rng.index(held.len()));
                assert!(arena.get(span).iter().all(|&b| b == mark), "somebody else wrote here");
                arena.give(span);
            }
        }
        assert_eq!(refused, 0);
        for (span, _) in held.drain(..) {
            arena.give(span);
        }
        assert_eq!(arena.used_bytes(), 0);
        assert!(arena.take(1 << 20).is_some(), "the region is whole again");
        assert!(arena.take(1).is_none(), "and now it is full");
    }
}
