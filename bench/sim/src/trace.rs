//! What happened, as one number, and line by line for who wants to read it.
//!
//! Every event goes into a keyed hash: the same seed gives the same number, on any machine, or the run depended on something it
//! must not. With `--trace` the same events are printed, one line each, in columns.

use dataplane::msg::BatchReader;
use dataplane::msg::batch::Item;
use siphasher::sip::SipHasher13;
use std::fmt::Debug;
use std::hash::Hasher;
use std::io::Write;

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hash: SipHasher13,
    events: u64,
    lines: bool,
}

impl Trace {
    /// Nothing happened yet; `lines` prints what does.
    pub fn new(lines: bool) -> Self {
        Self { hash: SipHasher13::new(), events: 0, lines }
    }

    /// One event: at which step, who, what, with which bytes.
    pub fn event(&mut self, step: u64, who: &str, what: &str, at: (u64, u64), bytes: &[u8]) {
        self.events += 1;
        let h = &mut self.hash;
        h.write_u64(step);
        h.write(who.as_bytes());
        h.write_u8(0xff);
        h.write(what.as_bytes());
        h.write_u64(at.0);
        h.write_u64(at.1);
        h.write(bytes);
        if self.lines {
            let mut out = std::io::stderr().lock();
            let (a, b) = at;
            // Whoever reads the lines may stop reading them.
            let _ =
                writeln!(out, "{step:>7} {who:<20} {what:<14} {a:>6} {b:>6} {:>6}", bytes.len());
        }
    }

    /// The items of a batch, one line each; they are in the hash already.
    pub fn items<'a, T: Item<'a> + Debug>(
        &self,
        step: u64,
        who: &str,
        at: (u64, u64),
        bytes: &'a [u8],
    ) {
        if !self.lines {
            return;
        }
        let Some(mut batch) = BatchReader::new(bytes) else { return };
        let mut out = std::io::stderr().lock();
        while let Some(item) = batch.next_item::<T>() {
            let (a, b) = at;
            // As above.
            let _ = writeln!(out, "{step:>7} {who:<20} {:<14} {a:>6} {b:>6} {item:?}", "item");
        }
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The number that stands for all of them.
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }
}
