//! `metanode hw`: check, apply and undo what the host has to offer; show it, and plan tiles onto it.
//!
//! In: flags, and a layout made by `hw plan --json` or from this binary's own topology. Out: what the crate `hwconfig` finds and does.
//! The shell line of every change is printed before it is made. Exit codes: 0 all is well, 1 something is off, 2 usage, 3 a
//! capability is missing and nothing was changed, 4 a stage failed and was taken back.

use crate::topology::{self, Ingest};
use clap::{Args, Subcommand};
use dataplane::topo::Place;
use hwconfig::demand::{Demand, Nic};
use hwconfig::host::Host;
use hwconfig::inventory::Inventory;
use hwconfig::journal::Entry;
use hwconfig::machine::{self, Exit, Options, StageReport};
use hwconfig::plan::{self, CoreDemand, Layout};
use hwconfig::stage::Stage;
use hwconfig::write::Capability;
use hwconfig::{persist, stages, state};
use load::evidence::Evidence;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Host tuning: check, apply, undo, plan, show
#[derive(Args, Debug)]
pub struct HwArgs {
    #[command(subcommand)]
    command: HwCommand,
}

#[derive(Subcommand, Debug)]
enum HwCommand {
    /// Says what is off and what a fix would gain; changes nothing, needs no privileges
    Check(HwOptions),
    /// Brings the host to what the node asks for; every change is printed, journaled and verified
    Apply(HwOptions),
    /// Puts back what was there before
    Undo(HwOptions),
    /// Prints which tile goes on which processor
    Plan(HwOptions),
    /// Prints what this host is
    Show(HwOptions),
}

/// Flags of all subcommands
#[derive(Args, Debug)]
struct HwOptions {
    /// A directory tree that stands for a host; nothing outside of it is touched
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Only this stage (may be repeated)
    #[arg(long = "stage", value_name = "NAME")]
    stages: Vec<String>,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
    /// A layout printed by `hw plan --json`; without it a plan is made
    #[arg(long, value_name = "FILE")]
    layout: Option<PathBuf>,
    /// Cores for tiles (default: as many as fit)
    #[arg(long)]
    cores: Option<usize>,
    /// A network card that the edge core reads from, how many of its queues, and the UDP port whose packets go to the first (the next
    /// port to the next queue); may be repeated, the first decides the place
    #[arg(long = "nic", value_name = "NAME[=QUEUES][@PORT]", value_parser = nic)]
    nics: Vec<Nic>,
    /// Size of huge pages in kB: 2048 or 1048576
    #[arg(long, default_value_t = 2048)]
    page_kb: u64,
    /// Mount a hugetlbfs for the pages
    #[arg(long)]
    huge_mounts: bool,
    /// Descriptors of a card's queue
    #[arg(long, default_value_t = 0)]
    ring_entries: u32,
    /// Put interrupts of the cards off: tiles poll
    #[arg(long)]
    busy_poll: bool,
    /// Take SMT siblings of tile processors offline
    #[arg(long)]
    offline_siblings: bool,
    /// A card with the default route may lose its link for a moment
    #[arg(long)]
    allow_link_flap: bool,
    /// Undo also what somebody else changed since
    #[arg(long)]
    force: bool,
    /// Also the systemd unit that applies at boot
    #[arg(long)]
    persist: bool,
    /// With `show`: every path and netlink attribute that a stage can write
    #[arg(long)]
    state: bool,
    /// Where the journal stands (default: /var/lib/metanode/hw)
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// `NAME[=QUEUES][@PORT]`.
fn nic(text: &str) -> Result<Nic, String> {
    let (rest, port) = text.rsplit_once('@').unwrap_or((text, "0"));
    let (name, queues) = rest.rsplit_once('=').unwrap_or((rest, "1"));
    match (queues.parse(), port.parse::<u16>()) {
        (Ok(queues @ 1..=4_096_u32), Ok(udp_port))
            if !name.is_empty() && u32::from(udp_port) + queues <= 1 << 16 =>
        {
            Ok(Nic { name: name.to_owned(), queues, udp_port })
        }
        _ => Err(format!(
            "got `{text}`, expected a card, 1 to 4096 queues and the UDP port of the first, as in eth0, eth0=4 or eth0=4@9999"
        )),
    }
}

/// What cannot be started, and the exit code that goes with it.
struct Refusal(Exit, String);

/// The command.
pub fn main(args: &HwArgs) -> ExitCode {
    let result = match &args.command {
        HwCommand::Check(options) => check(options),
        HwCommand::Apply(options) => apply(options),
        HwCommand::Undo(options) => undo(options),
        HwCommand::Plan(options) => show_plan(options),
        HwCommand::Show(options) => Ok(show(options)),
    };
    let exit = result.unwrap_or_else(|Refusal(exit, text)| {
        eprintln!("hw: {text}");
        exit
    });
    ExitCode::from(exit as u8)
}

impl HwOptions {
    fn host(&self) -> Host {
        self.root.clone().map_or_else(Host::real, Host::fixture)
    }

