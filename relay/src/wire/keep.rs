//! `KEEP`: that we are alive, and what we measured of your packets.
//!
//! ```text
//!  8 u32 echo_time_us    tx_time_us of the newest packet heard      20 u32 heard_count     packets accepted in this session
//! 12 u32 echo_held_us    how long ago that was; all ones: none      24 u32 loss_ppm        estimate, mean + 2 sigma
//! 16 u32 heard_max       highest link_seq heard                     28 u32 tx_time_us
//! 32 u32 delay_rise_us   one-way delay above its minimum            36 u32 delivered_kbit  received in the last interval
//! 40 u32 burst_ppm       loss of the last full window               44 u32 windows         full windows judged
//! ```

use super::{HEADER_LEN, WireError, exact, only_flags, u32_at};

/// What a `KEEP` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// `tx_time_us` of the newest packet heard.
    pub echo_time_us: u32,
    /// How long before this packet was made that one was heard; `u32::MAX`: nothing was heard.
    pub echo_held_us: u32,
    /// Highest packet number heard in this session.
    pub heard_max: u32,
    /// Packets accepted in this session.
    pub heard_count: u32,
    /// Loss estimate (mean + 2 sigma), in millionths.
    pub loss_ppm: u32,
    /// One-way delay above the least of the last seconds.
    pub delay_rise_us: u32,
    /// Rate at which packets came in the last interval; 0 when it was too short or idle.
    pub delivered_kbit: u32,
    /// Loss of the last full window, in millionths.
    pub burst_ppm: u32,
    /// Full windows judged so far.
    pub windows: u32,
}

/// Bytes of a `KEEP` before its tag.
pub const KEEP_LEN: usize = HEADER_LEN + 16;
const PPM: u32 = 1_000_000;

impl Keep {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        exact(bytes, KEEP_LEN)?;
        only_flags(bytes, 0)?;
        let ppm = |at| Some(u32_at(bytes, at)).filter(|&ppm| ppm <= PPM);
        Ok(Self {
            echo_time_us: u32_at(bytes, 8),
            echo_held_us: u32_at(bytes, 12),
            heard_max: u32_at(bytes, 16),
            heard_count: u32_at(bytes, 20),
            loss_ppm: ppm(24).ok_or(WireError::Field { at: 24 })?,
            delay_rise_us: u32_at(bytes, 32),
            delivered_kbit: u32_at(bytes, 36),
            burst_ppm: ppm(40).ok_or(WireError::Field { at: 40 })?,
            windows: u32_at(bytes, 44),
        })
    }

    /// Writes everything but what the session adds.
    pub fn write(&self, out: &mut [u8]) {
        for (at, word) in [
            (8, self.echo_time_us),
            (12, self.echo_held_us),
            (16, self.heard_max),
            (20, self.heard_count),
            (24, self.loss_ppm),
            (32, self.delay_rise_us),
            (36, self.delivered_kbit),
            (40, self.burst_ppm),
            (44, self.windows),
        ] {
            out[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
    }
}
