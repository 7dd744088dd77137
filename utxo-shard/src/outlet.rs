//! The outlet: where a shard tile's answers become frags.
//!
//! Replies to one validator are collected in one buffer and leave as one batch, when it is full, when the context changes, or at
//! the end of the turn. A reply longer than a frag goes by itself through the link's arena; room for it there is taken before
//! the shard gives it ([`Outbox::has_room_for`]), as is room for what is published, so that nothing that was done has to be
//! undone for want of credit. One validator's full link stops that validator only.

use crate::config::PARENTS_MAX;
use crate::shard::{COIN_REPLY_BYTES, Outbox};
use dataplane::msg::{Accepted, BatchHeader, BatchWriter, Context, Epoch, ParentSeq, Reply};
use dataplane::tile::{Out, Outs, Stamp};
use ring::{LargeFrag, Refused};

/// Credits a reply link must have before a request is handled: the batch under way, a long reply, and the next batch.
const REPLY_CREDIT_MIN: u32 = 3;

/// Longest batch of replies.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Answers to one validator.
#[derive(Debug)]
struct Lane {
    out: Out,
    batch: Vec<u8>,
    bytes: usize,
    items: u16,
    context: Context,
    born: Stamp,
    /// Room taken for one long reply.
    admitted: Option<LargeFrag>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outlet {
    lanes: Vec<Lane>,
    pack: Out,
    /// Room taken for one long publication.
    admitted: Option<LargeFrag>,
    /// Counts claims of arenas, each a source of its own: one shard may have several on their way.
    large: u64,
    head: Vec<u8>,
}

/// Bytes of the longest head of a publication: one parent position a shard.
const HEAD_BYTES_MAX: usize = Accepted::FIXED_LEN + PARENTS_MAX * ParentSeq::LEN;

/// Room in a link's arena, if there is any now.
fn admit(outs: &mut Outs, out: Out, bytes: usize, large: &mut u64) -> Option<LargeFrag> {
    *large += 1;
    match outs.admit(out, bytes as u64, *large) {
        Ok(frag) => Some(frag),
        Err(Refused::TooLarge) => panic!(
            "a frag of {bytes} bytes does not fit the arena of out-link {}: give it at least that of the links in",
            out.0
        ),
        Err(_) => None,
    }
}

impl Outlet {
    pub fn new(validators: &[Out], pack: Out) -> Self {
        let lane = |&out| Lane {
            out,
            batch: Vec::with_capacity(BATCH_BYTES_MAX),
            bytes: BatchHeader::LEN,
            items: 0,
            context: Context::default(),
            born: Stamp::default(),
            admitted: None,
        };
        Self {
            lanes: validators.iter().map(lane).collect(),
            pack,
            admitted: None,
            large: 0,
            head: vec![0; HEAD_BYTES_MAX],
        }
    }

    /// The links of one turn.
    pub fn with<'a>(&'a mut self, outs: &'a mut Outs, epoch: Epoch, context: Context) -> Open<'a> {
        Open { outlet: self, outs, epoch, context }
    }

    /// Whether a reply of usual length can be taken for a validator.
    #[inline]
    pub fn has_room(&self, outs: &Outs, to: u16) -> bool {
        outs.credit(self.lanes[usize::from(to)].out) >= REPLY_CREDIT_MIN
    }

    /// Credits of a validator's link.
    pub fn credit(&self, outs: &Outs, to: u16) -> u32 {
        outs.credit(self.lanes[usize::from(to)].out)
    }

    /// Whether anything collected has not left yet.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.items == 0)
    }

    /// Sends off what was collected; true if anything was.
    pub fn flush(&mut self, outs: &mut Outs, epoch: Epoch) -> bool {
        let mut sent = false;
        for lane in &mut self.lanes {
            sent |= lane.flush(outs, epoch);
        }
        sent
    }
}

impl Lane {
    fn flush(&mut self, outs: &mut Outs, epoch: Epoch) -> bool {
        if self.items == 0 {
            return false;
        }
        let now = outs.born();
        outs.set_born(self.born);
        let (items, bytes) = (self.items, self.bytes);
        BatchWriter::resume(&mut self.batch, epoch, self.context, items, bytes).finish();
        outs.publish(self.out, u64::from(items), &self.batch[..bytes]);
        outs.set_born(now);
        self.items = 0;
        self.bytes = BatchHeader::LEN;
        true
    }

    fn add(&mut self, outs: &mut Outs, epoch: Epoch, context: &Context, reply: &Reply<'_>) {
        if self.batch.is_empty() {
            // Once, within its capacity: how long a frag may be is known only from the link.
            self.batch.resize(outs.mtu(self.out).min(BATCH_BYTES_MAX), 0);
        }
        if self.items > 0 && self.context != *context {
            self.flush(outs, epoch);
        }
        if self.push(outs, epoch, context, reply) {
            return;
        }
        self.flush(outs, epoch);
        if self.push(outs, epoch, context, reply) {
            return;
        }
        self.send_long(outs, epoch, context, reply);
    }

