//! `metanode version`: what this binary is, which kernel does each job on this machine, and why that one.
//!
//! In: nothing. Out: the commit, the compiler, features, and for each job (signatures, hashes, huge pages, io_uring, wake-ups, clock)
//! the way that was chosen, the reason, and what else there is. It asks the same code that a node asks at its start.

use clap::Args;
use dataplane::time::HostClock;
use hwconfig::host::Host;
use hwconfig::inventory::Inventory;
use load::evidence::{self, Evidence};
use serde_json::{Value, json};
use sigbatch::{Backend, HashBackend, Hasher, Verifier};
use std::process::ExitCode;

/// Prints what this binary is, and which kernels it chooses here and why
#[derive(Args, Debug)]
pub struct VersionArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// How one job is done on this machine.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The job.
    pub job: &'static str,
    /// The way.
    pub name: String,
    /// Why that one.
    pub why: String,
    /// Other ways, and whether this machine could go them.
    pub others: Vec<(String, bool)>,
}

/// Every job with a choice.
pub fn kernels() -> Vec<Chosen> {
    let host = Host::real();
    let inventory = Inventory::read(&host);
    let signatures = Verifier::new();
    let hashes = Hasher::new();
    let others = |chosen: &str, all: Vec<(&str, bool)>| {
        let rest = all.into_iter().filter(|(name, _)| *name != chosen);
        rest.map(|(name, available)| (name.to_owned(), available)).collect()
    };
    let clock = HostClock::start();
    let (clock_name, clock_why) = if clock.uses_ticks() {
        (
            "tsc",
            "the kernel trusts the tick counter: it runs at one speed on every core, and reading it needs no call",
        )
    } else {
        ("clock_gettime", "the kernel does not trust the processor's tick counter here")
    };
    let (wake_name, wake_why) = if ring::park::Parker::new().uses_membarrier() {
        ("membarrier", "the kernel has it: a producer pays one relaxed load to wake nobody")
    } else {
        (
            "exchange",
            "membarrier is not permitted here: a producer pays one locked instruction a wake-up check",
        )
    };
    vec![
        Chosen {
            job: "signatures",
            name: signatures.kernel().name.to_owned(),
            why: signatures.kernel().why.to_owned(),
            others: others(
                signatures.backend().name(),
                Backend::ALL.map(|b| (b.name(), b.is_available())).to_vec(),
            ),
        },
        Chosen {
            job: "hashes",
            name: hashes.kernel().name.to_owned(),
            why: hashes.kernel().why.to_owned(),
            others: others(
                hashes.backend().name(),
                HashBackend::ALL.map(|b| (b.name(), b.is_available())).to_vec(),
            ),
        },
        huge_pages(&host, &inventory),
        Chosen {
            job: "io_uring",
            name: "none".to_owned(),
            why: format!("nothing of this version uses it (this kernel: {})", inventory.io_uring),
            others: vec![("io_uring".to_owned(), inventory.io_uring.starts_with("available"))],
        },
        Chosen {
            job: "wake-ups",
            name: wake_name.to_owned(),
            why: wake_why.to_owned(),
            others: Vec::new(),
        },
        Chosen {
            job: "clock",
            name: clock_name.to_owned(),
            why: clock_why.to_owned(),
            others: Vec::new(),
        },
    ]
}

/// Links and slabs ask for transparent huge pages; whether they get them is the kernel's to say.
fn huge_pages(host: &Host, inventory: &Inventory) -> Chosen {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let text = host.text(path).unwrap_or_default();
    let mode = text.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("absent");
    let (name, why) = match mode {
        "always" => ("transparent", "the kernel gives them to every large region"),
        "madvise" => ("transparent", "the kernel gives them to regions that ask, and links ask"),
        "never" => ("4 kB pages", "transparent huge pages are off"),
        _ => ("4 kB pages", "this kernel has no transparent huge pages"),
    };
    let pools = inventory.nodes.iter().flat_map(|node| &node.pools);
    let others = pools.map(|pool| (format!("reserved {} kB", pool.page_kb), pool.free > 0));
    Chosen {
        job: "huge pages",
        name: name.to_owned(),
        why: format!("{why} ({path}: {})", text.trim()),
        others: others.collect(),
    }
}

fn features() -> Vec<&'static str> {
    [("glommio", cfg!(feature = "glommio")), ("debug assertions", cfg!(debug_assertions))]
        .into_iter()
        .filter_map(|(name, on)| on.then_some(name))
        .collect()
}

/// The command.
pub fn main(args: &VersionArgs) -> ExitCode {
    let kernels = kernels();
    if !args.json {
        println!(
            "metanode {} ({}), {}, {}-{}",
            env!("CARGO_PKG_VERSION"),
            evidence::commit(),
            env!("BUILD_RUSTC"),
            std::env::consts::ARCH,
            std::env::consts::OS
        );
        for Chosen { job, name, why, others } in &kernels {
            println!("{job:<11} {name}: {why}");
            for (other, available) in others {
                println!(
                    "{:<11} not {other} ({})",
                    "",
                    if *available { "could" } else { "cannot" }
                );
            }
        }
        return ExitCode::SUCCESS;
    }
    let mut evidence = Evidence::new("metanode-version/1", 0);
    evidence.set("version", env!("CARGO_PKG_VERSION"));
    evidence.set("rustc", env!("BUILD_RUSTC"));
    evidence.set("target", format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS));
    evidence.set("features", features());
    let one = |k: &Chosen| {
        let others = k.others.iter().map(|(n, a)| json!({ "name": n, "available": a }));
        json!({ "job": k.job, "name": k.name, "why": k.why, "others": others.collect::<Value>() })
    };
    evidence.set("kernels", kernels.iter().map(one).collect::<Value>());
    evidence.finish(true, true)
}
