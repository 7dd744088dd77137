//! The conditional tracker: which IFs are open and whether all of them are true.
//!
//! Asking "is everything around me true" for every opcode by walking the open IFs would make a script of nested IFs
//! quadratic, so the number of false frames is kept instead.
//!
//! Source: SV Node `conditional_tracker.{h,cpp}`.

/// One open IF.
#[derive(Clone, Copy, Debug)]
struct Frame {
    value: bool,
    else_seen: bool,
}

/// The open IFs of one script.
#[derive(Debug, Default)]
pub(super) struct ConditionalTracker {
    frames: Vec<Frame>,
    false_frames: usize,
}

impl ConditionalTracker {
    pub fn with_capacity(frames: usize) -> Self {
        Self { frames: Vec::with_capacity(frames), false_frames: 0 }
    }

    pub fn reserved_bytes(&self) -> usize {
        self.frames.capacity() * size_of::<Frame>()
    }

    #[inline]
    pub fn clear(&mut self) {
        self.frames.clear();
        self.false_frames = 0;
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether every open IF is true.
    #[inline]
    pub fn all_true(&self) -> bool {
        self.false_frames == 0
    }

    pub fn open(&mut self, value: bool) {
        self.frames.push(Frame { value, else_seen: false });
        self.false_frames += usize::from(!value);
    }

    /// Turns the innermost IF around. `Err` when none is open, or on a second ELSE where `one_else` forbids it.
    pub fn toggle(&mut self, one_else: bool) -> Result<(), ()> {
        let frame = self.frames.last_mut().ok_or(())?;
        if frame.else_seen && one_else {
            return Err(());
        }
        frame.value = !frame.value;
        frame.else_seen = true;
        if frame.value {
            self.false_frames -= 1;
        } else {
            self.false_frames += 1;
        }
        Ok(())
    }

    /// Closes the innermost IF. `Err` when none is open.
    pub fn close(&mut self) -> Result<(), ()> {
        let frame = self.frames.pop().ok_or(())?;
        self.false_frames -= usize::from(!frame.value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_false_frames_follows_toggles_and_closes() {
        let mut open = ConditionalTracker::default();
        open.open(true);
        open.open(false);
        assert!(!open.all_true());
        open.toggle(true).expect("first ELSE");
        assert!(open.all_true());
        assert!(open.toggle(true).is_err());
        open.toggle(false).expect("before Genesis a second ELSE is allowed");
        assert!(!open.all_true());
        open.close().expect("open");
        assert!(open.all_true());
        open.close().expect("open");
        assert!(open.close().is_err());
        assert!(open.toggle(false).is_err());
    }
}
