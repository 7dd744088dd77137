//! The layers: defaults, file, environment, flags; the later one wins, and every mistake is told at once.
//!
//! In: flags and variables. Out: the [`Config`] and, for every setting, which layer spoke last. A text that a later layer overrides
//! must still be sound: a wrong line in a file stays a mistake.

use super::flags::Flags;
use super::settings::{Config, SECTIONS, SETTINGS, Setting};
use super::{PREFIX, secret};
use crate::relay;
use std::path::{Path, PathBuf};

/// Which layer a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table.
    Default,
    /// The file.
    File(PathBuf),
    /// That variable.
    Variable(String),
    /// A flag.
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One mistake.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A text that its setting does not take.
    #[error("{what}: {why}")]
    Value {
        /// The setting, as this layer spells it.
        what: String,
        /// What was got and expected.
        why: String,
    },
    /// Nobody knows it.
    #[error("{what} is not a setting{hint}; `metanode config --default` lists them all")]
    Unknown {
        /// The key, as it was written.
        what: String,
        /// The nearest one, as a question.
        hint: String,
    },
    /// A name from the vPods' interface that this version does nothing with.
    #[error(
        "{name} is known but not implemented in this version: {why}; unset it, nothing would follow it"
    )]
    NotImplemented {
        /// The variable.
        name: String,
        /// What there is instead.
        why: &'static str,
    },
    /// A variable that Kubernetes injected.
    #[error(
        "{name}={value} looks like a service link of Kubernetes: set `enableServiceLinks: false` in the pod, or the variable itself"
    )]
    ServiceLink {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
    },
    /// A file that cannot be read, or is not TOML.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system or the parser said.
        why: String,
    },
}

/// Every mistake of a configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// What the layers gave.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Where each came from, in the order of [`SETTINGS`].
    pub origins: Vec<Origin>,
    /// What an operator should know and need not act on.
    pub notes: Vec<String>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// Names of the settings file in the environment.
const FILE_VARIABLES: [&str; 2] = ["METANODE_CONFIG", "METANODE_CUSTOM_CONFIG"];

/// Variables of this repository that are not settings of a node.
const OTHERS: [&str; 8] = [
    "METANODE_SEAL",
    "METANODE_SEED",
    "METANODE_SVNODE",
    "METANODE_BLESS",
    "METANODE_VECTORS",
    "METANODE_FLIPS",
    "METANODE_HOME",
    "METANODE_STRICT_ENV",
];

/// Names of the vPods' interface that stand for a part of a setting: variable, key, which part.
const PARTS: [(&str, &str, Part); 4] = [
    ("METANODE_RPC_HOST", "rpc.listen", Part::Host),
    ("METANODE_RPC_PORT", "rpc.listen", Part::Port),
    ("METANODE_METRICS_PORT", "ops.listen", Part::Port),
    ("METANODE_OPS_PORT", "ops.listen", Part::Port),
];

#[derive(Clone, Copy)]
enum Part {
    Host,
    Port,
}

/// Services of other containers: their variables are often in a shared environment.
const OTHER_ROLES: [&str; 4] = ["VALIDATOR_", "VALIDATION_", "AGREEMENT_", "IPFS_"];

/// Names of the vPods' interface, and what this version says to them.
const NOT_YET: [(&str, &str); 14] = [
    ("METANODE_ROLE", "this binary runs the whole node"),
    ("METANODE_BLOCKCHAIN_TYPE", "there is the native node only"),
    ("METANODE_BLOCKCHAIN_URL", "this binary is the node"),
    ("METANODE_CHAIN_ID", "the network names the chain"),
    ("METANODE_RPC_APIS", "the RPC is bitcoind's, in one namespace"),
    ("METANODE_MINING_ENABLED", "blocks are mined by request"),
    ("METANODE_BLOCK_TIME", "blocks are mined by request"),
    ("METANODE_CONSENSUS_ENABLED", "there is no co-signing"),
    ("METANODE_CACHE_SIZE", "METANODE_MEMORY bounds the whole process"),
    ("METANODE_BLOCK_CACHE", "METANODE_MEMORY bounds the whole process"),
    ("METANODE_STATE_CACHE", "METANODE_MEMORY bounds the whole process"),
    ("METANODE_GC_MODE", "every block is kept"),
    ("METANODE_TXN_POOL_SIZE", "METANODE_MEMORY bounds the pool"),
    ("METANODE_STARTUP_SCRIPT", "run it before the node"),
];