    fn chosen(&self) -> Result<Vec<&'static Stage>, Refusal> {
        stages::chosen(&self.stages).map_err(|text| Refusal(Exit::Usage, text))
    }

    fn options(&self) -> Options {
        Options {
            folder: self.state_dir.clone(),
            dry_run: self.dry_run,
            force: self.force,
            ..Options::default()
        }
    }

    /// The layout that was handed in, or a plan for this host.
    fn plan(&self, host: &Host) -> Result<Layout, Refusal> {
        let usage = |text: String| Refusal(Exit::Usage, text);
        if let Some(path) = &self.layout {
            return read_layout(path).map_err(usage);
        }
        let inventory = Inventory::read(host);
        let cores = self.cores.unwrap_or_else(|| plan::cores_that_fit(&inventory));
        make_plan(&inventory, cores, &self.nics, self.page_kb).map_err(usage)
    }

    fn demand(&self, host: &Host) -> Result<Demand, Refusal> {
        let mut demand = match self.plan(host) {
            Ok(layout) => layout.demand,
            // A host without a core to spare still has limits that can be checked.
            Err(Refusal(_, text))
                if self.cores.is_none() && self.layout.is_none() && self.nics.is_empty() =>
            {
                eprintln!("hw: no plan for tiles: {text}");
                Demand::default()
            }
            Err(refusal) => return Err(refusal),
        };
        demand.huge_mounts |= self.huge_mounts;
        demand.busy_poll |= self.busy_poll;
        demand.offline_siblings |= self.offline_siblings;
        demand.allow_link_flap |= self.allow_link_flap;
        demand.ring_entries = demand.ring_entries.max(self.ring_entries);
        Ok(demand)
    }

    /// Prints the object, or says the same to people.
    fn finish(&self, evidence: Evidence, exit: Exit, people: &str) -> Exit {
        let mut out = std::io::stdout().lock();
        let text = if self.json {
            evidence.object(exit == Exit::Ok).to_string()
        } else {
            people.to_owned()
        };
        // A reader that went away has no use for the rest.
        let _ = writeln!(out, "{}", text.trim_end());
        exit
    }
}

/// A layout that `hw plan --json` printed.
pub fn read_layout(path: &Path) -> Result<Layout, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| told(&error))?;
    let layout = value.get("layout").cloned().unwrap_or(value);
    serde_json::from_value(layout).map_err(|error| {
        format!("{} is not a layout of `metanode hw plan --json`: {error}", path.display())
    })
}

/// The processors of the topology's cores, in their order, if `layout` was made for this topology.
pub fn processors(layout: &Layout) -> Result<Vec<usize>, String> {
    let wanted = core_demands(layout.cores.len(), &[])?;
    for (core, (placed, wanted)) in layout.cores.iter().zip(&wanted).enumerate() {
        if placed.core != core || placed.tiles != wanted.tiles {
            return Err(format!(
                "core {core} of the layout runs {:?}, this version's topology of {} cores runs {:?} there; \
                 make a new one with `metanode hw plan --cores {1} --json`",
                placed.tiles,
                layout.cores.len(),
                wanted.tiles
            ));
        }
    }
    Ok(layout.cores.iter().map(|placed| placed.cpu as usize).collect())
}

/// What a node with that many cores asks of this host; nothing, where they do not fit.
pub fn demand_here(cores: usize) -> Demand {
    let plan = make_plan(&Inventory::read(&Host::real()), cores, &[], 2_048);
    plan.map(|layout| layout.demand).unwrap_or_default()
}

