//! `metanode topo`: the machine as it would be built here, as a table, a graph or JSON.

use crate::topology::{self, Ingest};
use clap::Args;
use dataplane::topo::Layout;
use std::process::ExitCode;

/// Prints tiles, links, cores and memory of the machine
#[derive(Args, Debug)]
pub struct TopoArgs {
    /// Cores for tiles (default: all this process may use)
    #[arg(long)]
    pub cores: Option<usize>,
    /// A graph in the language of Graphviz
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// The command.
pub fn main(args: &TopoArgs) -> ExitCode {
    let cores = args
        .cores
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    match topology::node(&Layout::for_cores(cores), Ingest::Control, true).plan() {
        Ok(plan) => {
            let text = match (args.dot, args.json) {
                (true, _) => plan.dot(),
                (_, true) => plan.json().to_string(),
                _ => plan.to_string(),
            };
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("topo: the table for {cores} cores is refused: {error}");
            ExitCode::FAILURE
        }
    }
}
