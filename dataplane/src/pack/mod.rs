//! The tile `pack`: puts accepted transactions in order, builds their merkle tree, hands out candidates and subtrees.
//!
//! In: every shard's `shard_pack` link, and commands on `control_pack`. Out: replies on `pack_control`, released subtrees on
//! `pack_store`. Nothing of a transaction but its id, fee and size is kept; whoever builds the block has its bytes.
//!
//! ```text
//! shard_pack[s] ─► order ─► list ─► tree ─► candidate, leaves, ranges ─► pack_control
//!                  parents  what    one       subtrees ─────────────────► pack_store
//!                  first    leaves  flat
//!                           closes  tree
//! control_pack ──► blocks, evictions, epochs ▲
//! ```
//!
//! Back of the envelope, a transaction: a frag of about 320 bytes is read (5 cache lines, in order); one line of the index is
//! missed, 64 bytes of leaf and 32 of id are written in order, one double hash of 64 bytes is paid. That is about 200 ns with
//! the sixteen-lane kernel, so one core places four to five million a second and memory bandwidth is not the limit
//! (`cargo test --release -p dataplane pack -- --ignored --nocapture` prints what it is here). A transaction takes about
//! 160 bytes until it is mined, all of it allocated at start.
//!
//! Every loop is bounded a turn: frags by the stem, everything else by `LEAVES_PER_TURN`, `NODES_PER_TURN` and
//! `PIECES_PER_TURN` in `packer`.

mod index;
mod list;
mod order;
mod packer;
mod tree;

#[cfg(test)]
mod tests;

pub use packer::{Credit, MINED_PIECE_MAX, PackConfig, PackCounts, Packer, Sink};
pub use tree::{COINBASE_PLACEHOLDER, root_from_branch};

use crate::msg::accepted::{Accepted, ParentSeq};
use crate::msg::pack_control::{PackCommand, PackReply, Restored};
use crate::msg::pack_store::SubtreeFrag;
use crate::outs::Outs;
use crate::tile::{Busy, Filter, Frag, House, In, Out, Seq, Sig, Tile};
use crate::time::Ns;
use sigbatch::Hasher;

/// In-link 0: commands. In-link `1 + s`: shard s. The one behind them, where anything is durable: epochs that are complete.
pub const CONTROL_PACK: In = In(0);
/// Out-link 0: replies; its mtu is at least [`PACK_CONTROL_MTU_MIN`].
pub const PACK_CONTROL: Out = Out(0);
/// Out-link 1: released subtrees; its mtu is at least [`PACK_STORE_MTU_MIN`].
pub const PACK_STORE: Out = Out(1);
/// A candidate's reply with the longest branch.
pub const PACK_CONTROL_MTU_MIN: usize = 64 + 32 * 32;
/// A subtree's head, or one leaf.
pub const PACK_STORE_MTU_MIN: usize = 128;

crate::counters! {
    /// What pack counts.
    pub enum PackCount {
        /// Pool frags taken in order.
        PoolFrags = counter "pool_frags_total",
        /// Block frags, which are not placed.
        BlockFrags = counter "block_frags_total",
        /// Evicted frags.
        EvictedFrags = counter "evicted_frags_total",
        /// Frags that waited for a parent on another link.
        FragsHeld = counter "frags_held_total",
        /// Transactions placed.
        Placed = counter "placed_total",
        /// Pool frags of transactions that were placed already.
        Repeated = counter "repeated_total",
        /// Transactions taken out because a block has them.
        Mined = counter "mined_total",
        /// Transactions taken out because a block spends their coins otherwise.
        Evicted = counter "evicted_total",
        /// Evictions of transactions that were not here.
        EvictedUnknown = counter "evicted_unknown_total",
        /// Transactions of disconnected blocks put back in front.
        Restored = counter "restored_total",
        /// Merkle nodes hashed ahead of candidates.
        NodesHashed = counter "nodes_hashed_total",
        /// Leaves walked to close gaps or to make room.
        LeavesMoved = counter "leaves_moved_total",
        /// Candidates given.
        Candidates = counter "candidates_total",
        /// Subtrees released.
        Subtrees = counter "subtrees_total",
        /// Subtrees that changed while they were released.
        SubtreesDropped = counter "subtrees_dropped_total",
        /// Commands refused.
        Refused = counter "refused_total",
        /// Times a link rested because the list was full.
        Full = counter "full_total",
        /// Unmined transactions in the list.
        Transactions = gauge "transactions",
        /// Frags waiting for a parent now.
        HeldNow = gauge "frags_held",
    }
}

/// The tile; see the module.
#[derive(Debug)]
pub struct PackTile {
    packer: Packer,
    release_short_after_ns: Ns,
    short_due_ns: Ns,
}

impl PackTile {
    /// Takes all the memory it will ever use.
    pub fn new(config: PackConfig) -> Self {
        let release_short_after_ns = config.release_short_after_ns;
        Self { packer: Packer::new(config, Hasher::new()), release_short_after_ns, short_due_ns: 0 }
    }

