//! `metanode`: one binary, one command each.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use control_plane::{
    config, demo, dump, hw, load, relay, run, top, topo, utxo, verify_block, verify_sigs, version,
};
use std::process::ExitCode;

/// The heap of every core can be closed once the machine runs.
#[global_allocator]
static HEAP: dataplane::mem::seal::SealedHeap = dataplane::mem::seal::SealedHeap;

/// A UTXO node whose cores each own a slice of the UTXO set
#[derive(Parser, Debug)]
#[command(name = "metanode", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::RunArgs),
    Config(config::ConfigArgs),
    Top(top::TopArgs),
    Dump(dump::DumpArgs),
    Version(version::VersionArgs),
    Demo(demo::DemoArgs),
    VerifyBlock(verify_block::VerifyBlockArgs),
    VerifySigs(verify_sigs::VerifySigsArgs),
    Topo(topo::TopoArgs),
    Hw(hw::HwArgs),
    Load(load::LoadArgs),
    Utxo(utxo::UtxoArgs),
    Relay(relay::RelayArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Config(args) => config::main(&args),
        Command::Top(args) => top::main(&args),
        Command::Dump(args) => dump::main(&args),
        Command::Version(args) => version::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::VerifyBlock(args) => verify_block::main(&args),
        Command::VerifySigs(args) => verify_sigs::main(&args),
        Command::Topo(args) => topo::main(&args),
        Command::Hw(args) => hw::main(&args),
        Command::Load(args) => load::main(&args),
        Command::Utxo(args) => utxo::main(&args),
        Command::Relay(args) => relay::main(&args),
    }
}
