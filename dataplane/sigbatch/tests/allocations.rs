//! Batches allocate nothing: an allocator that counts, and every kind of batch under it.
//!
//! A test program of its own, because the allocator is the program's.

use sigbatch::proof::cases::{Case, draw_case};
use sigbatch::proof::draw::Draw;
use sigbatch::{Backend, HashBackend, Hasher, SigVerdict, Verifier};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is handed to the system's allocator as it came; counting touches a thread-local number only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATED.get();
    work();
    ALLOCATED.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(vec![1, 2, 3]))), 1);
}

#[test]
fn a_batch_of_signatures_allocates_nothing_whatever_is_in_it() {
    let mut draw = Draw::new(81);
    let rows: Vec<Case> = (0..300).map(|_| draw_case(&mut draw)).collect();
    let mut verdicts = vec![SigVerdict::default(); 300];
    for backend in Backend::ALL {
        let Some(verifier) = Verifier::with_backend(backend) else { continue };
        let mut verifier = verifier.with_audits_kept(4);
        for count in [0, 1, 2, 17, 300] {
            let allocated = allocations_of(|| {
                verifier.verify_each(|i| rows[i].check(), &mut verdicts[..count]);
            });
            assert_eq!(allocated, 0, "{backend:?}: {count} signatures");
        }
        let audits = allocations_of(|| {
            while let Some(audit) = verifier.take_audit() {
                audit.run();
            }
        });
        assert_eq!(audits, 0);
    }
}

#[test]
fn a_batch_of_hashes_allocates_nothing() {
    let bytes = vec![7u8; 4_096];
    let nodes = vec![[5u8; 64]; 100];
    let (mut out, mut short) = (vec![[0; 32]; 300], vec![[0; 20]; 300]);
    for backend in HashBackend::ALL {
        let Some(hasher) = Hasher::with_backend(backend) else { continue };
        let allocated = allocations_of(|| {
            let message = |i: usize| &bytes[..i * 13 % 4_096];
            hasher.sha256d_nodes(&nodes, &mut out[..100]);
            hasher.sha256d_each(message, &mut out);
            hasher.sha256_each(message, &mut out);
            hasher.hash160_each(message, &mut short);
        });
        assert_eq!(allocated, 0, "{backend:?}");
    }
}
