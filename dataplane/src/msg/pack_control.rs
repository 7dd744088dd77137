//! What control-plane asks of pack (`control_pack`), and what pack answers (`pack_control`): candidates and blocks.
//!
//! One frag is one message; the frag's sig is its tag. Lists longer than a frag come in pieces. A candidate is named by
//! [`CandidateId`]: how often the order of pack's list was disturbed, and how many leaves the candidate has. While the first number
//! stands, the first leaves of the list are the candidate's, however much was appended since.
//!
//! ```text
//! 0     1
//! | tag | fields, little endian, unaligned; a list is its length (u32) and its records
//! ```

use super::wire::{In, Out};
use super::{Epoch, ParentSeq};
use consensus::hash::TxId;

/// How much of the list a candidate should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Want {
    /// The coinbase alone: always to be had at once.
    CoinbaseOnly = 0,
    /// Whole subtrees that no unfinished work touches.
    WholeSubtrees = 1,
    /// Everything that no unfinished work touches, the last subtree short.
    Everything = 2,
}

/// Names a candidate; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CandidateId {
    /// How often transactions were taken out of the list or put in front.
    pub generation: u64,
    /// Leaves, the coinbase's place included: the transaction count of the block.
    pub leaves: u64,
}

/// A record of fixed length in a list.
pub trait Record: Copy {
    /// Its bytes.
    const LEN: usize;
    /// Appends it.
    fn write(&self, out: &mut [u8]);
    /// Reads it from exactly [`Record::LEN`] bytes.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// Records back to back, as they lie in a frag or as the sender holds them.
#[derive(Clone, Copy, Debug)]
pub enum Records<'a, T> {
    /// In a frag.
    Wire(&'a [u8]),
    /// In the sender's memory.
    Own(&'a [T]),
}

impl<'a, T: Record> Records<'a, T> {
    /// Number of records.
    pub fn len(&self) -> usize {
        match self {
            Self::Wire(bytes) => bytes.len() / T::LEN,
            Self::Own(items) => items.len(),
        }
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All records in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        let list = *self;
        (0..list.len()).map(move |i| match list {
            Self::Wire(bytes) => {
                T::read(&bytes[i * T::LEN..(i + 1) * T::LEN]).expect("a list holds whole records")
            }
            Self::Own(items) => items[i],
        })
    }

    pub(super) fn put(&self, w: &mut Out<'_>) {
        w.u32(self.len() as u32);
        let mut record = [0; 128];
        for item in self.iter() {
            item.write(&mut record[..T::LEN]);
            w.bytes(&record[..T::LEN]);
        }
    }

    pub(super) fn take(r: &mut In<'a>) -> Option<Self> {
        let count = r.u32()? as usize;
        let bytes = r.bytes(count.checked_mul(T::LEN)?)?;
        bytes.chunks_exact(T::LEN).all(|b| T::read(b).is_some()).then_some(Self::Wire(bytes))
    }
}

impl Record for ParentSeq {
    const LEN: usize = 10;

    fn write(&self, out: &mut [u8]) {
        let mut w = Out::new(out);
        w.u16(self.shard);
        w.u64(self.seq);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        Some(Self { shard: r.u16()?, seq: r.u64()? })
    }
}

impl Record for TxId {
    const LEN: usize = 32;

    fn write(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        In::new(bytes).txid()
    }
}

/// A transaction that goes back to the front of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its id.
    pub txid: TxId,
    /// Its fee, satoshi.
    pub fee_sat: u64,
    /// Its raw size.
    pub size_bytes: u64,
    /// The shard that published it.
    pub shard: u16,
    /// Under which sequence; 0 if that is not known (it then is in no range of [`PackReply::Ranges`]).
    pub publish_seq: u64,
}

impl Record for Restored {
    const LEN: usize = 58;

    fn write(&self, out: &mut [u8]) {
        let mut w = Out::new(out);
        w.txid(&self.txid);
        w.u64(self.fee_sat);
        w.u64(self.size_bytes);
        w.u16(self.shard);
        w.u64(self.publish_seq);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        Some(Self {
            txid: r.txid()?,
            fee_sat: r.u64()?,
            size_bytes: r.u64()?,
            shard: r.u16()?,
            publish_seq: r.u64()?,
        })
    }
}

/// Publish sequences of one shard, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeqRange {
    /// Whose.
    pub shard: u16,
    /// The first.
    pub from_seq: u64,
    /// The last.
    pub to_seq: u64,
}

impl Record for SeqRange {
    const LEN: usize = 18;

