//! Atomics, swapped for loom's under `--cfg loom`, and the list of every ordering this crate relies on.
//!
//! An ordering is not written where it is used: the code names a [`Site`], and this file maps the site to its ordering
//! and its reason. In a normal build that costs nothing (constants). Under loom a test may weaken one site to `Relaxed`
//! (or remove its fence) and must then see its model fail: an ordering nobody can break a model with is not needed, and
//! an ordering that is missing is found.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// A place where memory order matters. The table at the top of the crate lists them in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// Release fence between the marker `seq - 1` and the body of a line: who sees the new body, or whatever is written
    /// later into the payload of the frag evicted here, sees the marker.
    LineMarker,
    /// Release store of `seq`: body and payload are visible to whoever sees the number.
    LinePublish,
    /// Acquire load of `seq`: pairs with `LinePublish`.
    LinePoll,
    /// Acquire fence between a speculative copy and the second read of `seq`: the copy is not newer than the check.
    TapVerify,
    /// Release store of a consumer's position: its reads are finished before the producer may write there.
    CreditReturn,
    /// Acquire load of a consumer's position: pairs with `CreditReturn` and `Shutdown`.
    CreditRead,
    /// Release store of the shutdown mark: the last reads of a leaving consumer are finished.
    Shutdown,
    /// Release store of the producer's end mark: everything published before is visible to whoever sees it.
    Close,
    /// Acquire load of the producer's end mark: pairs with `Close`.
    CloseRead,
    /// Release store of the magic number of a region: the header and the lines are complete.
    Ready,
    /// Acquire load of the magic number: pairs with `Ready`.
    Attach,
    /// The full barrier (`membarrier`) of a parker between raising its flag and its last poll.
    #[cfg_attr(not(loom), allow(dead_code))] // a call to the kernel outside of models
    ParkBarrier,
    /// The compiler fence of a waker between publishing and looking at the flag; `membarrier` makes it a full barrier.
    WakeOrder,
    /// Without `membarrier`: the acquire exchange by which a parker raises its flag. If a waker's came first, its frag is
    /// visible to the poll that follows.
    ParkExchange,
    /// Without `membarrier`: the release exchange by which a waker looks at the flag; pairs with `ParkExchange`.
    WakeExchange,
}

impl Site {
    /// The ordering of this site's access.
    #[inline(always)]
    pub(crate) fn order(self) -> Ordering {
        #[cfg(loom)]
        if weak::is(self) {
            return Ordering::Relaxed;
        }
        match self {
            Site::LinePublish
            | Site::CreditReturn
            | Site::Shutdown
            | Site::Close
            | Site::Ready
            | Site::LineMarker
            | Site::WakeExchange => Ordering::Release,
            Site::LinePoll
            | Site::CreditRead
            | Site::CloseRead
            | Site::Attach
            | Site::TapVerify
            | Site::ParkExchange => Ordering::Acquire,
            Site::ParkBarrier | Site::WakeOrder => Ordering::AcqRel,
        }
    }

    /// The fence of this site.
    #[inline(always)]
    pub(crate) fn fence(self) {
        #[cfg(loom)]
        if weak::is(self) {
            return;
        }
        fence(self.order());
    }
}

/// Which site the running loom model has weakened.
#[cfg(loom)]
pub(crate) mod weak {
    use super::Site;
    use std::cell::Cell;

    thread_local! {
        // A loom model runs all its threads on the thread that started it.
        static WEAK: Cell<Option<Site>> = const { Cell::new(None) };
    }

    /// True if `site` is weakened in this model.
    pub(crate) fn is(site: Site) -> bool {
        WEAK.with(|w| w.get() == Some(site))
    }

    /// Weakens `site` until the end of the calling test thread.
    #[cfg(test)]
    pub(crate) fn set(site: Option<Site>) {
        WEAK.with(|w| w.set(site));
    }
}