/// Whether Kubernetes made this variable of a Service whose name starts with `metanode-`.
pub(crate) fn is_service_link(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT") && (value.starts_with("tcp://") || value.starts_with("udp://")))
        || ["_TCP", "_UDP"].iter().any(|protocol| {
            name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
                rest.contains(protocol) && rest.starts_with(|c: char| c.is_ascii_digit())
            })
        })
}

/// The known name that is nearest to a wrong one, as a question; empty if none is near.
pub(crate) fn nearest(wrong: &str, known: impl Iterator<Item = String>) -> String {
    let scored = known.map(|name| (strsim::jaro_winkler(wrong, &name), name));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, name)) if score > 0.75 => format!("; did you mean {name}?"),
        _ => String::new(),
    }
}

struct Reading {
    loaded: Loaded,
    errors: Vec<ConfigError>,
}

/// Reads all layers.
pub(super) fn load(
    flags: &Flags,
    environment: &[(String, String)],
) -> Result<Loaded, ConfigErrors> {
    let file = flags.config.clone().or_else(|| {
        let named = FILE_VARIABLES
            .iter()
            .find_map(|name| environment.iter().find(|(n, v)| n == name && !v.is_empty()));
        named.map(|(_, value)| PathBuf::from(value))
    });
    let mut reading = Reading {
        loaded: Loaded {
            config: Config::default(),
            origins: vec![Origin::Default; SETTINGS.len()],
            notes: Vec::new(),
            file: file.clone(),
        },
        errors: Vec::new(),
    };
    if let Some(path) = &file {
        reading.file(path);
    }
    reading.environment(environment);
    for (index, text) in &flags.given {
        let what = format!("--{}", SETTINGS[*index].flag());
        reading.set(*index, text, Origin::Flag, what);
    }
    for (index, setting) in SETTINGS.iter().enumerate() {
        // A default may depend on the process: a home directory that is not there.
        if reading.loaded.origins[index] == Origin::Default {
            reading.set(index, setting.default, Origin::Default, setting.key());
        }
    }
    reading.unused();
    if reading.errors.is_empty() { Ok(reading.loaded) } else { Err(ConfigErrors(reading.errors)) }
}

impl Reading {
    fn set(&mut self, index: usize, text: &str, origin: Origin, what: String) {
        match (SETTINGS[index].set)(&mut self.loaded.config, text) {
            Ok(()) => self.loaded.origins[index] = origin,
            Err(why) => self.errors.push(ConfigError::Value { what, why }),
        }
    }

    /// Notes what was set and changes nothing.
    fn unused(&mut self) {
        if self.loaded.config.bfr.is_on() {
            return;
        }
        let given = SETTINGS.iter().zip(&self.loaded.origins);
        let given = given.filter(|(s, o)| s.section == "bfr" && **o != Origin::Default);
        let keys: Vec<String> =
            given.filter(|(s, _)| s.name != "peers").map(|(s, _)| s.key()).collect();
        if !keys.is_empty() {
            let note =
                format!("{}: no relay runs, because bfr.peers names nobody", keys.join(", "));
            self.loaded.notes.push(note);
        }
    }

