//! Repository commands: `cargo xtask setup`, `cargo xtask test [PART...]`, `cargo xtask tidy`.
//!
//! What comes in is the checkout; what goes out is a verdict about it that a person and CI read the same way: one line a
//! part with its seconds, then `N passed, N failed, N skipped` alone on a line. Uses nothing but `std`, so that the first
//! command on a fresh machine compiles in a second. The machine's packages are one table (`setup.rs`), the parts of the
//! test run another (`parts.rs`), and the rules about the sources a third (`tidy.rs`).

#![forbid(unsafe_code)]

mod counts;
mod crash;
mod fuzz_sig;
mod hostile;
mod mutants_sig;
mod need;
mod net;
mod parts;
mod rate;
mod run;
mod setup;
mod through;
mod tidy;
mod tree;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  setup            install what the test run needs and this machine lacks
  test             every part, in order; exit code 1 when one fails
  test PART...     these parts only
  test --list      the parts, what each runs and needs
  fuzz-sig         compares the signature kernel with libsecp256k1: --cases N --seed S --json
  rate             accepted rates of SV Node and of ours: -n N --rounds N --json
  crash            a node killed under load: --rounds N --seed S --json
  hostile          a running node under hostile load: --minutes N --json
  net              every way to move packets, in network namespaces: --backend NAME --json
  mutants-sig      breaks the signature kernel everywhere and counts what its tests notice: --sample N --seed S --json
  tidy             the rules about sources, manifests and docs (also a part of `test`)
";

/// A subcommand: its name and what runs it. The whole list, nothing registers itself.
type Command = (&'static str, fn(&[String]) -> ExitCode);

const COMMANDS: [Command; 9] = [
    ("setup", setup::main),
    ("test", run::main),
    ("tidy", tidy::main),
    ("fuzz-sig", fuzz_sig::main),
    ("rate", rate::main),
    ("crash", crash::main),
    ("hostile", hostile::main),
    ("net", net::main),
    ("mutants-sig", mutants_sig::main),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    match COMMANDS.iter().find(|(command, _)| command == name) {
        Some((_, run)) => run(rest),
        None if ["--help", "-h", "help"].contains(&name.as_str()) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("xtask: unknown command `{name}`\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