    fn push(&mut self, outs: &Outs, epoch: Epoch, context: &Context, reply: &Reply<'_>) -> bool {
        let (items, bytes) = (self.items, self.bytes);
        let mut batch = BatchWriter::resume(&mut self.batch, epoch, *context, items, bytes);
        if !batch.push(reply) {
            return false;
        }
        if items == 0 {
            self.context = *context;
            self.born = outs.born();
        }
        self.items = batch.items();
        self.bytes = batch.bytes();
        true
    }

    /// A reply that no frag in line can hold: its coin's script is long.
    fn send_long(&mut self, outs: &mut Outs, epoch: Epoch, context: &Context, reply: &Reply<'_>) {
        let mut short = *reply;
        let script = match &mut short {
            Reply::Coin { coin, .. } | Reply::Differs { coin, .. } => {
                std::mem::take(&mut coin.locking_script)
            }
            other => panic!("{other:?} does not fit a frag of {} bytes", outs.mtu(self.out)),
        };
        let mut frag = self.admitted.take().expect("room for a long reply was taken before");
        let mut start = [0; BatchHeader::LEN + COIN_REPLY_BYTES];
        let mut batch = BatchWriter::new(&mut start, epoch, *context);
        let fits = batch.push(&short);
        assert!(fits, "the head of a reply has its exact size");
        let len = batch.finish();
        start[len - 4..len].copy_from_slice(&(script.len() as u32).to_le_bytes());
        outs.append(self.out, &mut frag, &start);
        outs.append(self.out, &mut frag, script);
        let sent = outs.publish_large(self.out, 1, frag);
        assert!(sent.is_ok(), "credit for a long reply was there when it was asked for");
    }
}

/// An outlet with the links of a turn and the context of the requests at hand.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    outlet: &'a mut Outlet,
    outs: &'a mut Outs,
    epoch: Epoch,
    context: Context,
}

impl Outbox for Open<'_> {
    fn has_room(&self, to: u16) -> bool {
        self.outlet.has_room(self.outs, to)
    }

    fn has_room_for(&mut self, to: u16, bytes: usize) -> bool {
        if !self.outlet.has_room(self.outs, to) {
            return false;
        }
        let lane = &mut self.outlet.lanes[usize::from(to)];
        let bytes = bytes + BatchHeader::LEN;
        if bytes <= self.outs.mtu(lane.out) {
            return true;
        }
        if lane.admitted.as_ref().is_some_and(|frag| frag.claimed_bytes() == bytes as u64) {
            return true;
        }
        // Room for another reply that was not given after all goes back first.
        lane.admitted = None;
        lane.admitted = admit(self.outs, lane.out, bytes, &mut self.outlet.large);
        lane.admitted.is_some()
    }

    fn can_publish(&mut self, bytes: usize) -> bool {
        let pack = self.outlet.pack;
        if self.outs.credit(pack) == 0 {
            return false;
        }
        if bytes <= self.outs.mtu(pack) {
            return true;
        }
        if self.outlet.admitted.as_ref().is_some_and(|f| f.claimed_bytes() == bytes as u64) {
            return true;
        }
        self.outlet.admitted = None;
        self.outlet.admitted = admit(self.outs, pack, bytes, &mut self.outlet.large);
        self.outlet.admitted.is_some()
    }

    fn reply(&mut self, to: u16, reply: &Reply<'_>) {
        let lane = &mut self.outlet.lanes[usize::from(to)];
        lane.add(self.outs, self.epoch, &self.context, reply);
    }

    fn publish(&mut self, accepted: &Accepted<'_>) {
        let (outs, pack) = (&mut *self.outs, self.outlet.pack);
        let bytes = accepted.encoded_len();
        let sig = accepted.kind as u64;
        if bytes <= outs.mtu(pack) {
            outs.publish_with(pack, sig, |frag| {
                accepted.encode(frag).expect("a frag of an mtu holds what is not longer")
            });
            return;
        }
        let mut frag = self.outlet.admitted.take().expect("room to publish was taken before");
        let head = Accepted { tx: &[], ..*accepted };
        let head_len = head.encoded_len();
        let written = head.encode(&mut self.outlet.head[..head_len]);
        assert!(written == Some(head_len), "the head of a publication has its exact size");
        outs.append(pack, &mut frag, &self.outlet.head[..head_len]);
        outs.append(pack, &mut frag, accepted.tx);
        let sent = outs.publish_large(pack, sig, frag);
        assert!(sent.is_ok(), "credit to publish was there when it was asked for");
    }
}