    fn file(&mut self, path: &Path) {
        let fail = |why| ConfigError::File { path: path.to_owned(), why };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.errors.push(fail(error.to_string())),
        };
        if let Err(why) = secret::not_writable_by_all(path) {
            self.errors.push(fail(why));
        }
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return self.errors.push(fail(error.to_string().trim().to_owned())),
        };
        for (key, value) in &table {
            match value {
                toml::Value::Table(rows) if SECTIONS.iter().any(|s| s.name == key) => {
                    for (name, value) in rows {
                        self.file_row(path, key, name, value);
                    }
                }
                value => self.file_row(path, "node", key, value),
            }
        }
    }

    fn file_row(&mut self, path: &Path, section: &str, name: &str, value: &toml::Value) {
        let written = if section == "node" { name.to_owned() } else { [section, name].join(".") };
        let what = format!("{}: {written}", path.display());
        let index = SETTINGS.iter().position(|s| s.section == section && s.name == name);
        let Some(index) = index else {
            let sections = SECTIONS.iter().map(|s| format!("[{}]", s.name));
            let keys = SETTINGS.iter().map(Setting::key);
            let hint = if value.is_table() {
                nearest(&format!("[{name}]"), sections)
            } else {
                nearest(&written, keys)
            };
            return self.errors.push(ConfigError::Unknown { what, hint });
        };
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            list @ toml::Value::Array(_) => list.to_string(),
            other => {
                let why = format!(
                    "got a TOML {}, expected a string, a number or a boolean: {}",
                    other.type_str(),
                    SETTINGS[index].form()
                );
                return self.errors.push(ConfigError::Value { what, why });
            }
        };
        self.set(index, &text, Origin::File(path.to_owned()), what);
    }

    fn environment(&mut self, environment: &[(String, String)]) {
        // A whole setting first, then variables that are parts of one.
        for (name, value) in environment {
            self.variable(name, value);
        }
        for (variable, key, part) in PARTS {
            let Some((_, value)) = environment.iter().find(|(n, v)| n == variable && !v.is_empty())
            else {
                continue;
            };
            if is_service_link(variable, value) {
                continue;
            }
            let Some(index) = SETTINGS.iter().position(|s| s.key() == key) else { continue };
            let now = (SETTINGS[index].get)(&self.loaded.config);
            let (host, port) = now.rsplit_once(':').unwrap_or((&now, ""));
            let text = match part {
                Part::Host if value.contains(':') => format!("[{value}]:{port}"),
                Part::Host => format!("{value}:{port}"),
                Part::Port => format!("{host}:{value}"),
            };
            self.set(index, &text, Origin::Variable(variable.to_owned()), variable.to_owned());
        }
    }

    fn variable(&mut self, name: &str, value: &str) {
        let rest = name.strip_prefix(PREFIX).unwrap_or(name);
        let setting = SETTINGS.iter().position(|s| s.variable() == name);
        let is_part = PARTS.iter().any(|(variable, _, _)| *variable == name);
        if is_service_link(name, value) {
            if setting.is_some() || is_part {
                let (name, value) = (name.to_owned(), value.to_owned());
                self.errors.push(ConfigError::ServiceLink { name, value });
            } else {
                self.loaded.notes.push(format!("{name} is a service link of Kubernetes: ignored"));
            }
            return;
        }
        // Empty is unset, as compose files write it.
        let known =
            value.is_empty() || is_part || OTHERS.contains(&name) || FILE_VARIABLES.contains(&name);
        match setting {
            _ if known => {}
            Some(index) => {
                self.set(index, value, Origin::Variable(name.to_owned()), name.to_owned());
            }
            None if OTHER_ROLES.iter().any(|role| rest.starts_with(role))
                || relay::settings::is_variable(name) =>
            {
                self.loaded.notes.push(format!("{name} belongs to another service: ignored"));
            }
            None => self.errors.push(match NOT_YET.iter().find(|(n, _)| *n == name) {
                Some((_, why)) => ConfigError::NotImplemented { name: name.to_owned(), why },
                None => ConfigError::Unknown {
                    what: name.to_owned(),
                    hint: nearest(name, SETTINGS.iter().map(Setting::variable)),
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metanode.toml");
        std::fs::write(&path, text).expect("a file");
        (folder, path)
    }

    fn flag(key: &str, text: &str) -> (usize, String) {
        let index = SETTINGS.iter().position(|s| s.key() == key).expect("a setting");
        (index, text.to_owned())
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn said(result: Result<Loaded, ConfigErrors>) -> String {
        result.expect_err("a mistake").to_string()
    }

    #[test]
    fn a_later_layer_wins_and_the_origin_says_which_it_was() {
        let (_folder, path) = file(
            "network = \"testnet\"\n[rpc]\nlisten = \"127.0.0.1:1\"\nuser = \"f\"\ncalls_max = 3\n",
        );
        let flags = Flags { config: Some(path.clone()), given: vec![flag("rpc.user", "flag")] };
        let environment =
            variables(&[("METANODE_RPC_LISTEN", "127.0.0.1:2"), ("METANODE_RPC_USER", "env")]);
        let loaded = load(&flags, &environment).expect("sound layers");
        let config = &loaded.config;
        assert_eq!(config.node.network, consensus::params::Network::Test);
        assert_eq!(config.rpc.listen.port(), 2);
        assert_eq!(config.rpc.user.as_deref(), Some("flag"));
        assert_eq!(config.rpc.calls_max, 3);
        let origin = |key| &loaded.origins[flag(key, "").0];
        assert_eq!(*origin("network"), Origin::File(path));
        assert_eq!(*origin("rpc.listen"), Origin::Variable("METANODE_RPC_LISTEN".into()));
        assert_eq!(*origin("rpc.user"), Origin::Flag);
        assert_eq!(*origin("rpc.batch_max"), Origin::Default);
    }

    #[test]
    fn a_key_nobody_knows_is_refused_with_the_nearest_and_all_mistakes_come_at_once() {
        let (_folder, path) =
            file("netwrok = \"regtest\"\n[rpc]\nlisten = 7\nuzer = \"x\"\n[rcp]\nuser = \"x\"\n");
        let flags = Flags { config: Some(path), given: vec![flag("log.level", "loud")] };
        let text =
            said(load(&flags, &variables(&[("METANODE_RPC_LISTN", "x"), ("METANODE_QQQ", "1")])));
        for wanted in [
            "netwrok is not a setting; did you mean network?",
            "rpc.listen: got `7`, expected ADDRESS:PORT",
            "rpc.uzer is not a setting; did you mean rpc.user?",
            "rcp is not a setting; did you mean [rpc]?",
            "METANODE_RPC_LISTN is not a setting; did you mean METANODE_RPC_LISTEN?",
            "METANODE_QQQ is not a setting;",
            "--log-level: got `loud`, expected LEVELS",
        ] {
            assert!(text.contains(wanted), "{wanted}\nis not in\n{text}");
        }
        assert_eq!(text.lines().count(), 7, "{text}");
    }

    #[test]
    fn names_of_the_vpods_are_taken_refused_or_passed_over_by_name() {
        let taken = variables(&[
            ("METANODE_RPC_HOST", "0.0.0.0"),
            ("METANODE_RPC_PORT", "18332"),
            ("METANODE_METRICS_PORT", "9999"),
            ("METANODE_VALIDATOR_MODE", "full"),
            ("METANODE_DATA_DIR", ""),
            ("METANODE_UI_SERVICE_HOST", "10.0.0.1"),
            ("METANODE_UI_PORT_80_TCP_ADDR", "10.0.0.1"),
        ]);
        let loaded = load(&Flags::default(), &taken).expect("all of them are known");
        assert_eq!(loaded.config.rpc.listen.to_string(), "0.0.0.0:18332");
        assert_eq!(loaded.config.ops.listen.to_string(), "127.0.0.1:9999");
        assert_eq!(loaded.notes.len(), 3, "{:?}", loaded.notes);

        let refused = said(load(&Flags::default(), &variables(&[("METANODE_GC_MODE", "full")])));
        assert!(refused.contains("known but not implemented"), "{refused}");
        let link = variables(&[("METANODE_RPC_PORT", "tcp://10.0.0.7:8545")]);
        let refused = said(load(&Flags::default(), &link));
        assert!(refused.contains("enableServiceLinks"), "{refused}");
    }

    #[test]
    fn peers_come_from_tables_or_a_variable_and_a_relay_without_them_is_told() {
        let key = "ab".repeat(32);
        let peer = |name: &str| format!("name = \"{name}\"\npublic_key = \"{key}\"\n");
        let text = format!("[bfr]\nlisten = \"127.0.0.1:0\"\n[[bfr.peers]]\n{}", peer("b"));
        let (_folder, path) = file(&text);
        let flags = Flags { config: Some(path), given: Vec::new() };
        let loaded = load(&flags, &[]).expect("sound");
        assert!(loaded.config.bfr.is_on() && loaded.notes.is_empty(), "{:?}", loaded.notes);
        assert_eq!(loaded.config.bfr.peers.0[0].name, "b");
        let inline = format!("[{{name = \"c\", public_key = \"{key}\"}}]");
        let set = variables(&[
            ("METANODE_BFR_PEERS", &inline),
            ("METANODE_BFR_CONTROL_LISTEN", "127.0.0.1:9000"),
        ]);
        let loaded = load(&flags, &set).expect("sound");
        assert_eq!(loaded.config.bfr.peers.0[0].name, "c", "a variable stands for all of them");
        assert_eq!(loaded.notes.len(), 1, "a relay of its own has settings a node has not");

        let alone = load(&Flags::default(), &variables(&[("METANODE_BFR_MEMORY", "1M")]));
        let notes = alone.expect("sound").notes;
        assert!(notes[0].contains("bfr.memory: no relay runs"), "{notes:?}");
        let said = load(&Flags::default(), &variables(&[("METANODE_BFR_LISTN", "x")]));
        let said = said.expect_err("a mistake").to_string();
        assert!(said.contains("did you mean METANODE_BFR_LISTEN?"), "{said}");
    }

    #[test]
    fn a_file_that_is_missing_or_no_toml_is_told_with_its_path() {
        let flags = |path: PathBuf| Flags { config: Some(path), given: Vec::new() };
        let text = said(load(&flags("/no/such/file.toml".into()), &[]));
        assert!(text.starts_with("/no/such/file.toml: "), "{text}");
        let (_folder, path) = file("network = \n");
        assert!(said(load(&flags(path), &[])).contains("line 1"));
    }
}
