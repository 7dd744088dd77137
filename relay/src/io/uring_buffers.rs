//! Buffers that the kernel fills on its own: a ring of free ones that it takes from, and that we put them back into.
//!
//! In: how many, how large. Out: the bytes of a buffer the kernel has named, until it is given back. The ring and the buffers are mapped
//! memory that outlives the `io_uring` they are registered with; whoever owns both sees to that.

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU16, Ordering};

/// Memory of our own pages; the start of a page suits every type.
#[derive(Debug)]
struct Mapping {
    base: *mut BufRingEntry,
    len: usize,
}

// SAFETY: the mapping is private memory with one owner; nothing about it belongs to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at a place the kernel chooses overlaps nothing that exists.
        let base = unsafe { mmap_anonymous(null_mut(), len, rights, flags)? };
        Ok(Self { base: base.cast(), len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and its owner goes; nobody holds a reference into it.
        // An error leaves the pages mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.cast(), self.len) };
    }
}

/// The buffers and the ring of the free ones.
#[derive(Debug)]
pub(super) struct ProvidedBuffers {
    ring: Mapping,
    memory: Mapping,
    count: u16,
    each: usize,
    tail: u16,
}

/// The group that requests name; a ring has one.
pub(super) const GROUP: u16 = 1;

impl ProvidedBuffers {
    /// `count` (a power of two) buffers of `each` bytes, all free.
    pub(super) fn new(count: u16, each: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "{count} buffers: the kernel takes powers of two");
        let ring = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * each)?;
        let mut buffers = Self { ring, memory, count, each, tail: 0 };
        for buffer in 0..count {
            buffers.put(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Tells the kernel about them.
    pub(super) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        // SAFETY: the ring is page-aligned memory of `count` entries; `Uring` keeps it mapped until the kernel is done with it.
        unsafe {
            submitter.register_buf_ring_with_flags(self.ring.base as u64, self.count, GROUP, 0)
        }
    }

    /// The first `len` bytes of a buffer that the kernel has filled and named.
    pub(super) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(
            buffer < self.count && len <= self.each,
            "buffer {buffer} with {len} bytes: not one of ours"
        );
        // SAFETY: the buffer lies inside the mapping, is initialised (fresh pages are zero), and the kernel does not write into it
        // until it is given back, which needs `&mut self`.
        unsafe {
            std::slice::from_raw_parts(
                self.memory.base.cast::<u8>().add(usize::from(buffer) * self.each),
                len,
            )
        }
    }

    /// Puts a buffer back; the kernel sees it after [`publish`](Self::publish).
    pub(super) fn put(&mut self, buffer: u16) {
        assert!(buffer < self.count, "buffer {buffer}: there are {}", self.count);
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, so the entry lies inside the ring. The kernel reads entries below the published tail only,
        // and there are never more than `count` of them, so it does not read this one now.
        unsafe {
            let entry = self.ring.base.add(place);
            (*entry).set_addr(self.memory.base.cast::<u8>().add(usize::from(buffer) * self.each) as u64);
            (*entry).set_len(self.each as u32);
            (*entry).set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was put back.
    pub(super) fn publish(&self) {
        // SAFETY: the ring's tail is a two-byte field of its first entry, aligned as such; the kernel reads it with acquire, and nobody
        // else writes it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.base).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
