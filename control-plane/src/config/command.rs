//! `metanode config`: the manual as a file, or what is in effect here and why.

use super::flags::Flags;
use super::settings::SETTINGS;
use super::{load_or_exit, manual};
use clap::Args;
use load::evidence::Evidence;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;

/// Prints the settings in effect and where each came from; with --default the commented default file
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// The commented default file
    #[arg(long)]
    default: bool,
    /// One JSON object as the last line of stdout
    #[arg(long, conflicts_with = "default")]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// The command.
pub fn main(args: &ConfigArgs) -> ExitCode {
    let mut out = std::io::stdout().lock();
    if args.default {
        // A reader that went away has no use for the rest; so below.
        let _ = out.write_all(manual::file().as_bytes());
        return ExitCode::SUCCESS;
    }
    let loaded = match load_or_exit("config", &args.flags) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let rows = SETTINGS.iter().zip(&loaded.origins);
    if args.json {
        let mut evidence = Evidence::new("metanode-config/1", 0);
        let row = |(s, origin): (&super::Setting, &super::Origin)| {
            json!({
                "key": s.key(), "variable": s.variable(), "flag": format!("--{}", s.flag()),
                "value": (s.get)(&loaded.config), "default": s.default, "from": origin.to_string(),
                "form": s.form(),
            })
        };
        evidence.set("settings", rows.map(row).collect::<Value>());
        evidence.set("notes", loaded.notes.clone());
        let _ = writeln!(out, "{}", evidence.object(true));
        return ExitCode::SUCCESS;
    }
    for (setting, origin) in rows {
        let value = (setting.get)(&loaded.config);
        let _ = writeln!(out, "{:<26} {:<28} {origin}", setting.key(), value);
    }
    for note in &loaded.notes {
        let _ = writeln!(out, "note: {note}");
    }
    ExitCode::SUCCESS
}