    fn write(&self, out: &mut [u8]) {
        let mut w = Out::new(out);
        w.u16(self.shard);
        w.u64(self.from_seq);
        w.u64(self.to_seq);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        Some(Self { shard: r.u16()?, from_seq: r.u64()?, to_seq: r.u64()? })
    }
}

/// On `control_pack`.
#[derive(Clone, Copy, Debug)]
pub enum PackCommand<'a> {
    /// Make a candidate; answered by [`PackReply::Candidate`] once each shard's link is drained to `drained`, at once if that is empty.
    GetCandidate {
        /// Given back.
        token: u64,
        /// How much it should hold.
        want: Want,
        /// The publish sequence up to which each shard's transactions must be in it: who was told that his transaction is
        /// accepted finds it in the next candidate of everything.
        drained: Records<'a, ParentSeq>,
    },
    /// Stream a candidate: `Roots`, `Leaves`, `Ranges` in pieces, then `Streamed`; or `Refused` as stale.
    GetLeaves {
        /// Given back.
        token: u64,
        /// Which.
        candidate: CandidateId,
    },
    /// The candidate was solved and connected as block `block`: take its transactions out. Ends with `BlockDone`.
    MinedOurs {
        /// The block's number.
        block: u32,
        /// What it is made of.
        candidate: CandidateId,
    },
    /// Somebody else's block (or a stale candidate of ours) was connected: take out what is in it, once each shard's link is
    /// drained to `drained`. Comes in pieces of at most 2,048 ids, `drained` with the first. Ends with `BlockDone`.
    Mined {
        /// The block's number.
        block: u32,
        /// Whether this is the last piece.
        last: bool,
        /// The publish sequence of each shard's last answer (and eviction) for this block.
        drained: Records<'a, ParentSeq>,
        /// Its transactions without the coinbase.
        txids: Records<'a, TxId>,
    },
    /// A block was disconnected: put these transactions in front of the list, in this order. Pieces and end as `Mined`.
    Disconnected {
        /// The block's number.
        block: u32,
        /// Whether this is the last piece.
        last: bool,
        /// The publish sequence of each shard's last frag about this disconnection.
        drained: Records<'a, ParentSeq>,
        /// Its transactions without the coinbase and without what was evicted.
        leaves: Records<'a, Restored>,
    },
    /// Evictions that belong to no `Mined` or `Disconnected` are complete once the links are drained to here.
    EvictionsDone {
        /// The publish sequence of each shard's last eviction.
        drained: Records<'a, ParentSeq>,
    },
    /// This epoch is complete in every shard.
    EpochComplete {
        /// Its number.
        epoch: Epoch,
    },
    /// Release the last subtree as it is, short.
    ReleaseShort,
}

/// Why a command was not carried out. Numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PackRefusal {
    /// The list was disturbed since; ask for a new candidate, or send the block's transactions by id.
    Stale = 1,
    /// The block's transactions do not fit beside what is here; nothing was put back.
    NoRoom = 2,
}

/// On `pack_control`.
#[derive(Clone, Copy, Debug)]
pub enum PackReply<'a> {
    /// To `GetCandidate`.
    Candidate {
        /// From the command.
        token: u64,
        /// Its name; its leaves are the block's transaction count.
        id: CandidateId,
        /// The block that was applied to the list last; 0 before the first.
        tip_block: u32,
        /// Number of subtrees.
        subtrees: u32,
        /// Fees of its transactions, satoshi.
        fees_sat: u64,
        /// Their raw sizes together, without header and coinbase.
        size_bytes: u64,
        /// The merkle branch of the coinbase, lowest sibling first.
        branch: Records<'a, TxId>,
    },
    /// To `GetLeaves`: roots of subtrees `from..`, with the placeholder at leaf 0 (Teranode's subtree hashes).
    Roots {
        /// From the command.
        token: u64,
        /// Index of the first one here.
        from: u64,
        /// The roots.
        roots: Records<'a, TxId>,
    },
    /// To `GetLeaves`: leaves `from..`; leaf 0, the coinbase's, is not sent.
    Leaves {
        /// From the command.
        token: u64,
        /// Index of the first one here.
        from: u64,
        /// The ids.
        txids: Records<'a, TxId>,
    },
    /// To `GetLeaves`: what each shard is to be told with `SetMined`. Exact: no sequence inside a range is anything but a
    /// transaction of this candidate.
    Ranges {
        /// From the command.
        token: u64,
        /// The ranges.
        ranges: Records<'a, SeqRange>,
    },
    /// To `GetLeaves`: that was all.
    Streamed {
        /// From the command.
        token: u64,
        /// How many ids were sent.
        txids: u64,
        /// How many ranges were sent.
        ranges: u64,
    },
    /// To `MinedOurs`, `Mined`, `Disconnected`: the list is the new block's.
    BlockDone {
        /// The block's number.
        block: u32,
        /// Transactions taken out, or put back.
        changed: u64,
        /// Transactions named by the command that were not here (`Mined`), or were here already (`Disconnected`).
        passed_over: u64,
    },
    /// Not done.
    Refused {
        /// From the command, or the block's number.
        token: u64,
        /// Why.
        why: PackRefusal,
    },
}

