//! What is mined: which of a shard's publish sequences lie in which block.
//!
//! Connecting one of our own blocks is one interval per shard and nothing per record: a record (and a claim) carries the
//! publish sequence its home gave it, and whether it is mined is looked up here. Transactions of somebody else's block
//! carry the block's number instead; whether that block is connected is looked up here too, so disconnecting costs as little.

use crate::config::BLOCKS_MAX;
use crate::journal::Bytes;

/// One block's part of one shard's sequences.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    to: u64,
    block: u32,
    height: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mined {
    /// Per shard, ascending and disjoint.
    spans: Vec<Vec<Span>>,
    /// Number and height of each connected block, in the order they were connected.
    blocks: Vec<(u32, u32)>,
    /// Their numbers, ascending.
    numbers: Vec<u32>,
}

impl Mined {
    pub fn new(shards: u16) -> Self {
        Self {
            spans: (0..shards).map(|_| Vec::with_capacity(BLOCKS_MAX)).collect(),
            blocks: Vec::with_capacity(BLOCKS_MAX),
            numbers: Vec::with_capacity(BLOCKS_MAX),
        }
    }

    /// Blocks that are connected, and nothing of any shard's publications in them.
    pub fn standing(shards: u16, blocks: &[(u32, u32)]) -> Self {
        let mut mined = Self::new(shards);
        mined.blocks.extend_from_slice(blocks);
        mined.numbers.extend(blocks.iter().map(|&(block, _)| block));
        mined.numbers.sort_unstable();
        mined
    }

    /// Number and height of each connected block, in the order they were connected.
    pub fn blocks(&self) -> &[(u32, u32)] {
        &self.blocks
    }

    /// Connects `block`, and puts `from..=to` of `shard` into it; false if that contradicts what is known, or a bound is reached.
    pub fn set(&mut self, shard: u16, block: u32, height: u32, from: u64, to: u64) -> bool {
        let newest = self.blocks.last().copied();
        let again = newest == Some((block, height));
        if !again
            && (block == 0
                || self.blocks.len() == BLOCKS_MAX
                || newest.is_some_and(|(_, h)| height <= h)
                || self.is_connected(block))
        {
            return false;
        }
        let Some(spans) = self.spans.get_mut(usize::from(shard)) else { return false };
        if from <= to {
            // What was put back by a disconnected block may be mined after what is newer.
            let place = spans.partition_point(|s| s.from < from);
            let overlaps = place > 0 && spans[place - 1].to >= from
                || spans.get(place).is_some_and(|next| next.from <= to);
            if spans.len() == BLOCKS_MAX || overlaps || from == 0 {
                return false;
            }
            spans.insert(place, Span { from, to, block, height });
        }
        if !again {
            self.blocks.push((block, height));
            // Numbers are given in the order blocks are opened, which is nearly that of connection: this moves next to nothing.
            let place = self.numbers.partition_point(|&b| b < block);
            self.numbers.insert(place, block);
        }
        true
    }

