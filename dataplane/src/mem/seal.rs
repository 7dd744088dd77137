//! The sealed heap: a hot thread that allocates after start is found out.
//!
//! [`SealedHeap`] wraps mimalloc. Binaries declare it (`#[global_allocator] static HEAP: SealedHeap = SealedHeap;`), a
//! core calls [`seal`] on its thread once its tiles are built, and from then on every allocation of that thread is
//! counted; with `METANODE_SEAL=abort` (which tests and CI set) it stops the process with a backtrace of the culprit.
//! Other threads pay one thread-local load an allocation. Frees are not counted: a hot thread may hand back what it was
//! given. A panic on a sealed thread may allocate its message.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::OnceLock;

use mimalloc::MiMalloc;

/// What happens to an allocation on this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealMode {
    /// Nothing: the thread is not sealed.
    Open,
    /// It is served and counted.
    Count,
    /// The process stops with a backtrace.
    Abort,
}

thread_local! {
    static MODE: Cell<SealMode> = const { Cell::new(SealMode::Open) };
    static AFTER_SEAL: Cell<u64> = const { Cell::new(0) };
}

/// Seals the calling thread, in the mode that the environment asks for: `METANODE_SEAL=abort`, otherwise counting.
pub fn seal() {
    static FROM_ENVIRONMENT: OnceLock<SealMode> = OnceLock::new();
    let mode = *FROM_ENVIRONMENT.get_or_init(|| match std::env::var_os("METANODE_SEAL") {
        Some(value) if value == "abort" => SealMode::Abort,
        _ => SealMode::Count,
    });
    seal_as(mode);
}

/// Seals (or opens) the calling thread in `mode`.
pub fn seal_as(mode: SealMode) {
    MODE.set(mode);
}

/// The mode of the calling thread.
pub fn mode() -> SealMode {
    MODE.get()
}

/// Allocations of the calling thread since it was sealed. Zero in a binary that does not declare [`SealedHeap`].
pub fn alloc_after_seal() -> u64 {
    AFTER_SEAL.get()
}

/// Whether this binary runs on [`SealedHeap`], so that a count of zero means something.
pub fn is_installed() -> bool {
    let (mode, count) = (MODE.replace(SealMode::Count), AFTER_SEAL.get());
    drop(std::hint::black_box(Box::new(0_u8)));
    let counted = AFTER_SEAL.get() > count;
    MODE.set(mode);
    AFTER_SEAL.set(count);
    counted
}

/// Runs `f` with the thread's heap open: the escape for cold, named paths only.
///
/// `why` names the path, so that a search for `unsealed(` lists every place that may allocate on a hot thread.
pub fn unsealed<R>(_why: &'static str, f: impl FnOnce() -> R) -> R {
    struct Restore(SealMode);
    impl Drop for Restore {
        fn drop(&mut self) {
            MODE.set(self.0);
        }
    }
    let _restore = Restore(MODE.replace(SealMode::Open));
    f()
}

/// The allocator: mimalloc behind the seal.
#[derive(Clone, Copy, Debug, Default)]
pub struct SealedHeap;

#[inline]
fn notice(layout: Layout) {
    // A thread that is being torn down has no thread-locals any more; it is not a hot thread either.
    let mode = MODE.try_with(Cell::get).unwrap_or(SealMode::Open);
    if mode != SealMode::Open {
        caught(mode, layout);
    }
}

#[cold]
fn caught(mode: SealMode, layout: Layout) {
    if std::thread::panicking() {
        return;
    }
    AFTER_SEAL.set(AFTER_SEAL.get() + 1);
    if mode == SealMode::Abort {
        MODE.set(SealMode::Open);
        let thread = std::thread::current();
        eprintln!(
            "a sealed thread ({}) asked the heap for {} bytes; hot tiles take their memory before the first turn\n{}",
            thread.name().unwrap_or("unnamed"),
            layout.size(),
            std::backtrace::Backtrace::force_capture()
        );
        std::process::abort();
    }
}

// SAFETY: every call is passed on to mimalloc unchanged, which upholds the contract of a global allocator; `notice` never
// allocates unless it is about to stop the process, and then the thread is open, so it cannot call itself.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for SealedHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        notice(layout);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from this allocator, and so from mimalloc, with this layout.
        unsafe { MiMalloc.dealloc(ptr, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        notice(layout);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        notice(layout);
        // SAFETY: `ptr` came from mimalloc with this layout; the caller's promise about `new_size` is passed on.
        unsafe { MiMalloc.realloc(ptr, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static HEAP: SealedHeap = SealedHeap;

    #[test]
    fn the_heap_of_this_test_is_sealable() {
        assert!(is_installed());
    }

    #[test]
    fn an_allocation_on_a_sealed_thread_is_counted_and_one_before_it_is_not() {
        let mut before = vec![1_u8; 100];
        let start = alloc_after_seal();
        seal_as(SealMode::Count);
        before.truncate(1);
        drop(before);
        assert_eq!(alloc_after_seal(), start, "freeing is allowed");
        drop(std::hint::black_box(vec![0_u8; 10]));
        assert_eq!(alloc_after_seal(), start + 1);
        unsealed("test of the escape", || drop(std::hint::black_box(vec![0_u8; 10])));
        assert_eq!(alloc_after_seal(), start + 1);
        assert_eq!(mode(), SealMode::Count);
        seal_as(SealMode::Open);
    }

    #[test]
    fn one_sealed_thread_leaves_the_others_alone() {
        seal_as(SealMode::Count);
        let other = unsealed("test", || std::thread::spawn(mode).join().expect("thread"));
        assert_eq!(other, SealMode::Open);
        seal_as(SealMode::Open);
    }

    #[test]
    fn in_abort_mode_the_process_stops_and_names_the_culprit() {
        const CHILD: &str = "METANODE_TEST_SEAL_CHILD";
        if std::env::var_os(CHILD).is_some() {
            seal();
            drop(std::hint::black_box(vec![0_u8; 4_321]));
            std::process::exit(0);
        }
        let output = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "mem::seal::tests::in_abort_mode_the_process_stops_and_names_the_culprit",
            ])
            .args(["--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .env("METANODE_SEAL", "abort")
            .output()
            .expect("run this test as a child");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "the child went on: {text}");
        assert!(text.contains("asked the heap for 4321 bytes"), "{text}");
    }
}
