//! Orders to shards: gathered by shard, sent as there is room, answered in any order.

use super::{BATCH_BYTES, Lines, Trouble};
use crate::msg::admin::{Admin, AdminReply};
use crate::msg::{BatchHeader, BatchReader, BatchWriter, Context, Epoch};
use std::collections::VecDeque;

/// Largest order: a coinbase with its outputs.
const ORDER_BYTES_MAX: usize = 1 << 27;

/// What goes to one shard.
#[derive(Debug, Default)]
struct Lane {
    frags: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    items: u16,
    bytes: usize,
    /// Batches sent and not answered to their end.
    open: usize,
}

/// Orders of one kind to many shards. Within a shard they are carried out in the order they were put.
#[derive(Debug)]
pub(super) struct Orders {
    context: Context,
    epoch: Epoch,
    lanes: Vec<Lane>,
}

impl Orders {
    pub fn new(shards: usize, context: Context, epoch: Epoch) -> Self {
        Self { context, epoch, lanes: (0..shards).map(|_| Lane::default()).collect() }
    }

    /// Adds an order.
    pub fn put(&mut self, shard: usize, order: &Admin<'_>) {
        if !self.push(shard, order) {
            self.close(shard);
            if !self.push(shard, order) {
                self.put_alone(shard, order);
            }
        }
    }

    fn push(&mut self, shard: usize, order: &Admin<'_>) -> bool {
        let (context, epoch) = (self.context, self.epoch);
        let lane = &mut self.lanes[shard];
        if lane.buffer.is_empty() {
            lane.buffer = vec![0; BATCH_BYTES];
            (lane.items, lane.bytes) = (0, BatchHeader::LEN);
        }
        let (items, bytes) = (lane.items, lane.bytes);
        let mut batch = BatchWriter::resume(&mut lane.buffer, epoch, context, items, bytes);
        let pushed = batch.push(order);
        (lane.items, lane.bytes) = (batch.items(), batch.bytes());
        pushed
    }

    /// An order longer than a batch in line.
    fn put_alone(&mut self, shard: usize, order: &Admin<'_>) {
        let mut size = BATCH_BYTES * 4;
        let frag = loop {
            assert!(size <= ORDER_BYTES_MAX, "one order is above {ORDER_BYTES_MAX} bytes");
            let mut buffer = vec![0; size];
            let mut batch = BatchWriter::new(&mut buffer, self.epoch, self.context);
            if batch.push(order) {
                let len = batch.finish();
                buffer.truncate(len);
                break buffer;
            }
            size *= 4;
        };
        self.lanes[shard].frags.push_back(frag);
    }

    fn close(&mut self, shard: usize) {
        let lane = &mut self.lanes[shard];
        let mut buffer = std::mem::take(&mut lane.buffer);
        if lane.items > 0 {
            let (items, bytes) = (lane.items, lane.bytes);
            BatchWriter::resume(&mut buffer, self.epoch, self.context, items, bytes).finish();
            buffer.truncate(bytes);
            lane.frags.push_back(buffer);
        }
        lane.items = 0;
    }

    /// Sends everything and waits for all answers; how many orders each shard refused.
    pub fn send<L: Lines>(
        mut self,
        lines: &mut L,
        what: &'static str,
        answer: &mut dyn FnMut(usize, &AdminReply<'_>),
    ) -> Result<Vec<u32>, L::Error> {
        let mut refused = vec![0; self.lanes.len()];
        for shard in 0..self.lanes.len() {
            self.close(shard);
        }
        let mut idle = 0;
        loop {
            let (mut moved, mut left) = (false, false);
            for (shard, lane) in self.lanes.iter_mut().enumerate() {
                while lane.frags.front().is_some_and(|frag| lines.order_shard(shard, frag)) {
                    lane.frags.pop_front();
                    lane.open += 1;
                    moved = true;
                }
                while lane.open > 0 {
                    let mut ended = 0;
                    let heard = lines.shard_answer(shard, &mut |bytes| {
                        let Some(mut batch) = BatchReader::new(bytes) else { return };
                        while let Some(reply) = batch.next_item::<AdminReply<'_>>() {
                            if let AdminReply::Done { refused: r, .. } = reply {
                                refused[shard] += r;
                                ended += 1;
                            } else {
                                answer(shard, &reply);
                            }
                        }
                    });
                    if !heard {
                        break;
                    }
                    lane.open -= ended;
                    moved = true;
                }
                left |= lane.open > 0 || !lane.frags.is_empty();
            }
            if !left {
                return Ok(refused);
            }
            if moved {
                idle = 0;
            } else {
                lines.rest(what, idle)?;
                idle += 1;
            }
        }
    }

    /// Sends everything; an error if any order is refused.
    pub fn send_all<L: Lines>(self, lines: &mut L, what: &'static str) -> Result<(), L::Error> {
        let refused = self.send(lines, what, &mut |_, _| {})?;
        match refused.iter().position(|&r| r > 0) {
            Some(shard) => Err(Trouble::Refused { shard, refused: refused[shard], what }.into()),
            None => Ok(()),
        }
    }
}
