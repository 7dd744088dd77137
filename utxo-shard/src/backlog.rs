//! What is left of a frag that could not be handled to its end in one turn.
//!
//! A frag is lent for one call. Where the shard must stop in the middle (a record is created in pieces, a link is full) the rest of
//! the batch is copied here, and the link it came from rests until it is done: order on a link is the order of effect.

use crate::hold::from_input;
use crate::shard::{Outbox, Progress, Shard};
use crate::table::WARM_MAX;
use consensus::hash::TxId;
use dataplane::msg::batch::Item;
use dataplane::msg::request::{Decision, Request};
use dataplane::msg::{BatchHeader, BatchReader};

/// Bytes that can be left over: a batch in line, and the inputs of one commit.
const BACKLOG_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Backlog {
    header: BatchHeader,
    items: u16,
    /// Whole items at `at..end`.
    bytes: Vec<u8>,
    at: usize,
    end: usize,
    /// Where an item is written anew before the two change places.
    spare: Vec<u8>,
}

impl Backlog {
    pub fn new() -> Self {
        Self {
            header: BatchHeader::default(),
            items: 0,
            bytes: vec![0; BACKLOG_BYTES],
            at: 0,
            end: 0,
            spare: vec![0; BACKLOG_BYTES],
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The header of the batch that is left over.
    pub fn header(&self) -> BatchHeader {
        self.header
    }

    /// Keeps what is left of a batch: `first` (in place of the item at hand), and the encoded items behind it.
    pub fn keep<'i>(
        &mut self,
        header: BatchHeader,
        items: u16,
        first: &impl Item<'i>,
        rest: &[u8],
    ) {
        assert!(self.is_empty(), "a link's frag is taken while the one before is not done");
        self.end = write(&mut self.bytes, first, rest);
        self.at = 0;
        self.header = header;
        self.items = items;
    }

    /// The first item that was kept, and its length.
    pub fn first<'a, T: Item<'a>>(&'a self) -> Option<(T, usize)> {
        if self.items == 0 {
            return None;
        }
        let item = T::decode(&self.bytes[self.at..self.end]);
        Some(item.expect("a backlog holds whole items"))
    }

    /// Drops the first item.
    pub fn advance(&mut self, len: usize) {
        self.at += len;
        self.items -= 1;
    }

    /// Handles requests of validator `from` out of `frag`; what cannot be handled now is kept.
    pub fn take(&mut self, shard: &mut Shard, from: u16, frag: &[u8], to: &mut impl Outbox) -> u32 {
        let header = *BatchReader::new(frag).expect("a batch begins with its header").header();
        shard.meet_epoch(header.epoch);
        let mut rest = &frag[BatchHeader::LEN..];
        warm(shard, rest);
        for left in (1..=header.items).rev() {
            let (item, len) = Request::decode(rest).unwrap_or_else(|| {
                panic!("validate_shard[{from}]: item {left} from the end is none of ours")
            });
            rest = &rest[len..];
            if let Some(again) = handle(shard, from, &header, &item, to) {
                self.keep(header, left, &again, rest);
                return u32::from(header.items - left);
            }
        }
        assert!(
            rest.is_empty(),
            "validate_shard[{from}]: {} bytes behind the last item",
            rest.len()
        );
        u32::from(header.items)
    }

    /// Goes on with what was kept; gives the requests handled to their end.
    pub fn resume(&mut self, shard: &mut Shard, from: u16, to: &mut impl Outbox) -> u32 {
        let mut done = 0;
        while self.items > 0 {
            let (item, len) = Request::decode(&self.bytes[self.at..self.end])
                .expect("a backlog holds whole items");
            match handle(shard, from, &self.header, &item, to) {
                None => {
                    self.at += len;
                    self.items -= 1;
                    done += 1;
                }
                Some(again) => {
                    let rest = &self.bytes[self.at + len..self.end];
                    self.end = write(&mut self.spare, &again, rest);
                    self.at = 0;
                    std::mem::swap(&mut self.bytes, &mut self.spare);
                    break;
                }
            }
        }
        done
    }
}

/// Writes an item and what follows it; gives the length.
fn write<'i>(bytes: &mut [u8], first: &impl Item<'i>, rest: &[u8]) -> usize {
    let written = first.encode(bytes).and_then(|len| {
        bytes.get_mut(len..len + rest.len())?.copy_from_slice(rest);
        Some(len + rest.len())
    });
    written.unwrap_or_else(|| {
        panic!("more than {BACKLOG_BYTES} bytes of a batch are left over: long items travel alone")
    })
}

/// One request; what is left of it, if it could not be handled to its end.
fn handle<'a>(
    shard: &mut Shard,
    from: u16,
    header: &BatchHeader,
    item: &Request<'a>,
    to: &mut impl Outbox,
) -> Option<Request<'a>> {
    if shard.is_building() || !to.has_room(from) {
        return Some(*item);
    }
    match shard.request(from, &header.context, item, to) {
        Progress::Done => None,
        Progress::Again => Some(match *item {
            Request::Settle { ticket, txid, decision } => {
                let decision = Decision { tx: &[], ..decision };
                Request::Settle { ticket, txid, decision }
            }
            Request::Commit { ticket, txid, inputs, decision } => {
                let decision = Decision { tx: &[], ..decision };
                Request::Commit { ticket, txid, inputs, decision }
            }
            other => other,
        }),
        Progress::From(i) => match *item {
            Request::Reserve { ticket, txid, inputs }
            | Request::Commit { ticket, txid, inputs, .. } => {
                Some(Request::Reserve { ticket, txid, inputs: from_input(inputs, i) })
            }
            other => panic!("only reserves stop at an input: {other:?}"),
        },
    }
}

/// Requests the cache lines that a batch will need before its first item is handled.
fn warm(shard: &Shard, mut items: &[u8]) {
    let mut ids = [const { TxId([0; 32]) }; WARM_MAX];
    let mut n = 0;
    let mut note = |id: TxId| {
        if n < WARM_MAX {
            ids[n] = id;
            n += 1;
        }
    };
    while let Some((item, len)) = Request::decode(items) {
        items = &items[len..];
        match item {
            Request::Announce { txid, .. }
            | Request::Seen { txid, .. }
            | Request::Settle { txid, .. } => note(txid),
            Request::Resolve { outpoint, .. } => note(outpoint.txid),
            Request::Reserve { inputs, .. } => inputs.iter().for_each(|i| note(i.outpoint.txid)),
            Request::Commit { txid, inputs, .. } => {
                note(txid);
                inputs.iter().for_each(|i| note(i.outpoint.txid));
            }
            Request::Spend { inputs, .. } | Request::Release { inputs, .. } => {
                inputs.iter().for_each(|i| note(i.outpoint.txid));
            }
            _ => {}
        }
    }
    shard.warm(&ids[..n]);
}
