//! The slab: where a shard's records live, taken once and handed out in blocks.
//!
//! One anonymous region, reserved at start and committed by the operating system page by page as it is first touched. A block
//! is named by a 32-bit handle (its place in units of sixteen bytes, so up to 64 GiB). Sizes are rounded up to classes: every
//! sixteen bytes up to 512, then four classes a doubling. Freed blocks wait in one list per class; when the fresh part is used
//! up, a larger free block is split. Blocks are not joined again, so a shard that has once been full of small records takes
//! large ones only where large ones were freed. Nothing here allocates after [`Slab::new`].

/// Names a block: its offset in units of [`UNIT_BYTES`]. Zero names nothing.
pub(crate) type Handle = u32;

/// Names no block.
pub(crate) const NONE: Handle = 0;
/// Granularity of blocks.
pub(crate) const UNIT_BYTES: usize = 16;
/// Classes in steps of one unit.
const FINE_CLASSES: usize = 32;
/// Classes a doubling above those.
const STEPS: usize = 4;
/// Fine classes, and four for each doubling from 512 bytes to 4 GiB.
const CLASSES: usize = FINE_CLASSES + 23 * STEPS;
/// Units at the front that are never handed out, so that no block has the handle zero.
const FIRST_UNIT: usize = 4;

/// Units a block of class `class` takes.
const fn class_units(class: usize) -> usize {
    if class < FINE_CLASSES {
        class + 1
    } else {
        let step = class - FINE_CLASSES;
        let base = FINE_CLASSES << (step / STEPS);
        base + base / STEPS * (step % STEPS + 1)
    }
}

/// Smallest class that holds `bytes`.
fn class_of(bytes: usize) -> usize {
    let units = bytes.div_ceil(UNIT_BYTES).max(1);
    if units <= FINE_CLASSES {
        return units - 1;
    }
    let doubling = (usize::BITS - 1 - (units - 1).leading_zeros()) as usize - 5;
    let base = FINE_CLASSES << doubling;
    FINE_CLASSES + doubling * STEPS + (units - base).div_ceil(base / STEPS) - 1
}

/// A region cut into blocks. See the module.
#[derive(Debug)]
pub(crate) struct Slab {
    bytes: Vec<u8>,
    /// First unit never handed out yet.
    fresh: usize,
    /// Units in the region.
    units: usize,
    free: [Handle; CLASSES],
    used_units: usize,
    blocks: usize,
}

impl Slab {
    /// Reserves a region of `capacity_bytes` (at most 64 GiB).
    pub fn new(capacity_bytes: usize) -> Self {
        let units = capacity_bytes / UNIT_BYTES;
        assert!(
            units > FIRST_UNIT && u32::try_from(units).is_ok(),
            "a slab of {capacity_bytes} bytes cannot be addressed; take 128 bytes to 64 GiB"
        );
        Self {
            bytes: vec![0; units * UNIT_BYTES],
            fresh: FIRST_UNIT,
            units,
            free: [NONE; CLASSES],
            used_units: 0,
            blocks: 0,
        }
    }

    /// A block of at least `bytes`, with whatever it held before; `None` when there is none.
    pub fn alloc(&mut self, bytes: usize) -> Option<Handle> {
        let class = class_of(bytes);
        if class >= CLASSES {
            return None;
        }
        let units = class_units(class);
        let handle = if self.free[class] != NONE {
            self.pop(class)
        } else if self.fresh + units <= self.units {
            let handle = self.fresh as Handle;
            self.fresh += units;
            handle
        } else {
            self.split(class)?
        };
        self.used_units += units;
        self.blocks += 1;
        Some(handle)
    }

    /// Gives back a block that was asked for with `bytes` (or any size of the same class).
    pub fn free(&mut self, handle: Handle, bytes: usize) {
        let class = class_of(bytes);
        self.used_units -= class_units(class);
        self.blocks -= 1;
        self.push(class, handle);
    }

    /// Takes from the next larger class that has a block and puts the rest of it into smaller classes.
    fn split(&mut self, class: usize) -> Option<Handle> {
        let larger = (class + 1..CLASSES).find(|&c| self.free[c] != NONE)?;
        let handle = self.pop(larger);
        let mut at = handle as usize + class_units(class);
        let mut rest = class_units(larger) - class_units(class);
        while rest > 0 {
            let mut fit = class_of(rest * UNIT_BYTES);
            if class_units(fit) > rest {
                fit -= 1;
            }
            self.push(fit, at as Handle);
            at += class_units(fit);
            rest -= class_units(fit);
        }
        Some(handle)
    }

    fn pop(&mut self, class: usize) -> Handle {
        let handle = self.free[class];
        self.free[class] = self.u32(handle, 0);
        handle
    }

    fn push(&mut self, class: usize, handle: Handle) {
        let next = self.free[class];
        self.put_u32(handle, 0, next);
        self.free[class] = handle;
    }

    /// Bytes in blocks that are handed out, rounding included.
    pub fn used_bytes(&self) -> u64 {
        (self.used_units * UNIT_BYTES) as u64
    }

    /// Bytes of the region.
    pub fn capacity_bytes(&self) -> u64 {
        (self.units * UNIT_BYTES) as u64
    }

