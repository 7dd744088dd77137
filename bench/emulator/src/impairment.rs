//! What one direction of a link does to frames: plain numbers, checked once.
//!
//! In: what an operator types. Out: the same, or the sentence that says which number makes no sense.

/// One direction of a link. The default is a perfect wire: no delay, no loss, no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Impairment {
    /// From the last bit sent to the last bit received.
    pub delay_us: u32,
    /// Each frame's delay is drawn evenly from `delay_us` plus or minus this; order is kept.
    pub jitter_us: u32,
    /// Share of frames lost in the long run.
    pub loss_pct: f64,
    /// Mean length of a run of lost frames; 1 means that frames are lost independently (else a Gilbert model).
    pub burst_frames: f64,
    /// Bits a second on the wire, with preamble, gap and checksum; 0 means no limit.
    pub rate_mbit: u32,
    /// A frame that would wait longer than this for its turn is dropped at the tail.
    pub queue_ms: u32,
    /// Share of frames held back, so that later ones overtake them.
    pub reorder_pct: f64,
    /// How long such a frame is held back.
    pub reorder_hold_us: u32,
    /// Share of frames delivered twice.
    pub duplicate_pct: f64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            delay_us: 0,
            jitter_us: 0,
            loss_pct: 0.0,
            burst_frames: 1.0,
            rate_mbit: 0,
            queue_ms: 200,
            reorder_pct: 0.0,
            reorder_hold_us: 1_000,
            duplicate_pct: 0.0,
        }
    }
}

/// Longest delay, jitter included: more frames than that belong into no test.
const DELAY_US_MAX: u32 = 5_000_000;

impl Impairment {
    /// Says what is wrong with these numbers, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let shares = [
            ("loss_pct", self.loss_pct),
            ("reorder_pct", self.reorder_pct),
            ("duplicate_pct", self.duplicate_pct),
        ];
        for (name, share) in shares {
            if !(0.0..=100.0).contains(&share) {
                return Err(format!("{name} is {share}, expected 0 to 100"));
            }
        }
        if !(1.0..=1e6).contains(&self.burst_frames) {
            return Err(format!("burst_frames is {}, expected 1 or more", self.burst_frames));
        }
        if self.burst_frames > 1.0 && self.loss_pct >= 100.0 {
            return Err("loss_pct is 100 and comes in bursts: there is nothing between them".into());
        }
        if self.jitter_us > self.delay_us {
            let (jitter, delay) = (self.jitter_us, self.delay_us);
            return Err(format!("jitter_us {jitter} is above delay_us {delay}: that is the past"));
        }
        if self.delay_us > DELAY_US_MAX || self.reorder_hold_us > DELAY_US_MAX {
            return Err(format!("a delay above {DELAY_US_MAX} us"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_wire_is_fine_and_nonsense_is_named() {
        let wire = Impairment::default();
        assert_eq!(wire.check(), Ok(()));
        let wrong = [
            (Impairment { loss_pct: 101.0, ..wire.clone() }, "loss_pct"),
            (Impairment { duplicate_pct: f64::NAN, ..wire.clone() }, "duplicate_pct"),
            (Impairment { burst_frames: 0.5, ..wire.clone() }, "burst_frames"),
            (Impairment { delay_us: 5, jitter_us: 6, ..wire.clone() }, "jitter_us"),
            (Impairment { loss_pct: 100.0, burst_frames: 8.0, ..wire.clone() }, "bursts"),
        ];
        for (impairment, word) in wrong {
            let text = impairment.check().expect_err("it makes no sense");
            assert!(text.contains(word), "{text}");
        }
    }
}
