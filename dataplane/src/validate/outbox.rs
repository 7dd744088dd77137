//! What waits to be sent to one shard: encoded items with their contexts, in order, in memory taken at start.
//!
//! Items of a turn leave together, one batch for each run of items with one context, when the turn ends and the link has
//! credit. What does not fit stays a flag in its slot and is written later (see `ops`), so an outbox never grows.

use crate::msg::batch::Item;
use crate::msg::{BatchWriter, Context, Epoch};

const HEAD_LEN: usize = 4 + 4 + 16;

/// What stands at the front of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// Nothing.
    Empty,
    /// Items that go into a batch.
    Items,
    /// The announcement of this slot, which is too long for a frag and is read from the slot's own memory.
    Large {
        /// The slot.
        slot: u32,
        /// In which context.
        context: Context,
    },
}

/// The queue.
#[derive(Debug)]
pub(super) struct Outbox {
    buf: Vec<u8>,
    head: usize,
    tail: usize,
}

fn write_context(out: &mut [u8], c: &Context) {
    for (at, field) in [c.block, c.height, c.median_time_past, c.rule_set].into_iter().enumerate() {
        out[at * 4..at * 4 + 4].copy_from_slice(&field.to_le_bytes());
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().expect("four bytes of an outbox entry"))
}

fn read_context(bytes: &[u8]) -> Context {
    Context {
        block: word(bytes),
        height: word(&bytes[4..]),
        median_time_past: word(&bytes[8..]),
        rule_set: word(&bytes[12..]),
    }
}

impl Outbox {
    /// Holds `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { buf: vec![0; bytes], head: 0, tail: 0 }
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.tail - self.head
    }

    /// Bytes of items that fit for certain, each item alone.
    #[inline]
    pub fn free_bytes(&self) -> usize {
        (self.buf.len() - self.waiting_bytes()).saturating_sub(HEAD_LEN)
    }

    /// Appends an item; false if it does not fit now.
    #[inline]
    pub fn push<'i>(&mut self, context: &Context, item: &impl Item<'i>) -> bool {
        let Some(len) = self.encode(item) else {
            if self.head == 0 {
                return false;
            }
            self.buf.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
            return match self.encode(item) {
                Some(len) => {
                    self.seal(context, len, 0);
                    true
                }
                None => false,
            };
        };
        self.seal(context, len, 0);
        true
    }

    /// Appends the mark of a large announcement; false if it does not fit now.
    pub fn push_large(&mut self, context: &Context, slot: u32) -> bool {
        if self.buf.len() - self.waiting_bytes() < HEAD_LEN {
            return false;
        }
        if self.buf.len() - self.tail < HEAD_LEN {
            self.buf.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        self.seal(context, 0, slot + 1);
        true
    }

    fn encode<'i>(&mut self, item: &impl Item<'i>) -> Option<usize> {
        let room = self.buf.get_mut(self.tail + HEAD_LEN..)?;
        item.encode(room)
    }

    fn seal(&mut self, context: &Context, len: usize, large: u32) {
        let head = &mut self.buf[self.tail..self.tail + HEAD_LEN];
        head[..4].copy_from_slice(&(len as u32).to_le_bytes());
        head[4..8].copy_from_slice(&large.to_le_bytes());
        write_context(&mut head[8..], context);
        self.tail += HEAD_LEN + len;
    }

    /// What stands first.
    pub fn front(&self) -> Front {
        if self.head == self.tail {
            return Front::Empty;
        }
        let head = &self.buf[self.head..];
        match word(&head[4..]) {
            0 => Front::Items,
            large => Front::Large { slot: large - 1, context: read_context(&head[8..]) },
        }
    }

    /// Takes the large announcement from the front.
    pub fn pop_large(&mut self) {
        assert!(matches!(self.front(), Front::Large { .. }), "no large announcement stands first");
        self.advance(HEAD_LEN);
    }

    /// Moves items from the front into a batch, as long as they share a context and fit; the length of the frag.
    pub fn fill(&mut self, frag: &mut [u8], epoch: Epoch) -> usize {
        let context = read_context(&self.buf[self.head + 8..]);
        let mut batch = BatchWriter::new(frag, epoch, context);
        while self.front() == Front::Items {
            let head = &self.buf[self.head..];
            let len = word(head) as usize;
            if read_context(&head[8..]) != context
                || !batch.push_encoded(&head[HEAD_LEN..HEAD_LEN + len])
            {
                break;
            }
            self.advance(HEAD_LEN + len);
        }
        assert!(batch.items() > 0, "an item is longer than a frag of its link");
        batch.finish()
    }

    fn advance(&mut self, bytes: usize) {
        self.head += bytes;
        if self.head == self.tail {
            self.head = 0;
            self.tail = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::{BatchReader, Request, Ticket};
    use consensus::hash::TxId;

    #[test]
    fn items_leave_in_order_one_context_a_batch_and_nothing_is_lost_when_it_is_full() {
        let mut outbox = Outbox::new(1_000);
        let mut frag = [0; 200];
        let (mut pushed, mut got) = (0_u32, 0_u32);
        for round in 0..300_u32 {
            let context = Context { block: round / 5, ..Context::default() };
            let item =
                Request::Seen { ticket: Ticket { slot: pushed, attempt: 0 }, txid: TxId::ZERO };
            if outbox.push(&context, &item) {
                pushed += 1;
            } else {
                assert!(outbox.free_bytes() < 41, "refused while there is room");
            }
            if round % 4 == 3 {
                let len = outbox.fill(&mut frag, Epoch::default());
                let mut batch = BatchReader::new(&frag[..len]).expect("a batch");
                while let Some(Request::Seen { ticket, .. }) = batch.next_item() {
                    assert_eq!(ticket.slot, got);
                    got += 1;
                }
                assert!(batch.is_done());
            }
        }
        while outbox.front() != Front::Empty {
            let len = outbox.fill(&mut frag, Epoch::default());
            got += u32::from(BatchReader::new(&frag[..len]).expect("a batch").header().items);
        }
        assert!(pushed > 100);
        assert_eq!(got, pushed);
    }
}
