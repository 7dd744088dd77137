//! A link: made or attached here, and taken apart into its ends.
//!
//! Each end can be taken once in the life of a link, in whichever process: the claims are words of the region. A
//! `Link` itself moves no frags; it may be cloned and dropped freely, the region lives until the last end is gone.

use crate::consumer::Consumer;
use crate::observer::Observer;
use crate::producer::Producer;
use crate::region::{LinkError, Region};
use crate::spec::{Kind, LinkSpec};
use crate::sync::Ordering::Relaxed;
use crate::tap::Tap;
use std::path::Path;
use std::sync::Arc;

/// One producer's way to its consumers. See the crate's first page.
#[derive(Clone, Debug)]
pub struct Link {
    region: Arc<Region>,
}

impl Link {
    /// A link in memory of this process.
    pub fn anonymous(spec: &LinkSpec) -> Result<Self, LinkError> {
        Ok(Self { region: Region::anonymous(spec)? })
    }

    /// A link in a new file at `path`, for other processes to open. Best on a `tmpfs`, so that nothing is written back.
    pub fn create_file(path: impl AsRef<Path>, spec: &LinkSpec) -> Result<Self, LinkError> {
        Ok(Self { region: Region::create_file(path.as_ref(), spec)? })
    }

    /// The link that another process created at `path`. Its spec is read from the file.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, LinkError> {
        Ok(Self { region: Region::open_file(path.as_ref())? })
    }

    /// The row of the table this link was made from.
    pub fn spec(&self) -> &LinkSpec {
        self.region.spec()
    }

    /// Bytes of the region.
    pub fn footprint_bytes(&self) -> u64 {
        self.region.layout().total_bytes
    }

    /// Maps every page but the arena's now, so that no turn pays for it.
    pub fn prefault(&self) -> Result<(), LinkError> {
        self.region.prefault()
    }

    /// The producer's end. Once.
    pub fn producer(&self) -> Result<Producer, LinkError> {
        // Relaxed: only who was first matters; what the region holds was ordered by `Ready` or by the `Arc`.
        if self.region.producer().claimed.swap(1, Relaxed) != 0 {
            return Err(self.no_end("producer", "it was taken before"));
        }
        Ok(Producer::new(&self.region))
    }

    /// The end of consumer `index`. Once each. Not on a `Tap` link.
    pub fn consumer(&self, index: usize) -> Result<Consumer, LinkError> {
        let end = || format!("consumer {index}");
        if self.spec().kind == Kind::Tap {
            return Err(self.no_end(end(), "a tap is read through `tap()`"));
        }
        let Some(cells) = self.region.consumers().get(index) else {
            return Err(self.no_end(end(), "the table gives it fewer consumers"));
        };
        // Relaxed: as for the producer.
        if cells.own.claimed.swap(1, Relaxed) != 0 {
            return Err(self.no_end(end(), "it was taken before"));
        }
        Ok(Consumer::new(&self.region, index))
    }

    /// A reader of a `Tap` link, starting at its newest frag. Any number of them.
    pub fn tap(&self) -> Result<Tap, LinkError> {
        if self.spec().kind != Kind::Tap {
            return Err(self.no_end("tap", "its payload may be borrowed, so it cannot be overrun"));
        }
        Ok(Tap::new(&self.region))
    }

    /// A reader that nobody waits for, of a link of any kind in another process's file: a tap on what was not made to be tapped.
    ///
    /// It copies, then looks at the line again. A file's payload ring is never rewound and has two slots more than lines, so the
    /// payload of a frag whose line stands has not been written over. Frags in the arena are passed over (`Tap::large`): their
    /// bytes are freed with the last credit, which no line tells.
    pub fn spy(&self) -> Result<Tap, LinkError> {
        if !self.region.is_shared() {
            return Err(self.no_end("spy", "it lies in the memory of one process"));
        }
        Ok(Tap::new(&self.region))
    }

    /// A view of the counters, for monitors.
    pub fn observer(&self) -> Observer {
        Observer::new(&self.region)
    }

    fn no_end(&self, end: impl Into<String>, why: &'static str) -> LinkError {
        LinkError::NoEnd { link: self.spec().name.clone(), end: end.into(), why }
    }
}
