//! `bench`: everything that measures, compares or checks against the outside, one subcommand each.
//!
//! Each subcommand is a file of its own, takes `--json`, and ends with an evidence object (`load::evidence`).

#![forbid(unsafe_code)]

mod consensus;
mod crash;
mod emulate;
mod hostile;
mod instructions;
mod net;
mod nodes;
mod oracle;
mod pipeline;
mod rate;
mod relay;
mod ring;
mod rng;
mod sig_caches;
mod sigs;
mod sim;
mod storm;
mod utxo;
mod vectors;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Counts what sealed cores allocate.
#[global_allocator]
static HEAP: dataplane::mem::seal::SealedHeap = dataplane::mem::seal::SealedHeap;

#[derive(Parser)]
#[command(name = "bench", about = "Measures MetaNode and checks it against the outside world")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Walks a folder of test vectors and checks every row
    Vectors(vectors::Args),
    /// Compares fresh random scripts and spends with SV Node
    Oracle(oracle::Args),
    /// What the consensus rules cost, in nanoseconds and instructions
    Consensus(consensus::Args),
    /// Network namespaces joined by links with delay, loss and a rate
    Emulate(emulate::Args),
    /// Kills a node again and again under load, and holds what comes back against what was promised
    Crash(crash::Args),
    /// Accepted transactions a second, beside the roofline of the kernels
    Pipeline(pipeline::Args),
    Net(net::Args),
    /// A running node under everything that is no request, beside honest load
    Hostile(hostile::Args),
    /// Accepted transactions a second of SV Node and of ours, as a stranger's script sees them
    Rate(rate::Args),
    /// The race: our relay and what others do, over links that lose frames
    Relay(relay::Args),
    /// One node of the race; started by it
    #[command(hide = true)]
    RelayNode(relay::node::Args),
    /// A link beside rtrb, crossbeam and std: nanoseconds and instructions a message
    Ring(ring::Args),
    Sig(sigs::SigArgs),
    FuzzSig(sigs::FuzzArgs),
    /// Turns the real tiles in any order a seed says, and checks every verdict
    Sim(sim::Args),
    /// Rivals at the same moment, a chain without end, kills in the middle, against a running node
    Storm(storm::Args),
    Utxo(utxo::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Vectors(args) => vectors::main(&args),
        Command::Oracle(args) => oracle::main(&args),
        Command::Consensus(args) => consensus::main(&args),
        Command::Crash(args) => crash::main(&args),
        Command::Emulate(args) => emulate::main(&args),
        Command::Pipeline(args) => pipeline::main(&args),
        Command::Net(args) => net::main(&args),
        Command::Hostile(args) => hostile::main(&args),
        Command::Rate(args) => rate::main(&args),
        Command::Relay(args) => relay::main(&args),
        Command::RelayNode(args) => relay::node::main(&args),
        Command::Ring(args) => ring::main(&args),
        Command::Sig(args) => sigs::sig(&args),
        Command::FuzzSig(args) => sigs::fuzz(&args),
        Command::Sim(args) => sim::main(&args),
        Command::Storm(args) => storm::main(&args),
        Command::Utxo(args) => utxo::main(&args),
    }
}