fn make_plan(
    inventory: &Inventory,
    cores: usize,
    nics: &[Nic],
    page_kb: u64,
) -> Result<Layout, String> {
    let asked = core_demands(cores, nics)?;
    if let Some(missing) =
        nics.iter().find(|nic| !inventory.nics.iter().any(|known| known.name == nic.name))
    {
        return Err(plan::PlanError::NoSuchNic(missing.name.clone()).to_string());
    }
    let mut layout = plan::plan(inventory, &asked, page_kb).map_err(|error| error.to_string())?;
    // The edge core reads all of them, and all queues of each.
    layout.demand.nics = nics.to_vec();
    Ok(layout)
}

/// What each core of the node's own topology runs and holds.
fn core_demands(cores: usize, nics: &[Nic]) -> Result<Vec<CoreDemand>, String> {
    let layout = dataplane::topo::Layout::for_cores(cores);
    let edge = layout.edge;
    let plan = topology::node(&layout, Ingest::Control, true)
        .plan()
        .map_err(|error| format!("the table for {cores} cores is refused: {error}"))?;
    let mut demands = vec![CoreDemand::default(); plan.cores];
    let core_of = |tile: usize| match plan.tiles[tile].place {
        Place::Core(core) => core,
        _ => edge,
    };
    for tile in &plan.tiles {
        if let Place::Core(core) = tile.place {
            demands[core].tiles.push(tile.label());
        }
    }
    // A link's memory is written by its producer, so it lives on the producer's node.
    for link in &plan.links {
        demands[core_of(link.producer.tile)].huge_bytes += link.bytes;
    }
    if let Some(nic) = nics.first() {
        demands[edge].nic = Some(nic.name.clone());
    }
    Ok(demands)
}

/// For a start of the node: what is off on this host, and what a fix would gain. Changes nothing.
pub fn advice(demand: &Demand) -> Vec<String> {
    let all = stages::chosen(&[]).unwrap_or_default();
    machine::check(&Host::real(), demand, &all)
        .iter()
        .filter(|stage| !stage.gain.is_empty())
        .map(|stage| format!("{}: {}; a fix gains {}", stage.name, stage.reason, stage.gain))
        .collect()
}

fn needs(needs: &[(Capability, String)]) -> Value {
    needs
        .iter()
        .map(|(capability, why)| json!({ "capability": capability.name(), "why": why }))
        .collect()
}

fn stages_json(stages: &[StageReport]) -> Value {
    let one = |stage: &StageReport| {
        json!({
            "name": stage.name, "state": stage.state.name(), "reason": stage.reason, "gain": stage.gain,
            "needs": needs(&stage.needs), "run": stage.run,
        })
    };
    stages.iter().map(one).collect()
}

fn stages_text(stages: &[StageReport]) -> String {
    let mut text = String::new();
    for stage in stages {
        text += &[
            &format!("{:<13} {:<12} ", stage.name, stage.state.name()),
            stage.reason.as_str(),
            "\n",
        ]
        .concat();
        if !stage.gain.is_empty() {
            text += &[&" ".repeat(27), "a fix gains: ", stage.gain, "\n"].concat();
        }
    }
    text
}

fn say_missing(missing: &[(Capability, String)]) {
    for (capability, why) in missing {
        eprintln!("hw: needs `{}` for `{why}`", capability.name());
    }
}

fn check(args: &HwOptions) -> Result<Exit, Refusal> {
    let host = args.host();
    let chosen = args.chosen()?;
    let mut evidence = Evidence::new("metanode-hw-check/1", 0);
    let stages = machine::check(&host, &args.demand(&host)?, &chosen);
    evidence.set("stages", stages_json(&stages));
    Ok(args.finish(evidence, machine::verdict(&stages), &stages_text(&stages)))
}

