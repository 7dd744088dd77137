//! The journal: what a shard has done, on the disk, epoch by epoch.
//!
//! A shard writes [`Record`]s into its log; the log seals them into frames; frames go into segment files one behind the other. An
//! epoch is on the disk when the frame that closes it, and all before, were synced. docs/journal.md draws all of it as bytes.

mod frame;
mod log;
mod record;
mod scan;
mod writer;

pub use frame::{BLOCK_BYTES, FRAME_BYTES, FrameFault, FrameHead};
pub(crate) use log::Log;
pub use log::{LOG_BLOCKS, LOG_BLOCKS_MIN, LogCounts, LogStart};
pub use record::*;
pub(crate) use scan::*;
pub use scan::{Cuts, walk_bytes};
pub use writer::{Health, WriterCounts, is_full};
pub(crate) use writer::{Segment, Writer, WriterStart};