    /// Bytes a block asked for with `bytes` takes.
    pub fn block_bytes(bytes: usize) -> u64 {
        (class_units(class_of(bytes)) * UNIT_BYTES) as u64
    }

    #[inline]
    fn at(handle: Handle, offset: usize) -> usize {
        handle as usize * UNIT_BYTES + offset
    }

    /// `len` bytes of a block.
    #[inline]
    pub fn slice(&self, handle: Handle, offset: usize, len: usize) -> &[u8] {
        &self.bytes[Self::at(handle, offset)..][..len]
    }

    /// `len` bytes of a block, to write.
    #[inline]
    pub fn slice_mut(&mut self, handle: Handle, offset: usize, len: usize) -> &mut [u8] {
        &mut self.bytes[Self::at(handle, offset)..][..len]
    }

    /// Copies within the region, from one block to another.
    pub fn copy(&mut self, from: (Handle, usize), to: (Handle, usize), len: usize) {
        let from = Self::at(from.0, from.1);
        self.bytes.copy_within(from..from + len, Self::at(to.0, to.1));
    }

    #[inline]
    fn chunk<const N: usize>(&self, handle: Handle, offset: usize) -> [u8; N] {
        *self.bytes[Self::at(handle, offset)..].first_chunk().expect("a field lies in its block")
    }

    #[inline]
    fn put<const N: usize>(&mut self, handle: Handle, offset: usize, value: [u8; N]) {
        *self.bytes[Self::at(handle, offset)..]
            .first_chunk_mut()
            .expect("a field lies in its block") = value;
    }

    #[inline]
    pub fn array32(&self, handle: Handle, offset: usize) -> &[u8; 32] {
        self.bytes[Self::at(handle, offset)..].first_chunk().expect("a field lies in its block")
    }

    #[inline]
    pub fn put_array32(&mut self, handle: Handle, offset: usize, value: &[u8; 32]) {
        self.put(handle, offset, *value);
    }

    #[inline]
    pub fn u8(&self, handle: Handle, offset: usize) -> u8 {
        self.bytes[Self::at(handle, offset)]
    }

    #[inline]
    pub fn put_u8(&mut self, handle: Handle, offset: usize, value: u8) {
        self.bytes[Self::at(handle, offset)] = value;
    }

    #[inline]
    pub fn u16(&self, handle: Handle, offset: usize) -> u16 {
        u16::from_le_bytes(self.chunk(handle, offset))
    }

    #[inline]
    pub fn put_u16(&mut self, handle: Handle, offset: usize, value: u16) {
        self.put(handle, offset, value.to_le_bytes());
    }

    #[inline]
    pub fn u32(&self, handle: Handle, offset: usize) -> u32 {
        u32::from_le_bytes(self.chunk(handle, offset))
    }

    #[inline]
    pub fn put_u32(&mut self, handle: Handle, offset: usize, value: u32) {
        self.put(handle, offset, value.to_le_bytes());
    }

    #[inline]
    pub fn u64(&self, handle: Handle, offset: usize) -> u64 {
        u64::from_le_bytes(self.chunk(handle, offset))
    }

    #[inline]
    pub fn put_u64(&mut self, handle: Handle, offset: usize, value: u64) {
        self.put(handle, offset, value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for bytes in (1..70_000).chain([1 << 20, (1 << 20) + 1, 1 << 30]) {
            let class = class_of(bytes);
            assert!(class_units(class) * UNIT_BYTES >= bytes, "{bytes} bytes in class {class}");
            if class > 0 {
                assert!(class_units(class - 1) * UNIT_BYTES < bytes, "{bytes} bytes fit a smaller");
            }
        }
    }

    #[test]
    fn a_full_slab_says_so_and_serves_again_after_a_free() {
        let mut slab = Slab::new(4096);
        let mut blocks = Vec::new();
        while let Some(block) = slab.alloc(100) {
            blocks.push(block);
        }
        assert_eq!(blocks.len(), (4096 - 64) / 112);
        slab.free(blocks.pop().expect("one"), 100);
        assert!(slab.alloc(100).is_some());
        assert!(slab.alloc(100).is_none());
    }

    #[test]
    fn a_large_free_block_is_split_without_loss() {
        let mut slab = Slab::new(64 + 4096);
        let big = slab.alloc(4096).expect("fits");
        assert!(slab.alloc(1).is_none());
        slab.free(big, 4096);
        let mut units = 0;
        while slab.alloc(16).is_some() {
            units += 1;
        }
        assert_eq!(units, 256);
        assert_eq!(slab.used_bytes(), 4096);
    }

    #[test]
    fn blocks_do_not_overlap() {
        let mut slab = Slab::new(1 << 16);
        let sizes = [16_usize, 40, 600, 77, 1300, 512, 513];
        let blocks: Vec<_> = sizes.iter().map(|&n| slab.alloc(n).expect("room")).collect();
        for (i, (&b, &n)) in blocks.iter().zip(&sizes).enumerate() {
            slab.slice_mut(b, 0, n).fill(i as u8 + 1);
        }
        for (i, (&b, &n)) in blocks.iter().zip(&sizes).enumerate() {
            assert!(slab.slice(b, 0, n).iter().all(|&x| x == i as u8 + 1));
        }
    }
}
