//! Sleeping until there is something to do, and being woken from another thread.
//!
//! In: descriptors and a time. Out: one call of `ppoll`. A [`Waker`] is an eventfd: it is counted, never lost, and emptied by whoever
//! slept.

use super::clock;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Ends a wait of the backend it came from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker {
    event: Arc<OwnedFd>,
}

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event: Arc::new(event) })
    }

    /// Ends the wait that is under way, or the next one.
    pub fn wake(&self) {
        // Only a counter at its end refuses, and then a wake-up is pending anyway.
        let _ = rustix::io::write(&*self.event, &1u64.to_ne_bytes());
    }

    /// Sleeps until `readable` or `writable` is (if given), somebody wakes us, or the time has come.
    pub(super) fn sleep(
        &self,
        readable: Option<BorrowedFd<'_>>,
        writable: Option<BorrowedFd<'_>>,
        until_us: u64,
    ) -> io::Result<()> {
        let left_us = until_us.saturating_sub(clock::now_us());
        let timeout = Timespec {
            tv_sec: (left_us / 1_000_000).min(i64::MAX as u64) as i64,
            tv_nsec: (left_us % 1_000_000 * 1_000) as i64,
        };
        let event = self.event.as_fd();
        let watch = |fd: Option<_>, what| {
            let what = if fd.is_some() { what } else { PollFlags::empty() };
            PollFd::from_borrowed_fd(fd.unwrap_or(event), what)
        };
        let mut all = [
            watch(Some(event), PollFlags::IN),
            watch(readable, PollFlags::IN),
            watch(writable, PollFlags::OUT),
        ];
        match poll(&mut all, Some(&timeout)) {
            Ok(_) => {}
            // A signal is something to look at, too.
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if all[0].revents().contains(PollFlags::IN) {
            let mut count = [0; 8];
            // Nobody else reads it; if it is empty all the same, there is nothing to take away.
            let _ = rustix::io::read(self.event.as_fd(), &mut count);
        }
        Ok(())
    }
}
