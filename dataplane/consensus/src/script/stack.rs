//! The two stacks, in one byte arena.
//!
//! An item is immutable and an item is a span: of one of the scripts, when it was pushed from there, or of the arena,
//! when an opcode made it. So a push copies nothing, DUP, PICK, SPLIT and SUBSTR copy 16 bytes, and items share their
//! bytes freely; only results of computations are appended to the arena. When the arena has grown well past what is
//! alive it is compacted between two opcodes, keeping shared bytes shared.
//!
//! The memory account is a number of its own and follows SV Node's `LimitedStack`: item length plus 32, over both
//! stacks, tested at each push; moves between the stacks do not change it.

use super::error::ScriptError;
use super::limits::ITEM_OVERHEAD_BYTES;

/// The arena is left alone below this size.
const COMPACT_FLOOR_BYTES: usize = 256 * 1024;

const SOURCE_SHIFT: u32 = 62;
const START_MASK: u64 = (1 << SOURCE_SHIFT) - 1;

/// Where the bytes of a span are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Source {
    Arena = 0,
    Unlocking = 1,
    Locking = 2,
    Redeem = 3,
}

/// The scripts that spans may point into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub unlocking: &'a [u8],
    pub locking: &'a [u8],
    pub redeem: &'a [u8],
}

/// One item: a source and a range of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    /// Start, with the source in the two top bits.
    place: u64,
    len: u64,
}

impl Span {
    pub const EMPTY: Span = Span { place: 0, len: 0 };

    #[inline]
    pub fn new(source: Source, start: usize, len: usize) -> Self {
        Self { place: (source as u64) << SOURCE_SHIFT | start as u64, len: len as u64 }
    }

    #[inline]
    pub fn len(self) -> usize {
        self.len as usize
    }

    #[inline]
    fn start(self) -> usize {
        (self.place & START_MASK) as usize
    }

    #[inline]
    fn is_in_arena(self) -> bool {
        self.place >> SOURCE_SHIFT == Source::Arena as u64
    }

    /// The part of this span from `start`, `len` bytes long.
    #[inline]
    pub fn part(self, start: usize, len: usize) -> Span {
        debug_assert!(start + len <= self.len());
        Span { place: self.place + start as u64, len: len as u64 }
    }
}

/// Main stack, alternative stack, the bytes of computed items, and the memory account over both stacks.
#[derive(Debug, Default)]
pub(super) struct Stack {
    main: Vec<Span>,
    alt: Vec<Span>,
    /// The stack as it was before the locking script, kept for BIP16.
    kept: Vec<Span>,
    arena: Vec<u8>,
    memory_used: u64,
    memory_limit: u64,
    compact_above: usize,
    /// Working space of the compaction.
    live: Vec<(u64, u64)>,
}

