//! `metanode top`: where the time of a running node goes, tile by tile, link by link.
//!
//! It attaches to the files that a node keeps in its data directory (`metrics.words`, mapped read-only, and `metrics.json`, which says
//! where what stands) and shows the difference between two readings. The node does nothing for it and does not notice it. In: the data
//! directory. Out: one JSON object, one page of text, or a screen that is drawn again every second.
//!
//! How to read it: a tile that is always `processing` is the limit; one in `backpressure` waits for the one after it; one that has
//! `caught up` waits for the one before. A link whose depth is used up names its slowest reader.

mod attach;
mod reading;
mod screen;

pub use attach::{Attached, TopError};
pub use reading::{LinkRate, Reading, TileRate};

use crate::config::{self, Flags};
use clap::Args;
use load::evidence::Evidence;
use std::process::ExitCode;
use std::time::Duration;

/// The file of the counters, in the network's folder.
pub const WORDS_FILE: &str = "metrics.words";
/// The file that says where what stands in it.
pub const LAYOUT_FILE: &str = "metrics.json";

/// Shows where the time of a running node goes
#[derive(Args, Debug)]
pub struct TopArgs {
    /// One reading as text, then end
    #[arg(long, conflicts_with = "json")]
    once: bool,
    /// One reading as a JSON object, then end
    #[arg(long)]
    json: bool,
    /// Between two readings, milliseconds
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    interval_ms: u64,
    #[command(flatten)]
    flags: Flags,
}

/// The command.
pub fn main(args: &TopArgs) -> ExitCode {
    let loaded = match config::load_or_exit("top", &args.flags) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let node = &loaded.config.node;
    let folder = crate::datadir::folder(&node.data_dir, node.network);
    let interval = Duration::from_millis(args.interval_ms);
    let shown = Attached::open(&folder).and_then(|attached| {
        if args.once || args.json {
            Ok(Some(attached.over(interval)?))
        } else {
            screen::run(&attached, interval).map(|()| None)
        }
    });
    match shown {
        Ok(Some(reading)) if args.json => {
            let mut evidence = Evidence::new("metanode-top/1", 0);
            reading.fill(&mut evidence);
            evidence.finish(true, true)
        }
        Ok(Some(reading)) => {
            print!("{reading}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("top: {error}");
            ExitCode::FAILURE
        }
    }
}
