//! `metanode topo`: the machine as it would be built here: tiles, links, cores, and who gets how much memory.

use crate::config::value::Durability;
use crate::config::{self, Flags};
use crate::memory;
use crate::topology::{self, Ingest, Shape};
use clap::Args;
use dataplane::topo::Layout;
use std::process::ExitCode;

/// Prints tiles, links, cores and memory of the machine
#[derive(Args, Debug)]
pub struct TopoArgs {
    /// A graph in the language of Graphviz
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// The command.
pub fn main(args: &TopoArgs) -> ExitCode {
    let loaded = match config::load_or_exit("topo", &args.flags) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let cores = config::cores(&loaded.config);
    let layout = Layout::for_cores(cores);
    // A graph has no memory; it is drawn for layouts of any size.
    let (memory, refusal) = match memory::division(&loaded.config, &layout) {
        Ok(division) => (Some(division), None),
        Err(error) => (None, Some(error)),
    };
    let durable = loaded.config.node.durability != Durability::None;
    let arenas = memory.as_ref().map_or_else(Default::default, |m| m.arenas);
    let relay = loaded.config.bfr.is_on();
    let shape = Shape { ingest: Ingest::Control, store: true, durable, relay };
    match topology::node_with(&layout, shape, arenas).plan() {
        Ok(plan) => {
            let text = match (args.dot, args.json) {
                (true, _) => plan.dot(),
                (_, true) => {
                    let mut object = plan.json();
                    object["memory"] = memory.as_ref().map(memory::Division::json).into();
                    object.to_string()
                }
                _ => match &memory {
                    Some(division) => format!("{}\n\n{division}", plan.to_string().trim_end()),
                    None => plan.to_string(),
                },
            };
            println!("{}", text.trim_end());
            match refusal {
                // What was asked for is refused; what this host happens to have is only told.
                Some(error) if !args.dot => {
                    eprintln!("topo: {error}");
                    ExitCode::from(u8::from(loaded.config.node.memory.is_some()))
                }
                _ => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            eprintln!("topo: the table for {cores} cores is refused: {error}");
            ExitCode::FAILURE
        }
    }
}