impl Stack {
    pub fn with_capacity(items: usize, bytes: usize) -> Self {
        Self {
            main: Vec::with_capacity(items),
            alt: Vec::with_capacity(items),
            kept: Vec::with_capacity(items),
            live: Vec::with_capacity(items),
            arena: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    pub fn reserved_bytes(&self) -> usize {
        let spans = self.main.capacity()
            + self.alt.capacity()
            + self.kept.capacity()
            + self.live.capacity();
        spans * size_of::<Span>() + self.arena.capacity()
    }

    /// Empties everything; keeps the memory.
    #[inline]
    pub fn reset(&mut self, memory_limit: u64) {
        self.main.clear();
        self.alt.clear();
        self.kept.clear();
        self.arena.clear();
        self.memory_used = 0;
        self.memory_limit = memory_limit;
        self.compact_above = COMPACT_FLOOR_BYTES;
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.main.len()
    }

    #[inline]
    pub fn total_items(&self) -> usize {
        self.main.len() + self.alt.len()
    }

    #[cfg(test)]
    pub fn memory_used(&self) -> u64 {
        self.memory_used
    }

    /// `Err(INVALID_STACK_OPERATION)` unless `count` items are there.
    #[inline]
    pub fn need(&self, count: usize) -> Result<(), ScriptError> {
        if self.main.len() < count { Err(ScriptError::InvalidStackOperation) } else { Ok(()) }
    }

    /// The item `depth` below the top; 1 is the top. The caller has asked [`Self::need`].
    #[inline]
    pub fn top(&self, depth: usize) -> Span {
        self.main[self.main.len() - depth]
    }

    /// The bytes of an item.
    #[inline]
    pub fn bytes<'x>(&'x self, sources: &Sources<'x>, span: Span) -> &'x [u8] {
        let whole = match span.place >> SOURCE_SHIFT {
            0 => self.arena.as_slice(),
            1 => sources.unlocking,
            2 => sources.locking,
            _ => sources.redeem,
        };
        &whole[span.start()..span.start() + span.len()]
    }

    #[inline]
    fn account(&mut self, len: u64) -> Result<(), ScriptError> {
        let used = self.memory_used.saturating_add(len);
        if used > self.memory_limit {
            return Err(ScriptError::StackSize);
        }
        self.memory_used = used;
        Ok(())
    }

    /// Tests whether an item of `len` bytes could be pushed after `popped` were popped, before its bytes are made.
    pub fn room_for(&self, len: usize, popped: usize) -> Result<(), ScriptError> {
        let freed: u64 = (1..=popped).map(|depth| self.top(depth).len + ITEM_OVERHEAD_BYTES).sum();
        let used = (self.memory_used - freed).saturating_add(len as u64 + ITEM_OVERHEAD_BYTES);
        if used > self.memory_limit { Err(ScriptError::StackSize) } else { Ok(()) }
    }

    #[inline]
    pub fn push(&mut self, span: Span) -> Result<(), ScriptError> {
        self.account(span.len + ITEM_OVERHEAD_BYTES)?;
        self.main.push(span);
        Ok(())
    }

    #[inline]
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), ScriptError> {
        let span = self.append(bytes);
        self.push(span)
    }

    /// Pushes 01 or the empty item.
    #[inline]
    pub fn push_bool(&mut self, value: bool) -> Result<(), ScriptError> {
        if value { self.push_bytes(&[1]) } else { self.push(Span::EMPTY) }
    }

    #[inline]
    pub fn pop(&mut self) -> Span {
        let span = self.main.pop().expect("the caller asked need() first");
        self.memory_used -= span.len + ITEM_OVERHEAD_BYTES;
        span
    }

    #[inline]
    pub fn pop_many(&mut self, count: usize) {
        for _ in 0..count {
            self.pop();
        }
    }

    /// Removes the item at `depth` (1 is the top) and gives it back.
    pub fn remove(&mut self, depth: usize) -> Span {
        let span = self.main.remove(self.main.len() - depth);
        self.memory_used -= span.len + ITEM_OVERHEAD_BYTES;
        span
    }

    /// Inserts an item so that it ends `depth` below the top.
    pub fn insert(&mut self, depth: usize, span: Span) -> Result<(), ScriptError> {
        self.account(span.len + ITEM_OVERHEAD_BYTES)?;
        self.main.insert(self.main.len() + 1 - depth, span);
        Ok(())
    }

    #[inline]
    pub fn swap(&mut self, depth_a: usize, depth_b: usize) {
        let len = self.main.len();
        self.main.swap(len - depth_a, len - depth_b);
    }

    /// The top `count` items rotate: the lowest `by` of them come to the top.
    pub fn rotate(&mut self, count: usize, by: usize) {
        let len = self.main.len();
        self.main[len - count..].rotate_left(by);
    }

    pub fn move_to_alt(&mut self) {
        let span = self.main.pop().expect("the caller asked need() first");
        self.alt.push(span);
    }

    pub fn move_from_alt(&mut self) -> Result<(), ScriptError> {
        let span = self.alt.pop().ok_or(ScriptError::InvalidAltstackOperation)?;
        self.main.push(span);
        Ok(())
    }

    /// Drops the alternative stack: it does not outlive its script.
    #[inline]
    pub fn clear_alt(&mut self) {
        for span in self.alt.drain(..) {
            self.memory_used -= span.len + ITEM_OVERHEAD_BYTES;
        }
    }

    /// Remembers the main stack for BIP16.
    pub fn keep(&mut self) {
        self.kept.clear();
        self.kept.extend_from_slice(&self.main);
    }

    /// Puts the remembered stack back.
    pub fn restore(&mut self) {
        core::mem::swap(&mut self.main, &mut self.kept);
        self.kept.clear();
        self.memory_used = self.main.iter().map(|span| span.len + ITEM_OVERHEAD_BYTES).sum();
    }

    /// Copies bytes into the arena.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Span::new(Source::Arena, start, bytes.len())
    }

    /// Copies an item into the arena, where [`Self::made_mut`] may change it before it is pushed.
    pub fn append_item(&mut self, sources: &Sources<'_>, span: Span) -> Span {
        let start = self.arena.len();
        if span.is_in_arena() {
            self.arena.extend_from_within(span.start()..span.start() + span.len());
        } else {
            let bytes = match span.place >> SOURCE_SHIFT {
                1 => sources.unlocking,
                2 => sources.locking,
                _ => sources.redeem,
            };
            self.arena.extend_from_slice(&bytes[span.start()..span.start() + span.len()]);
        }
        Span::new(Source::Arena, start, span.len())
    }

    /// `a` followed by `b`. When `a` already ends the arena only `b` is copied.
    pub fn concatenated(&mut self, sources: &Sources<'_>, a: Span, b: Span) -> Span {
        if b.len == 0 {
            return a;
        }
        let a = if a.is_in_arena() && a.len > 0 && a.start() + a.len() == self.arena.len() {
            a
        } else {
            self.append_item(sources, a)
        };
        self.append_item(sources, b);
        Span { place: a.place, len: a.len + b.len }
    }

    /// Appends `count` zero bytes.
    pub fn append_zeros(&mut self, count: usize) -> Span {
        let start = self.arena.len();
        self.arena.resize(start + count, 0);
        Span::new(Source::Arena, start, count)
    }