    /// Begins with what an earlier life accepted and nobody mined: `leaves` in this order, parents first, and each shard's
    /// publications counted on from where they were.
    ///
    /// # Panics
    /// If they do not fit, or something was placed already.
    pub fn begin_with(&mut self, drained: &[ParentSeq], leaves: impl Iterator<Item = Restored>) {
        self.packer.begin_with(drained, leaves);
    }

    fn is_epochs(&self, input: In) -> bool {
        input.0 == 1 + self.packer.shards()
    }

    /// What the tile holds and has counted.
    pub fn packer(&self) -> &Packer {
        &self.packer
    }
}

impl Tile for PackTile {
    const NAME: &'static str = "pack";
    const BURST: u32 = 1;
    const COUNTERS: &'static [crate::metrics::CounterDef] = PackCount::DEFS;

    fn housekeeping(&mut self, house: &mut House<'_>) {
        if self.release_short_after_ns > 0 && house.now() >= self.short_due_ns {
            self.short_due_ns = house.now() + self.release_short_after_ns;
            self.packer.release_short();
        }
        let c = self.packer.counts();
        for (counter, value) in [
            (PackCount::PoolFrags, c.pool_frags),
            (PackCount::BlockFrags, c.block_frags),
            (PackCount::EvictedFrags, c.evicted_frags),
            (PackCount::FragsHeld, c.held),
            (PackCount::Placed, c.placed),
            (PackCount::Repeated, c.repeated),
            (PackCount::Mined, c.mined),
            (PackCount::Evicted, c.evicted),
            (PackCount::EvictedUnknown, c.evicted_unknown),
            (PackCount::Restored, c.restored),
            (PackCount::NodesHashed, c.nodes_hashed),
            (PackCount::LeavesMoved, c.leaves_moved),
            (PackCount::Candidates, c.candidates),
            (PackCount::Subtrees, c.subtrees),
            (PackCount::SubtreesDropped, c.subtrees_dropped),
            (PackCount::Refused, c.refused),
            (PackCount::Full, c.full),
            (PackCount::Transactions, self.packer.transactions() as u64),
            (PackCount::HeldNow, self.packer.held() as u64),
        ] {
            house.set(counter, value);
        }
    }

    #[inline]
    fn wants(&mut self, input: In, outs: &Outs) -> u32 {
        if input == CONTROL_PACK {
            outs.credit(PACK_CONTROL)
        } else if self.is_epochs(input) {
            Self::FRAGS_PER_TURN
        } else {
            self.packer.room(input.0 - 1)
        }
    }

    #[inline]
    fn filter(&mut self, input: In, _seq: Seq, sig: Sig, outs: &Outs) -> Filter {
        let takes = if input == CONTROL_PACK {
            self.packer.accepts(sig as u8, &Credits(outs))
        } else {
            self.is_epochs(input) || !self.packer.rests(input.0 - 1)
        };
        if takes { Filter::Take } else { Filter::Later }
    }

    fn frag(&mut self, input: In, frag: Frag<'_>, outs: &mut Outs) {
        if input == CONTROL_PACK || self.is_epochs(input) {
            let command = PackCommand::decode(frag.bytes)
                .unwrap_or_else(|| panic!("control_pack, frag {}: no command of ours", frag.seq));
            let may_come =
                input == CONTROL_PACK || matches!(command, PackCommand::EpochComplete { .. });
            assert!(may_come, "epoch_pack carries epochs, not {command:?}");
            self.packer.command(&command, &mut Links(outs));
        } else {
            let shard = input.0 - 1;
            let accepted = Accepted::decode(frag.bytes)
                .filter(|accepted| accepted.shard == shard)
                .unwrap_or_else(|| panic!("shard_pack[{shard}], frag {}: not its own", frag.seq));
            self.packer.frag(&accepted);
        }
    }

    fn after(&mut self, outs: &mut Outs) -> Busy {
        Busy::if_so(self.packer.step(&mut Links(outs)))
    }

    fn is_drained(&self) -> bool {
        self.packer.is_idle()
    }
}

/// What can be sent, to ask only.
struct Credits<'a>(&'a Outs);

/// The tile's out-links as the packer sees them.
struct Links<'a>(&'a mut Outs);

impl Credit for Credits<'_> {
    fn reply_credit(&self) -> u32 {
        self.0.credit(PACK_CONTROL)
    }
}

impl Credit for Links<'_> {
    fn reply_credit(&self) -> u32 {
        self.0.credit(PACK_CONTROL)
    }
}

impl Sink for Links<'_> {
    fn reply_mtu(&self) -> usize {
        self.0.mtu(PACK_CONTROL)
    }

    fn reply(&mut self, reply: &PackReply<'_>) {
        self.0.publish_with(PACK_CONTROL, Sig::from(reply.tag()), |slot| {
            reply.encode(slot).expect("pack_control's mtu holds every reply")
        });
    }

    fn store_credit(&self) -> u32 {
        self.0.credit(PACK_STORE)
    }

    fn store_mtu(&self) -> usize {
        self.0.mtu(PACK_STORE)
    }

    fn store(&mut self, frag: &SubtreeFrag<'_>) {
        self.0.publish_with(PACK_STORE, Sig::from(frag.tag()), |slot| {
            frag.encode(slot).expect("pack_store's mtu holds every frag")
        });
    }
}
