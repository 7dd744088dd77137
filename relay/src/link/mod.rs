//! One authenticated link to one peer.
//!
//! In: packets and the time. Out: frames that are authentic, new, and whose sender is known. Everything that must hold
//! before a byte is believed is here, and nothing here knows what an object is.

/// Strikes within a minute that put a peer into quarantine.
pub const STRIKES_MAX: u32 = 100;
