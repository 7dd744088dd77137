//! A peer that says what it is told to, for tests of what a relay makes of it.
//!
//! In: frames to say, in order. Out: what the other side answered. Its links are real: key, cookie, tags and numbers are
//! right, so what is wrong is in the frames alone.

use crate::engine::Upper;
use crate::wire::{Frame, FrameBuf, ObjectId, flags};
use crate::{DropReason, LinkView, NowUs, PeerId, PeerInfo, Priority};
use std::collections::VecDeque;
use std::fmt;

/// Writes one frame.
pub type Write = Box<dyn Fn(&mut FrameBuf)>;

/// See the module.
pub struct Scripted {
    /// The link is up.
    pub up: bool,
    /// What it will say.
    pub frames: VecDeque<Write>,
    /// Objects whose symbols it got, and their lengths in bytes.
    pub got: Vec<(ObjectId, u32)>,
    /// Objects of its that were refused.
    pub refused: u64,
    priority: Priority,
}

impl Scripted {
    /// Says its frames with `priority`: what is useful waits for the link's rate, control does not.
    pub fn new(priority: Priority) -> Self {
        Self { up: false, frames: VecDeque::new(), got: Vec::new(), refused: 0, priority }
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("up", &self.up).finish_non_exhaustive()
    }
}

impl Upper for Scripted {
    fn peer_up(&mut self, _: PeerId, _: PeerInfo, _: &LinkView, _: NowUs) {
        self.up = true;
    }

    fn peer_down(&mut self, _: PeerId, _: NowUs) {
        self.up = false;
    }

    fn on_frame(
        &mut self,
        _: PeerId,
        frame: &Frame<'_>,
        _: &LinkView,
        _: NowUs,
    ) -> Result<(), DropReason> {
        match frame {
            Frame::Data(data) => self.got.push((frame.object(), data.fields.object_len)),
            Frame::Stop(stop) => self.refused += u64::from(stop.flags & flags::REFUSED != 0),
            _ => {}
        }
        Ok(())
    }

    fn pending(&self, _: PeerId) -> Option<Priority> {
        (!self.frames.is_empty()).then_some(self.priority)
    }

    fn next_frame(
        &mut self,
        _: PeerId,
        _: &LinkView,
        _: NowUs,
        frame: &mut FrameBuf,
    ) -> Option<Priority> {
        self.frames.pop_front()?(frame);
        Some(self.priority)
    }
}