impl PackCommand<'_> {
    /// The tag, also the frag's sig.
    pub fn tag(&self) -> u8 {
        match self {
            Self::GetCandidate { .. } => 1,
            Self::GetLeaves { .. } => 2,
            Self::MinedOurs { .. } => 3,
            Self::Mined { .. } => 4,
            Self::Disconnected { .. } => 5,
            Self::EvictionsDone { .. } => 6,
            Self::EpochComplete { .. } => 7,
            Self::ReleaseShort => 8,
        }
    }

    /// Writes the command; `None` when it does not fit.
    pub fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        w.u8(self.tag());
        match self {
            Self::GetCandidate { token, want, drained } => {
                w.u64(*token);
                w.u8(*want as u8);
                drained.put(&mut w);
            }
            Self::GetLeaves { token, candidate } => {
                w.u64(*token);
                w.u64(candidate.generation);
                w.u64(candidate.leaves);
            }
            Self::MinedOurs { block, candidate } => {
                w.u32(*block);
                w.u64(candidate.generation);
                w.u64(candidate.leaves);
            }
            Self::Mined { block, last, drained, txids } => {
                w.u32(*block);
                w.u8(u8::from(*last));
                drained.put(&mut w);
                txids.put(&mut w);
            }
            Self::Disconnected { block, last, drained, leaves } => {
                w.u32(*block);
                w.u8(u8::from(*last));
                drained.put(&mut w);
                leaves.put(&mut w);
            }
            Self::EvictionsDone { drained } => drained.put(&mut w),
            Self::EpochComplete { epoch } => {
                w.u32(epoch.incarnation);
                w.u64(epoch.number);
            }
            Self::ReleaseShort => {}
        }
        w.fits().then_some(w.len())
    }
}

fn id(r: &mut In<'_>) -> Option<CandidateId> {
    Some(CandidateId { generation: r.u64()?, leaves: r.u64()? })
}

impl<'a> PackCommand<'a> {
    /// Reads a command.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let command = match r.u8()? {
            1 => Self::GetCandidate {
                token: r.u64()?,
                want: match r.u8()? {
                    0 => Want::CoinbaseOnly,
                    1 => Want::WholeSubtrees,
                    2 => Want::Everything,
                    _ => return None,
                },
                drained: Records::take(&mut r)?,
            },
            2 => Self::GetLeaves { token: r.u64()?, candidate: id(&mut r)? },
            3 => Self::MinedOurs { block: r.u32()?, candidate: id(&mut r)? },
            4 => Self::Mined {
                block: r.u32()?,
                last: r.u8()? != 0,
                drained: Records::take(&mut r)?,
                txids: Records::take(&mut r)?,
            },
            5 => Self::Disconnected {
                block: r.u32()?,
                last: r.u8()? != 0,
                drained: Records::take(&mut r)?,
                leaves: Records::take(&mut r)?,
            },
            6 => Self::EvictionsDone { drained: Records::take(&mut r)? },
            7 => {
                let epoch = Epoch { incarnation: r.u32()?, number: r.u64()? };
                Self::EpochComplete { epoch }
            }
            8 => Self::ReleaseShort,
            _ => return None,
        };
        r.is_empty().then_some(command)
    }
}

impl PackReply<'_> {
    /// The tag, also the frag's sig.
    pub fn tag(&self) -> u8 {
        match self {
            Self::Candidate { .. } => 1,
            Self::Roots { .. } => 2,
            Self::Leaves { .. } => 3,
            Self::Ranges { .. } => 4,
            Self::Streamed { .. } => 5,
            Self::BlockDone { .. } => 6,
            Self::Refused { .. } => 7,
        }
    }

    /// Writes the reply; `None` when it does not fit.
    pub fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        w.u8(self.tag());
        match self {
            Self::Candidate { token, id, tip_block, subtrees, fees_sat, size_bytes, branch } => {
                w.u64(*token);
                w.u64(id.generation);
                w.u64(id.leaves);
                w.u32(*tip_block);
                w.u32(*subtrees);
                w.u64(*fees_sat);
                w.u64(*size_bytes);
                branch.put(&mut w);
            }
            Self::Roots { token, from, roots: hashes }
            | Self::Leaves { token, from, txids: hashes } => {
                w.u64(*token);
                w.u64(*from);
                hashes.put(&mut w);
            }
            Self::Ranges { token, ranges } => {
                w.u64(*token);
                ranges.put(&mut w);
            }
            Self::Streamed { token, txids, ranges } => {
                w.u64(*token);
                w.u64(*txids);
                w.u64(*ranges);
            }
            Self::BlockDone { block, changed, passed_over } => {
                w.u32(*block);
                w.u64(*changed);
                w.u64(*passed_over);
            }
            Self::Refused { token, why } => {
                w.u64(*token);
                w.u8(*why as u8);
            }
        }
        w.fits().then_some(w.len())
    }
}