    /// The bytes of an item that was just appended and is on no stack yet, and the bytes of another item beside them.
    pub fn made_mut<'x>(
        &'x mut self,
        sources: &Sources<'x>,
        made: Span,
        other: Span,
    ) -> (&'x mut [u8], &'x [u8]) {
        let (old, new) = self.arena.split_at_mut(made.start());
        let range = other.start()..other.start() + other.len();
        let other = match other.place >> SOURCE_SHIFT {
            0 => &old[range],
            1 => &sources.unlocking[range],
            2 => &sources.locking[range],
            _ => &sources.redeem[range],
        };
        (&mut new[..made.len()], other)
    }

    /// Compacts the arena when it has grown well past what is alive. Called between opcodes only.
    #[inline]
    pub fn compact_if_grown(&mut self) {
        if self.arena.len() > self.compact_above {
            self.compact();
        }
    }

    #[cold]
    fn compact(&mut self) {
        let mut live = core::mem::take(&mut self.live);
        live.clear();
        let stacks = self.main.iter().chain(&self.alt).chain(&self.kept);
        live.extend(
            stacks
                .filter(|span| span.is_in_arena() && span.len > 0)
                .map(|span| (span.place, span.place + span.len)),
        );
        live.sort_unstable();
        // Overlapping spans become one range, so what was shared stays shared.
        let mut merged = 0;
        for index in 0..live.len() {
            let (start, end) = live[index];
            if merged > 0 && start <= live[merged - 1].1 {
                live[merged - 1].1 = live[merged - 1].1.max(end);
            } else {
                live[merged] = (start, end);
                merged += 1;
            }
        }
        live.truncate(merged);
        // Move the ranges down; `live[i].1` becomes how far range i moved.
        let mut free = 0usize;
        for range in &mut live {
            let (start, end) = (range.0 as usize, range.1 as usize);
            self.arena.copy_within(start..end, free);
            range.1 = (start - free) as u64;
            free += end - start;
        }
        self.arena.truncate(free);
        for span in self.main.iter_mut().chain(&mut self.alt).chain(&mut self.kept) {
            if span.is_in_arena() {
                if span.len == 0 {
                    *span = Span::EMPTY;
                } else {
                    let range = live.partition_point(|range| range.0 <= span.place) - 1;
                    span.place -= live[range].1;
                }
            }
        }
        let items = self.main.len() + self.alt.len() + self.kept.len();
        self.compact_above = 2 * free + COMPACT_FLOOR_BYTES + 64 * items;
        self.live = live;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Sources<'static> =
        Sources { unlocking: b"unlock", locking: b"lock", redeem: b"red" };

    #[test]
    fn the_account_counts_length_plus_overhead_and_refuses_the_byte_above() {
        let mut stack = Stack::default();
        stack.reset(100);
        stack.push_bytes(&[1; 10]).expect("42 of 100");
        assert_eq!(stack.memory_used(), 42);
        stack.push_bytes(&[1; 26]).expect("100 of 100");
        assert_eq!(stack.push(Span::EMPTY), Err(ScriptError::StackSize));
        stack.move_to_alt();
        assert_eq!(stack.memory_used(), 100);
        stack.clear_alt();
        assert_eq!(stack.memory_used(), 42);
    }

    #[test]
    fn compaction_keeps_every_item_and_shares_what_was_shared() {
        let mut stack = Stack::default();
        stack.reset(u64::MAX);
        let mut want: Vec<Vec<u8>> = Vec::new();
        for round in 0..200u32 {
            let garbage = stack.append(&[0xee; 700]);
            let _ = garbage;
            let bytes: Vec<u8> = (0..97).map(|i| (round * 31 + i) as u8).collect();
            let span = stack.append(&bytes);
            stack.push(span).expect("unlimited");
            want.push(bytes.clone());
            stack.push(span.part(10, 50)).expect("unlimited");
            want.push(bytes[10..60].to_vec());
            stack.push(Span::new(Source::Locking, 1, 2)).expect("unlimited");
            want.push(b"oc".to_vec());
            stack.push(Span::EMPTY).expect("unlimited");
            want.push(Vec::new());
        }
        stack.keep();
        stack.compact();
        assert_eq!(stack.arena.len(), 200 * 97);
        for (depth, bytes) in want.iter().rev().enumerate() {
            assert_eq!(stack.bytes(&NONE, stack.top(depth + 1)), &bytes[..]);
        }
        stack.restore();
        for (depth, bytes) in want.iter().rev().enumerate() {
            assert_eq!(stack.bytes(&NONE, stack.top(depth + 1)), &bytes[..]);
        }
    }

    #[test]
    fn appending_to_the_last_item_does_not_change_a_copy_of_it() {
        let mut stack = Stack::default();
        stack.reset(u64::MAX);
        let a = stack.append(b"ab");
        let whole = stack.concatenated(&NONE, a, Span::new(Source::Unlocking, 0, 6));
        assert_eq!(stack.bytes(&NONE, whole), b"abunlock");
        assert_eq!(stack.bytes(&NONE, a), b"ab");
        let again = stack.concatenated(&NONE, a, a);
        assert_eq!(stack.bytes(&NONE, again), b"abab");
    }
}
