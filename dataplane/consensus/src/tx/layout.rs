//! Where the parts of a transaction stand.
//!
//! Offsets are 32 bits: a transaction, extension included, is at most 4 GiB - 1 (the rules allow 1 GB raw), and a layout
//! that takes 16 bytes an input and 8 an output stays in cache. Fields that stand at a fixed distance from a script are
//! not stored. A layout of fixed capacity never grows: the parser answers `LayoutFull` instead.

use crate::wire::compact_size_len;
use std::ops::Range;

/// Offsets of one input. `coin_*` are zero in the raw format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InputSpan {
    pub unlocking_at: u32,
    pub unlocking_end: u32,
    pub coin_at: u32,
    pub coin_end: u32,
}

impl InputSpan {
    #[inline]
    pub fn at(&self) -> usize {
        let len = (self.unlocking_end - self.unlocking_at) as u64;
        self.unlocking_at as usize - compact_size_len(len) - 36
    }

    #[inline]
    pub fn unlocking(&self) -> Range<usize> {
        self.unlocking_at as usize..self.unlocking_end as usize
    }

    #[inline]
    pub fn unlocking_end(&self) -> usize {
        self.unlocking_end as usize
    }

    #[inline]
    pub fn coin(&self) -> Option<Range<usize>> {
        (self.coin_at != 0).then_some(self.coin_at as usize..self.coin_end as usize)
    }
}

/// Offsets of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutputSpan {
    pub locking_at: u32,
    pub locking_end: u32,
}

impl OutputSpan {
    #[inline]
    pub fn at(self) -> usize {
        let len = (self.locking_end - self.locking_at) as u64;
        self.locking_at as usize - compact_size_len(len) - 8
    }

    #[inline]
    pub fn locking(self) -> Range<usize> {
        self.locking_at as usize..self.locking_end as usize
    }
}

/// The spans of one transaction. Reusable: parsing the next transaction into it clears it and keeps its memory.
#[derive(Debug, Clone, Default)]
pub struct TxLayout {
    pub(super) inputs: Vec<InputSpan>,
    pub(super) outputs: Vec<OutputSpan>,
    /// Most spans of each kind; `None` grows.
    fixed: Option<(usize, usize)>,
    pub(super) output_count_at: u32,
    pub(super) total_bytes: u32,
    pub(super) extension_bytes: u32,
    pub(super) extended: bool,
    pub(super) done: bool,
}

impl TxLayout {
    /// A layout that grows as items are found (never because of a claimed count).
    pub fn new() -> Self {
        Self::default()
    }

    /// A growing layout with room for this many inputs and outputs.
    pub fn with_capacity(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs: Vec::with_capacity(inputs),
            outputs: Vec::with_capacity(outputs),
            ..Self::default()
        }
    }

    /// A layout that never allocates again: more than this is `Progress::LayoutFull`.
    pub fn fixed(inputs: usize, outputs: usize) -> Self {
        Self { fixed: Some((inputs, outputs)), ..Self::with_capacity(inputs, outputs) }
    }

    /// Forgets the transaction, keeps the memory.
    pub fn clear(&mut self) {
        self.inputs.clear();
        self.outputs.clear();
        self.output_count_at = 0;
        self.total_bytes = 0;
        self.extension_bytes = 0;
        self.extended = false;
        self.done = false;
    }

    /// True once a whole transaction has been parsed into it.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// True if the transaction was in the extended format.
    pub fn is_extended(&self) -> bool {
        self.extended
    }

    /// Bytes of the transaction as it came.
    pub fn total_bytes(&self) -> usize {
        self.total_bytes as usize
    }

    /// Bytes of its raw form.
    pub fn raw_bytes(&self) -> usize {
        self.total_bytes as usize - self.extension_bytes as usize
    }

    /// Number of inputs found so far.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Number of outputs found so far.
    pub fn output_count(&self) -> usize {
        self.outputs.len()
    }

    pub(super) fn output_count_at(&self) -> usize {
        self.output_count_at as usize
    }

    /// False if the input does not fit.
    #[inline]
    pub(super) fn has_room_for_input(&self) -> bool {
        self.fixed.is_none_or(|(most, _)| self.inputs.len() < most)
    }

    #[inline]
    pub(super) fn has_room_for_output(&self) -> bool {
        self.fixed.is_none_or(|(_, most)| self.outputs.len() < most)
    }
}