impl<'a> PackReply<'a> {
    /// Reads a reply.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let reply = match r.u8()? {
            1 => Self::Candidate {
                token: r.u64()?,
                id: id(&mut r)?,
                tip_block: r.u32()?,
                subtrees: r.u32()?,
                fees_sat: r.u64()?,
                size_bytes: r.u64()?,
                branch: Records::take(&mut r)?,
            },
            2 => Self::Roots { token: r.u64()?, from: r.u64()?, roots: Records::take(&mut r)? },
            3 => Self::Leaves { token: r.u64()?, from: r.u64()?, txids: Records::take(&mut r)? },
            4 => Self::Ranges { token: r.u64()?, ranges: Records::take(&mut r)? },
            5 => Self::Streamed { token: r.u64()?, txids: r.u64()?, ranges: r.u64()? },
            6 => Self::BlockDone { block: r.u32()?, changed: r.u64()?, passed_over: r.u64()? },
            7 => Self::Refused {
                token: r.u64()?,
                why: match r.u8()? {
                    1 => PackRefusal::Stale,
                    2 => PackRefusal::NoRoom,
                    _ => return None,
                },
            },
            _ => return None,
        };
        r.is_empty().then_some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_reply_comes_back_as_it_was_and_no_cut_does() {
        let epoch = Epoch { incarnation: 3, number: 1 << 40 };
        let id = CandidateId { generation: 7, leaves: 9 };
        let seqs = [ParentSeq { shard: 2, seq: u64::MAX }, ParentSeq { shard: 0, seq: 1 }];
        let ids = [TxId([4; 32]), TxId([5; 32])];
        let restored =
            [Restored { txid: ids[0], fee_sat: 1, size_bytes: 2, shard: 3, publish_seq: 4 }];
        let range = [SeqRange { shard: 1, from_seq: 2, to_seq: 3 }];
        let (drained, txids) = (Records::Own(&seqs), Records::Own(&ids));
        let commands = [
            PackCommand::GetCandidate { token: 1, want: Want::Everything, drained },
            PackCommand::GetLeaves { token: 1, candidate: id },
            PackCommand::MinedOurs { block: 1, candidate: id },
            PackCommand::Mined { block: 1, last: true, drained, txids },
            PackCommand::Disconnected {
                block: 9,
                last: false,
                drained,
                leaves: Records::Own(&restored),
            },
            PackCommand::EvictionsDone { drained },
            PackCommand::EpochComplete { epoch },
            PackCommand::ReleaseShort,
        ];
        let replies = [
            PackReply::Candidate {
                token: 1,
                id,
                tip_block: 2,
                subtrees: 3,
                fees_sat: 4,
                size_bytes: 5,
                branch: txids,
            },
            PackReply::Roots { token: 1, from: 2, roots: txids },
            PackReply::Leaves { token: 1, from: 2, txids },
            PackReply::Ranges { token: 1, ranges: Records::Own(&range) },
            PackReply::Streamed { token: 1, txids: 2, ranges: 3 },
            PackReply::BlockDone { block: 1, changed: 2, passed_over: 3 },
            PackReply::Refused { token: 1, why: PackRefusal::NoRoom },
        ];
        let mut first = [0; 512];
        let mut second = [0; 512];
        for command in commands {
            let len = command.encode(&mut first).expect("fits");
            let back = PackCommand::decode(&first[..len]).expect("decodes");
            assert_eq!(back.encode(&mut second), Some(len));
            assert_eq!(first[..len], second[..len]);
            assert_eq!(command.encode(&mut second[..len - 1]), None);
            assert!((0..len).all(|cut| PackCommand::decode(&first[..cut]).is_none()));
        }
        for reply in replies {
            let len = reply.encode(&mut first).expect("fits");
            let back = PackReply::decode(&first[..len]).expect("decodes");
            assert_eq!(back.encode(&mut second), Some(len));
            assert_eq!(first[..len], second[..len]);
            assert!((0..len).all(|cut| PackReply::decode(&first[..cut]).is_none()));
        }
    }
}
