//! Configuration: one table of settings, four layers, one answer.
//!
//! In: defaults, a TOML file, `METANODE_*` variables, flags; each layer wins over the one before. Out: a [`Config`] and where each value
//! came from, or every mistake at once. A key nobody knows is refused with the nearest one that exists, because a setting that is
//! silently ignored is the worst kind of wrong. Secrets come from files only, so that no list of processes shows them.
//!
//! Read [`settings`] first (the table), then `layers`. `metanode config --default` prints the commented file, which is the manual.

mod command;
mod flags;
mod layers;
pub mod manual;
pub mod secret;
pub mod settings;
pub mod value;

pub use command::{ConfigArgs, main};
pub use flags::Flags;
pub use layers::{ConfigError, ConfigErrors, Loaded, Origin};
pub(crate) use layers::{is_service_link, nearest};
pub use settings::{Config, SETTINGS, Setting};

/// What every variable starts with.
pub const PREFIX: &str = "METANODE_";

/// The exit code of a process whose configuration is refused. Source: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// Reads all layers of this process: the file that `flags` or the environment name, its environment, `flags`.
pub fn load(flags: &Flags) -> Result<Loaded, ConfigErrors> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    layers::load(flags, &environment.collect::<Vec<_>>())
}

/// [`load`] for a command: prints the mistakes to stderr and says the exit code.
pub fn load_or_exit(command: &str, flags: &Flags) -> Result<Loaded, std::process::ExitCode> {
    load(flags).map_err(|errors| {
        for error in &errors.0 {
            eprintln!("{command}: {error}");
        }
        std::process::ExitCode::from(EXIT_CONFIG)
    })
}

/// Cores for tiles: those of the configuration, or all this process may use.
pub fn cores(config: &Config) -> usize {
    let here = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config.node.cores.unwrap_or_else(here).max(1)
}