fn apply(args: &HwOptions) -> Result<Exit, Refusal> {
    let host = args.host();
    let chosen = args.chosen()?;
    let demand = args.demand(&host)?;
    let mut evidence = Evidence::new("metanode-hw-apply/1", 0);
    let mut log = std::io::stderr().lock();
    let failed = |error: &dyn std::fmt::Display| Refusal(Exit::Off, error.to_string());
    let mut applied = machine::apply(&host, &demand, &chosen, args.options(), &mut log)
        .map_err(|error| failed(&error))?;
    if args.persist && matches!(applied.exit, Exit::Ok | Exit::Off) {
        let capability = Capability::to_write(persist::KEY);
        if !args.dry_run && !capability.held(&host) {
            applied.missing.push((capability, "write the systemd unit".to_owned()));
            applied.exit = Exit::Privilege;
        } else {
            let program = std::env::current_exe().map_err(|error| failed(&error))?;
            let text = persist::unit(&program.display().to_string(), &again());
            let action = persist::apply(&host, &text, args.options(), &mut log)
                .map_err(|error| failed(&error))?;
            applied.actions.extend(action);
            let line = persist::boot_parameters(&demand.tile_cpus);
            let _ = writeln!(log, "enable it with: systemctl enable metanode-hw.service");
            if !line.is_empty() {
                let _ = writeln!(log, "boot with: {line}");
            }
            evidence.set("boot_parameters", line);
        }
    }
    say_missing(&applied.missing);
    let actions: Value = applied
        .actions
        .iter()
        .map(|action| {
            json!({
                "stage": action.stage, "path": action.path, "before": action.before,
                "after": action.after, "verified": action.verified,
            })
        })
        .collect();
    evidence.set("stages", stages_json(&applied.stages));
    evidence.set("actions", actions);
    evidence.set("missing", needs(&applied.missing));
    evidence.set("dry_run", args.dry_run);
    let people = format!("{}{} changes", stages_text(&applied.stages), applied.actions.len());
    Ok(args.finish(evidence, applied.exit, &people))
}

/// The flags of this run, for the unit's command line; `--persist` and what is only about printing are left out.
fn again() -> String {
    let mut text = String::new();
    let plain = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=,:".contains(&byte))
    };
    for word in std::env::args().skip_while(|word| word != "apply").skip(1) {
        if ["--persist", "--json", "--dry-run"].contains(&word.as_str()) {
            continue;
        }
        // systemd expands % and quotes; what is not a plain word is quoted and its specials doubled.
        text.push(' ');
        if plain(&word) {
            text += &word;
        } else {
            let escaped = word
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('%', "%%")
                .replace('$', "$$");
            text += &["\"", &escaped, "\""].concat();
        }
    }
    text
}

fn undo(args: &HwOptions) -> Result<Exit, Refusal> {
    let host = args.host();
    let chosen = args.chosen()?;
    let mut names: Vec<&str> = chosen.iter().map(|stage| stage.name).collect();
    if args.persist {
        names.push(persist::STAGE);
    }
    let mut evidence = Evidence::new("metanode-hw-undo/1", 0);
    let mut log = std::io::stderr().lock();
    let undone = machine::undo(&host, &names, &args.options(), &mut log)
        .map_err(|error| Refusal(Exit::Off, error.to_string()))?;
    if args.persist {
        let _ = writeln!(log, "take nohz_full= and rcu_nocbs= out of the boot parameters yourself");
    }
    say_missing(&undone.missing);
    let one = |entry: &Entry| json!({ "stage": entry.stage, "path": entry.path, "before": entry.before, "after": entry.after });
    let left: Vec<Value> = undone
        .left
        .iter()
        .map(|(entry, why)| json!({ "stage": entry.stage, "path": entry.path, "before": entry.before, "reason": why }))
        .collect();
    evidence.set("restored", undone.restored.iter().map(one).collect::<Value>());
    evidence
        .set("dropped_other_boot", undone.dropped_other_boot.iter().map(one).collect::<Value>());
    evidence.set("left", left);
    evidence.set("missing", needs(&undone.missing));
    let people = format!(
        "{} restored, {} dropped (an earlier boot), {} left",
        undone.restored.len(),
        undone.dropped_other_boot.len(),
        undone.left.len()
    );
    Ok(args.finish(evidence, undone.exit, &people))
}

fn show_plan(args: &HwOptions) -> Result<Exit, Refusal> {
    let layout = args.plan(&args.host())?;
    let mut evidence = Evidence::new("metanode-hw-plan/1", 0);
    let people = layout.to_string();
    evidence.set("layout", serde_json::to_value(&layout).unwrap_or_default());
    Ok(args.finish(evidence, Exit::Ok, &people))
}

fn show(args: &HwOptions) -> Exit {
    let host = args.host();
    let mut evidence = Evidence::new("metanode-hw-show/1", 0);
    if args.state {
        evidence.set("state", json!(state::state(&host)));
        return args.finish(evidence, Exit::Ok, &state::text(&host));
    }
    let inventory = Inventory::read(&host);
    let people = inventory.to_string();
    evidence.set("inventory", serde_json::to_value(&inventory).unwrap_or_default());
    args.finish(evidence, Exit::Ok, &people)
}