    /// As a checkpoint keeps it.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        for (block, height) in &self.blocks {
            to.extend_from_slice(&block.to_le_bytes());
            to.extend_from_slice(&height.to_le_bytes());
        }
        for spans in &self.spans {
            to.extend_from_slice(&(spans.len() as u32).to_le_bytes());
            for span in spans {
                to.extend_from_slice(&span.from.to_le_bytes());
                to.extend_from_slice(&span.to.to_le_bytes());
                to.extend_from_slice(&span.block.to_le_bytes());
                to.extend_from_slice(&span.height.to_le_bytes());
            }
        }
    }

    /// What was written, of so many shards; `None` for bytes that were not.
    pub fn read(from: &mut Bytes<'_>, shards: u16) -> Option<Self> {
        let mut mined = Self::new(shards);
        for _ in 0..from.u32()? {
            mined.blocks.push((from.u32()?, from.u32()?));
        }
        for spans in &mut mined.spans {
            for _ in 0..from.u32()? {
                spans.push(Span {
                    from: from.u64()?,
                    to: from.u64()?,
                    block: from.u32()?,
                    height: from.u32()?,
                });
            }
            if !spans.is_sorted_by(|a, b| a.to < b.from) {
                return None;
            }
        }
        mined.numbers.extend(mined.blocks.iter().map(|&(block, _)| block));
        mined.numbers.sort_unstable();
        let bounded = mined.blocks.len() <= BLOCKS_MAX;
        bounded.then_some(mined)
    }

    /// Disconnects the newest block; false if `block` is not it.
    pub fn unset(&mut self, block: u32) -> bool {
        if self.blocks.last().is_none_or(|&(b, _)| b != block) {
            return false;
        }
        self.blocks.pop();
        self.numbers.retain(|&b| b != block);
        self.spans.iter_mut().for_each(|spans| spans.retain(|span| span.block != block));
        true
    }

    /// Height of the connected block that holds this publish sequence of this shard.
    #[inline]
    pub fn height_of(&self, shard: u16, publish_seq: u64) -> Option<u32> {
        self.block_of(shard, publish_seq).map(|(_, height)| height)
    }

    /// Number and height of that block.
    #[inline]
    pub fn block_of(&self, shard: u16, publish_seq: u64) -> Option<(u32, u32)> {
        let spans = self.spans.get(usize::from(shard))?;
        if spans.last().is_none_or(|s| publish_seq > s.to) {
            return None;
        }
        let after = spans.partition_point(|s| s.from <= publish_seq);
        let span = spans[..after].last()?;
        (publish_seq <= span.to).then_some((span.block, span.height))
    }

    /// Height of a connected block.
    pub fn height_of_block(&self, block: u32) -> Option<u32> {
        if !self.is_connected(block) {
            return None;
        }
        self.blocks.iter().rev().find(|&&(b, _)| b == block).map(|&(_, h)| h)
    }

    /// Whether a block is connected.
    #[inline]
    pub fn is_connected(&self, block: u32) -> bool {
        block != 0 && self.numbers.binary_search(&block).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_mined_while_its_block_is_connected() {
        let mut mined = Mined::new(2);
        assert!(mined.set(0, 7, 101, 1, 10));
        assert!(mined.set(1, 7, 101, 1, 4));
        assert!(mined.set(0, 8, 102, 11, 12));
        assert_eq!(mined.height_of(0, 10), Some(101));
        assert_eq!(mined.height_of(0, 11), Some(102));
        assert_eq!(mined.height_of(0, 13), None);
        assert_eq!(mined.height_of(1, 5), None);
        assert!(!mined.unset(7), "only the newest block can be undone");
        assert!(mined.unset(8));
        assert_eq!(mined.height_of(0, 11), None);
        assert!(mined.unset(7));
        assert!(!mined.is_connected(7));
        assert_eq!(mined.height_of(1, 1), None);
    }

    #[test]
    fn what_is_older_may_be_mined_later() {
        let mut mined = Mined::new(1);
        assert!(mined.set(0, 7, 101, 11, 20));
        assert!(mined.set(0, 8, 102, 1, 4));
        assert!(!mined.set(0, 8, 102, 4, 5), "four is mined already");
        assert!(!mined.set(0, 8, 102, 9, 11), "eleven is mined already");
        assert!(mined.set(0, 8, 102, 21, 21));
        let at = |mined: &Mined| [1, 4, 5, 11, 20, 21, 22].map(|seq| mined.height_of(0, seq));
        let (old, new) = (Some(101), Some(102));
        assert_eq!(at(&mined), [new, new, None, old, old, new, None]);
        assert!(mined.unset(8));
        assert_eq!(at(&mined), [None, None, None, old, old, None, None]);
    }

    #[test]
    fn contradictions_are_refused() {
        let mut mined = Mined::new(1);
        assert!(mined.set(0, 7, 101, 1, 10));
        assert!(!mined.set(0, 8, 102, 10, 12), "ten is mined already");
        assert!(!mined.set(0, 8, 102, 0, 1), "there is no sequence zero");
        assert!(!mined.set(0, 8, 101, 11, 12), "heights grow");
        assert!(!mined.set(0, 0, 102, 11, 12), "zero is the pool");
        assert!(!mined.set(3, 8, 102, 11, 12), "there is no shard three");
        assert!(mined.set(0, 8, 102, 1, 0), "an empty range connects a foreign block");
        assert!(mined.is_connected(8));
    }
}
