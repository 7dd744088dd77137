//! Every setting of a relay, as one table.
//!
//! In: a TOML file and `METANODE_BFR_*` variables, which win over it. Out: [`RelaySettings`], or every mistake at once. A row's key is its
//! name in the file and, in capitals behind the prefix, its variable; peers are `[[peer]]` tables in the file, or a TOML array of such
//! tables in `METANODE_BFR_PEERS`, which stands for all of them; origins likewise. A name nobody knows is refused with the nearest one. Keys come from files.
//!
//! `metanode relay config` prints the commented file, which is the manual. Rows that a relay inside a node has as well (`[bfr]` of the node's
//! settings) stand in [`relay_rows`], once for both.

use crate::config::value::{Levels, LogFormat, Size, Value};
use crate::config::{is_service_link, nearest, secret};
use relay::PeerConfig;
use relay::engine::{Engine, EngineConfig, LinksConfig};
use relay::io::{Backend, IoOptions};
use relay::link::Keys;
use relay::node::standalone;
use relay::object::ObjectsConfig;
use relay::origin::OriginKeys;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What every variable starts with.
pub const PREFIX: &str = "METANODE_BFR_";
/// The variable that names the file.
const FILE_VARIABLE: &str = "METANODE_BFR_CONFIG";
/// The variable that stands for all peers.
const PEERS_VARIABLE: &str = "METANODE_BFR_PEERS";
/// The variable that stands for all origins.
const ORIGINS_VARIABLE: &str = "METANODE_BFR_ORIGINS";
/// Origins whose proofs count: a proof is tried against each.
const ORIGINS_MAX: usize = 64;
/// Peers of one relay.
pub const PEERS_MAX: usize = 256;
/// Longest name of a peer.
const NAME_BYTES_MAX: usize = 64;

struct Row {
    name: &'static str,
    help: &'static [&'static str],
    default: &'static str,
    form: &'static str,
    set: fn(&mut RelaySettings, &str) -> Result<(), String>,
}

impl Value for Backend {
    const FORM: &'static str = "BACKEND (udp or uring)";

    fn parse(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|backend| backend.name() == text.trim());
        known.ok_or_else(|| format!("got `{text}`, expected {}", Self::FORM))
    }

    fn show(&self) -> String {
        self.name().to_owned()
    }
}

/// Threads that move packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoThreads(pub usize);

impl Value for IoThreads {
    const FORM: &'static str = "COUNT (1 to 64; 0: one a core)";

    fn parse(text: &str) -> Result<Self, String> {
        let count = text.trim().parse().ok().filter(|count| *count <= relay::io::THREADS_MAX);
        count.map(Self).ok_or_else(|| format!("got `{text}`, expected {}", Self::FORM))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Somebody whose proofs count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginConfig {
    /// Its name in status.
    pub name: String,
    /// Its Ed25519 key.
    pub public_key: [u8; 32],
}

/// A compact target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits(pub u32);

impl Value for Bits {
    const FORM: &'static str = "BITS (8 hex digits)";

    fn parse(text: &str) -> Result<Self, String> {
        let bits = u32::from_str_radix(text.trim(), 16).ok().filter(|_| text.trim().len() == 8);
        bits.map(Self).ok_or_else(|| format!("got `{text}`, expected {}", Self::FORM))
    }

    fn show(&self) -> String {
        format!("{:08x}", self.0)
    }
}

/// Peers, as a TOML array of tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peers(pub Vec<PeerConfig>);

impl Value for Peers {
    const FORM: &'static str = "PEERS (a TOML array of tables: [{name = \"b\", addr = \"192.0.2.7:9333\", public_key = \"…\"}])";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let table: toml::Table =
            format!("peer = {text}").parse().map_err(|error: toml::de::Error| {
                format!("{}; expected {}", error.to_string().trim(), Self::FORM)
            })?;
        let mut errors = Vec::new();
        let peers = tables("peer", "peer", &table["peer"], &mut errors, peer);
        check_peers(&peers, &mut errors);
        if errors.is_empty() { Ok(Self(peers)) } else { Err(errors.join("; ")) }
    }

    fn show(&self) -> String {
        let row = |peer: &PeerConfig| {
            let mut row = toml::Table::new();
            row.insert("name".into(), peer.name.clone().into());
            row.extend(peer.addr.map(|addr| ("addr".into(), addr.to_string().into())));
            row.insert("public_key".into(), hex::encode(peer.public_key).into());
            row.insert("trusted".into(), peer.trusted.into());
            row.insert("rate_mbit".into(), i64::from(peer.rate_mbit).into());
            row.insert("dedicated_line".into(), peer.dedicated_line.into());
            toml::Value::Table(row)
        };
        if self.0.is_empty() {
            return String::new();
        }
        toml::Value::Array(self.0.iter().map(row).collect()).to_string()
    }
}

macro_rules! rows {
    ($( $(#[doc = $help:literal])* $field:ident: $ty:ty = $default:literal, )*) => {
        /// All settings of a relay.
        #[derive(Clone, Debug, PartialEq)]
        pub struct RelaySettings {
            $( $(#[doc = $help])* pub $field: $ty, )*
            /// Whom it speaks with.
            pub peers: Vec<PeerConfig>,
            /// Whose proofs count.
            pub origins: Vec<OriginConfig>,
        }

        impl RelaySettings {
            fn defaults() -> Result<Self, String> {
                Ok(Self {
                    $( $field: <$ty as Value>::parse($default)?, )*
                    peers: Vec::new(),
                    origins: Vec::new(),
                })
            }

            #[cfg(test)]
            fn shown(&self) -> Vec<String> {
                vec![$( self.$field.show(), )*]
            }
        }

        const ROWS: &[Row] = &[
            $( Row {
                name: stringify!($field),
                help: &[$($help),*],
                default: $default,
                form: <$ty as Value>::FORM,
                set: |settings, text| {
                    settings.$field = <$ty as Value>::parse(text)?;
                    Ok(())
                },
            }, )*
        ];
    };
}

/// Gives the rows that every relay has, by itself or inside a node, to the macro that is named, in brackets and before what stands behind
/// its name.
macro_rules! relay_rows {
    ($then:ident! $($rest:tt)*) => {
        $then! {
            [
                /// Where packets of peers arrive (UDP). On an IPv6 wildcard IPv4 arrives, too.
                listen: SocketAddr = "[::]:9333",
                /// The file with the relay's secret key, written by `metanode relay keygen`, rights 0600. Left out: `relay.key` in the data
                /// directory.
                key_file: Option<PathBuf> = "",
                /// How packets move; where this machine forbids `uring`, `udp` is used and the log says why.
                backend: Backend = "udp",
                /// Runs of packets travel through the kernel as one where it can.
                runs: bool = "true",
                /// What may leave to all peers together, in Mbit/s.
                rate_mbit: u32 = "10000",
                /// What objects under way may take, those of all peers together. Inside a node at most: it divides its memory.
                memory: Size = "512M",
                /// What transactions may take that are kept to fill up blocks and subtrees from: those of bundles, or those that the node
                /// accepted.
                txs_memory: Size = "128M",
                /// The largest object that is sent or taken, at most a quarter of `memory`.
                object_bytes_max: Size = "64M",
            ]
            $($rest)*
        }
    };
}
pub(crate) use relay_rows;

macro_rules! rows_of_its_own {
    ([ $($shared:tt)* ] $($own:tt)*) => { rows! { $($shared)* $($own)* } };
}

relay_rows! { rows_of_its_own!
    /// Where `relay send`, `relay status` and `relay reload` call (TCP). It must be a loopback address: whoever may read the cookie in the
    /// data directory may send.
    control_listen: SocketAddr = "127.0.0.1:9000",
    /// Where Prometheus reads counters (HTTP, `/metrics`). Left out: nowhere.
    metrics_listen: Option<SocketAddr> = "",
    /// Where the relay keeps its files. One process at a time.
    data_dir: PathBuf = "~/.metanode/relay",
    /// The file with the secret key that proves what is sent here, written by `metanode relay keygen --origin`, rights 0600. Relays that list
    /// its public key pass our objects on at once, whoever brings them. Left out: what is sent here carries no proof.
    origin_key_file: Option<PathBuf> = "",
    /// Sockets on the port, each with a thread of its own; the kernel gives each peer to one of them. With 1 the relay's thread moves the
    /// packets itself, which is faster until a core is full of them.
    io_threads: IoThreads = "1",
    /// Compact target that a block's header must meet to be worth passing on; a relay alone cannot know the chain's own. The default is
    /// difficulty 1; for regtest write 207fffff.
    floor_bits: Bits = "1d00ffff",
    /// Where received objects are written, each under its id. Left out: `inbox` in the data directory.
    inbox: Option<PathBuf> = "",
    /// Bytes of the inbox; what comes when it is full is counted and not written.
    inbox_bytes_max: Size = "4G",
    /// Files of the inbox.
    inbox_files_max: u32 = "100000",
    /// What is logged.
    log_level: Levels = "info",
    /// How log lines look.
    log_format: LogFormat = "json",
}

/// Keys of a `[[peer]]` table.
const PEER_KEYS: [(&str, &str); 6] = [
    ("name", "its name in status and logs"),
    ("addr", "ADDRESS:PORT where it listens; left out for a peer that only calls us"),
    ("public_key", "64 hex digits, as its `metanode relay keygen` printed them"),
    ("trusted", "its packets are passed on before the object is complete (false)"),
    ("rate_mbit", "what may be sent to it, in Mbit/s (1000)"),
    ("dedicated_line", "nobody else uses the line: never slow down for others (false)"),
];

/// Keys of an `[[origin]]` table.
const ORIGIN_KEYS: [(&str, &str); 2] = [
    ("name", "its name in status"),
    ("public_key", "64 hex digits, as its `metanode relay keygen --origin` printed them"),
];

/// Every mistake, a line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsErrors(pub Vec<String>);

impl RelaySettings {
    /// Reads the file and this process's environment.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsErrors> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Self::read(file, &variables.collect::<Vec<_>>())
    }

    fn read(file: Option<&Path>, variables: &[(String, String)]) -> Result<Self, SettingsErrors> {
        let mut errors = Vec::new();
        let mut settings = Self::defaults().map_err(|why| SettingsErrors(vec![why]))?;
        let named = variables.iter().find(|(n, v)| n == FILE_VARIABLE && !v.is_empty());
        let file = file.map(Path::to_owned).or_else(|| named.map(|(_, path)| path.into()));
        if let Some(path) = &file {
            settings.file(path, &mut errors);
        }
        for (name, value) in variables {
            settings.variable(name, value, &mut errors);
        }
        settings.check(&mut errors);
        if errors.is_empty() { Ok(settings) } else { Err(SettingsErrors(errors)) }
    }

    fn file(&mut self, path: &Path, errors: &mut Vec<String>) {
        let at = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return errors.push(format!("{at}: {error}")),
        };
        if let Err(why) = secret::not_writable_by_all(path) {
            errors.push(format!("{at}: {why}"));
        }
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return errors.push(format!("{at}: {}", error.to_string().trim())),
        };
        for (key, value) in &table {
            let what = format!("{at}: {key}");
            if key == "peer" {
                self.peers = tables("peer", &what, value, errors, peer);
                continue;
            }
            if key == "origin" {
                self.origins = tables("origin", &what, value, errors, origin);
                continue;
            }
            let Some(row) = ROWS.iter().find(|row| row.name == key) else {
                let known = ROWS
                    .iter()
                    .map(|row| row.name.to_owned())
                    .chain(["[[peer]]".into(), "[[origin]]".into()]);
                errors.push(unknown(&what, &nearest(key, known)));
                continue;
            };
            match text_of(value) {
                Some(text) => self.set(row, &what, &text, errors),
                None => errors.push(format!(
                    "{what}: got a TOML {}, expected {}",
                    value.type_str(),
                    row.form
                )),
            }
        }
    }

    fn variable(&mut self, name: &str, value: &str, errors: &mut Vec<String>) {
        // Empty is unset, as compose files write it; and Kubernetes makes variables of a Service called `metanode-bfr`.
        if value.is_empty() || name == FILE_VARIABLE || is_service_link(name, value) {
            return;
        }
        let of = [(PEERS_VARIABLE, "peer"), (ORIGINS_VARIABLE, "origin")];
        if let Some((_, kind)) = of.into_iter().find(|(variable, _)| *variable == name) {
            match format!("all = {value}").parse::<toml::Table>() {
                Ok(table) if kind == "peer" => {
                    self.peers = tables(kind, name, &table["all"], errors, peer);
                }
                Ok(table) => self.origins = tables(kind, name, &table["all"], errors, origin),
                Err(error) => errors.push(format!(
                    "{name}: {}; expected a TOML array of {kind} tables",
                    error.to_string().trim()
                )),
            }
            return;
        }
        if let Some(row) = ROWS.iter().find(|row| variable_of(row.name) == name) {
            return self.set(row, name, value, errors);
        }
        let known = ROWS
            .iter()
            .map(|row| variable_of(row.name))
            .chain([PEERS_VARIABLE.into(), ORIGINS_VARIABLE.into()]);
        errors.push(unknown(name, &nearest(name, known)));
    }

    fn set(&mut self, row: &Row, what: &str, text: &str, errors: &mut Vec<String>) {
        if let Err(why) = (row.set)(self, text) {
            errors.push(format!("{what}: {why}"));
        }
    }

    fn check(&self, errors: &mut Vec<String>) {
        if !self.control_listen.ip().is_loopback() {
            errors
                .push(format!("control_listen: {} is not a loopback address", self.control_listen));
        }
        let (object, memory) = (self.object_bytes_max.0, self.memory.0);
        if object > u64::from(u32::MAX) || object * 4 > memory {
            errors.push(format!(
                "object_bytes_max: {object} bytes, expected at most a quarter of memory ({memory} bytes)"
            ));
        }
        check_peers(&self.peers, errors);
        if self.origins.len() > ORIGINS_MAX {
            errors.push(format!("{} origins, at most {ORIGINS_MAX}", self.origins.len()));
        }
        for (i, origin) in self.origins.iter().enumerate() {
            if self.origins[..i].iter().any(|other| other.name == origin.name) {
                errors.push(format!("two origins are called `{}`", origin.name));
            }
            if OriginKeys::new(None, &[origin.public_key]).is_err() {
                let name = &origin.name;
                errors.push(format!(
                    "origin `{name}`: public_key: that is no Ed25519 key; expected what its `metanode relay keygen --origin` printed"
                ));
            }
        }
    }

    /// How to open the socket.
    pub fn io(&self) -> IoOptions {
        let threads = match self.io_threads.0 {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let threads = threads.min(relay::io::THREADS_MAX);
        IoOptions { threads, ..io_options(self.listen, self.runs) }
    }

    /// Whose proofs count, and the key that makes ours, which is read from its file.
    pub fn origin_keys(&self) -> Result<OriginKeys, String> {
        let own = self.origin_key_file.as_deref().map(super::keys::read_secret).transpose()?;
        let known: Vec<[u8; 32]> = self.origins.iter().map(|origin| origin.public_key).collect();
        OriginKeys::new(own.as_ref(), &known).map_err(|error| error.to_string())
    }

    /// An engine without peers.
    pub fn engine(&self, keys: Keys, seed: &[u8; 32]) -> Engine {
        let objects = object_limits(&keys, self.object_bytes_max.0, self.memory.0);
        let links = LinksConfig { total_mbit: self.rate_mbit, ..LinksConfig::default() };
        let lookups = standalone(self.txs_memory.0 as usize, self.floor_bits.0);
        Engine::new(EngineConfig { links, objects }, keys, lookups, seed, relay::node::now())
    }

    /// The file with the secret key.
    pub fn key_file(&self) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| self.data_dir.join("relay.key"))
    }

    /// Where `relay keygen --origin` writes.
    pub fn new_origin_key_file(&self) -> PathBuf {
        self.origin_key_file.clone().unwrap_or_else(|| self.data_dir.join("origin.key"))
    }

    /// Where received objects go.
    pub fn inbox(&self) -> PathBuf {
        self.inbox.clone().unwrap_or_else(|| self.data_dir.join("inbox"))
    }

    /// The cookie of the control connection.
    pub fn cookie_file(&self) -> PathBuf {
        self.data_dir.join("control.cookie")
    }
}

/// How to open a relay's socket.
pub(crate) fn io_options(listen: SocketAddr, runs: bool) -> IoOptions {
    IoOptions { gso: runs, gro: runs, ..IoOptions::at(listen) }
}

/// Limits of objects within so much memory.
pub(crate) fn object_limits(keys: &Keys, object_bytes_max: u64, memory: u64) -> ObjectsConfig {
    let own = keys.public().first_chunk().expect("a key has 32 bytes");
    ObjectsConfig {
        object_bytes_max: object_bytes_max as u32,
        bytes_max: memory as usize,
        bytes_per_peer_max: memory as usize / 4,
        seed: u64::from_le_bytes(*own),
        ..ObjectsConfig::default()
    }
}

/// Whether a variable is a setting of a relay of its own.
pub(crate) fn is_variable(name: &str) -> bool {
    name == FILE_VARIABLE
        || name == PEERS_VARIABLE
        || name == ORIGINS_VARIABLE
        || ROWS.iter().any(|row| variable_of(row.name) == name)
}

fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

fn unknown(what: &str, hint: &str) -> String {
    format!("{what} is not a setting of a relay{hint}; `metanode relay config` lists them all")
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

/// All tables of a kind, in order, without those that are not sound.
fn tables<T>(
    kind: &str,
    what: &str,
    value: &toml::Value,
    errors: &mut Vec<String>,
    one: fn(&str, &toml::Table, &mut Vec<String>) -> Option<T>,
) -> Vec<T> {
    let Some(rows) = value.as_array() else {
        errors.push(format!("{what}: expected [[{kind}]] tables"));
        return Vec::new();
    };
    let mut all = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        let what = format!("{what} {}", i + 1);
        if let Some(table) = row.as_table() {
            all.extend(one(&what, table, errors));
        } else {
            let got = row.type_str();
            errors.push(format!("{what}: got a TOML {got}, expected a table"));
        }
    }
    all
}

fn check_peers(peers: &[PeerConfig], errors: &mut Vec<String>) {
    if peers.len() > PEERS_MAX {
        errors.push(format!("{} peers, at most {PEERS_MAX}", peers.len()));
    }
    for (i, peer) in peers.iter().enumerate() {
        let before = &peers[..i];
        if before.iter().any(|other| other.name == peer.name) {
            errors.push(format!("two peers are called `{}`", peer.name));
        }
        if before.iter().any(|other| other.public_key == peer.public_key) {
            errors.push(format!("peer `{}` has the public key of another one", peer.name));
        }
    }
}

/// One peer; `None` and at least one error if it is not sound.
fn peer(what: &str, table: &toml::Table, errors: &mut Vec<String>) -> Option<PeerConfig> {
    let before = errors.len();
    let mut peer = PeerConfig {
        name: String::new(),
        addr: None,
        public_key: [0; 32],
        trusted: false,
        rate_mbit: 1_000,
        dedicated_line: false,
    };
    let mut has_key = false;
    for (key, value) in table {
        let Some(text) = text_of(value) else {
            errors.push(format!("{what}: {key}: got a TOML {}", value.type_str()));
            continue;
        };
        let set = match key.as_str() {
            "name" => {
                peer.name = text;
                Ok(())
            }
            "addr" => Value::parse(&text).map(|addr| peer.addr = addr),
            "public_key" => {
                has_key = true;
                super::keys::parse(&text).map(|bytes| peer.public_key = bytes)
            }
            "trusted" => Value::parse(&text).map(|yes| peer.trusted = yes),
            "rate_mbit" => Value::parse(&text).map(|rate| peer.rate_mbit = rate),
            "dedicated_line" => Value::parse(&text).map(|yes| peer.dedicated_line = yes),
            _ => {
                let known = PEER_KEYS.iter().map(|(name, _)| (*name).to_owned());
                errors.push(unknown(&format!("{what}: {key}"), &nearest(key, known)));
                continue;
            }
        };
        if let Err(why) = set {
            errors.push(format!("{what}: {key}: {why}"));
        }
    }
    if peer.name.is_empty() || peer.name.len() > NAME_BYTES_MAX {
        errors.push(format!("{what}: name: expected 1 to {NAME_BYTES_MAX} bytes"));
    }
    if !has_key {
        errors.push(format!("{what}: public_key is missing"));
    }
    if peer.rate_mbit == 0 {
        errors.push(format!("{what}: rate_mbit: got 0, expected at least 1"));
    }
    (errors.len() == before).then_some(peer)
}

/// One origin; `None` and at least one error if it is not sound.
fn origin(what: &str, table: &toml::Table, errors: &mut Vec<String>) -> Option<OriginConfig> {
    let before = errors.len();
    let (mut name, mut public_key) = (None, None);
    for (key, value) in table {
        match (key.as_str(), text_of(value)) {
            (_, None) => errors.push(format!("{what}: {key}: got a TOML {}", value.type_str())),
            ("name", Some(text)) => {
                name = Some(text).filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len()));
            }
            ("public_key", Some(text)) => match super::keys::parse(&text) {
                Ok(bytes) => public_key = Some(bytes),
                Err(why) => errors.push(format!("{what}: {key}: {why}")),
            },
            _ => {
                let known = ORIGIN_KEYS.iter().map(|(name, _)| (*name).to_owned());
                errors.push(unknown(&format!("{what}: {key}"), &nearest(key, known)));
            }
        }
    }
    if name.is_none() {
        errors.push(format!("{what}: name: expected 1 to {NAME_BYTES_MAX} bytes"));
    }
    if public_key.is_none() && errors.len() == before {
        errors.push(format!("{what}: public_key is missing"));
    }
    let origin = OriginConfig { name: name?, public_key: public_key? };
    (errors.len() == before).then_some(origin)
}

/// The commented file.
pub fn manual() -> String {
    let mut text = String::from(
        "# Settings of a relay: what stands commented out is the default. Variables of the same name win\n\
         # (METANODE_BFR_LISTEN); keys come from files only.\n",
    );
    for row in ROWS {
        text += "\n";
        for line in row.help {
            text += &format!("#{line}\n");
        }
        text += &format!("# {}\n", row.form);
        text += &format!("#{} = \"{}\"\n", row.name, row.default);
    }
    text += "\n# A peer; as many such tables as there are peers.\n#[[peer]]\n";
    for (name, help) in PEER_KEYS {
        text += &format!("#{name} = # {help}\n");
    }
    text += "\n# An origin whose proofs count; as many such tables as there are origins.\n#[[origin]]\n";
    for (name, help) in ORIGIN_KEYS {
        text += &format!("#{name} = # {help}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<RelaySettings, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, text).expect("a file");
        let variables: Vec<_> =
            variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        RelaySettings::read(Some(&path), &variables).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_variable_wins_over_the_file_and_the_file_over_the_default() {
        let text = format!(
            "listen = \"127.0.0.1:1\"\nrate_mbit = 5\nruns = false\n\
             [[peer]]\nname = \"b\"\naddr = \"10.0.0.2:9333\"\npublic_key = \"{KEY}\"\ntrusted = true\n"
        );
        let settings = read(&text, &[("METANODE_BFR_LISTEN", "[::1]:2")]).expect("sound");
        assert_eq!(settings.listen, "[::1]:2".parse().expect("an address"));
        assert_eq!((settings.rate_mbit, settings.runs), (5, false));
        assert_eq!(settings.control_listen.port(), 9_000);
        let peer = &settings.peers[0];
        assert_eq!((peer.name.as_str(), peer.trusted, peer.rate_mbit), ("b", true, 1_000));
        assert_eq!((peer.public_key[0], peer.public_key[31]), (0, 0xff));
        let link = ("METANODE_BFR_PORT_9333_UDP", "udp://10.0.0.1:9333");
        assert!(read(&text, &[link]).is_ok(), "what Kubernetes makes of a Service is no setting");
        let inline = format!("[{{name = \"c\", public_key = \"{KEY}\"}}]");
        let settings = read(&text, &[("METANODE_BFR_PEERS", &inline)]).expect("sound");
        assert_eq!(settings.peers.len(), 1, "the variable stands for all peers");
        assert_eq!((settings.peers[0].name.as_str(), settings.peers[0].addr), ("c", None));
    }

    #[test]
    fn names_nobody_knows_are_refused_with_the_nearest_and_all_mistakes_come_at_once() {
        let text = format!(
            "lisen = \"x\"\nrate_mbit = \"many\"\n\
             [[peer]]\nname = \"b\"\npublic_key = \"{KEY}\"\ntrustd = true\n[[peer]]\naddr = 1\n"
        );
        let said = read(&text, &[("METANODE_BFR_BAKEND", "udp")]).expect_err("mistakes");
        for wanted in [
            "did you mean listen?",
            "rate_mbit: got `many`",
            "did you mean trusted?",
            "did you mean METANODE_BFR_BACKEND?",
            "public_key is missing",
            "addr: got `1`",
        ] {
            assert!(said.contains(wanted), "{wanted} is not in:\n{said}");
        }
    }

    #[test]
    fn two_peers_are_two_and_control_stays_on_this_machine() {
        let one = format!("[[peer]]\nname = \"b\"\npublic_key = \"{KEY}\"\n");
        let said = read(&format!("{one}{one}"), &[]).expect_err("twice the same");
        assert!(said.contains("two peers are called `b`"), "{said}");
        assert!(said.contains("public key of another"), "{said}");
        let said = read("control_listen = \"0.0.0.0:9000\"", &[]).expect_err("not loopback");
        assert!(said.contains("loopback"), "{said}");
    }

    #[test]
    fn origins_are_known_by_their_keys_and_their_mistakes_are_told_too() {
        let point = OriginKeys::new(Some(&[5; 32]), &[]).expect("a key").public().expect("its own");
        let point = hex::encode(point);
        let text =
            format!("io_threads = 3\n[[origin]]\nname = \"miner\"\npublic_key = \"{point}\"\n");
        let settings = read(&text, &[]).expect("sound");
        assert_eq!(settings.io().threads, 3);
        assert_eq!(settings.origins[0].name, "miner");
        assert!(!settings.origin_keys().expect("known keys").signs());
        let inline = format!(
            "[{{name = \"b\", public_key = \"{point}\"}}, {{name = \"b\", publc_key = \"\"}}]"
        );
        let said = read(&text, &[("METANODE_BFR_ORIGINS", &inline)]).expect_err("a slip");
        assert!(said.contains("did you mean public_key?"), "{said}");
        let none = "02".repeat(32);
        let text = format!("io_threads = 65\n[[origin]]\nname = \"x\"\npublic_key = \"{none}\"\n");
        let said = read(&text, &[]).expect_err("no point of the curve");
        assert!(said.contains("no Ed25519 key") && said.contains("io_threads: got `65`"), "{said}");
        let text = "origin_key_file = \"/nowhere/origin.key\"\n";
        let said = read(text, &[]).expect("sound").origin_keys().expect_err("no such file");
        assert!(said.contains("relay keygen"), "{said}");
    }

    #[test]
    fn peers_of_a_node_are_read_as_they_are_shown() {
        let text = format!(
            "[{{name = \"b\", public_key = \"{KEY}\", addr = \"10.0.0.2:9333\", rate_mbit = 7}}]"
        );
        let peers = Peers::parse(&text).expect("sound");
        assert_eq!((peers.0[0].name.as_str(), peers.0[0].rate_mbit), ("b", 7));
        assert_eq!(Peers::parse(&peers.show()), Ok(peers.clone()));
        assert_eq!(Peers::parse(" ").map(|none| none.show()), Ok(String::new()));
        let twice = format!("[{0}, {0}]", &text[1..text.len() - 1]);
        let said = Peers::parse(&twice).expect_err("twice the same");
        assert!(said.contains("two peers are called `b`; peer `b` has"), "{said}");
        for wrong in ["7", "[7]", "[{name = \"b\"}]", "peers"] {
            assert!(Peers::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_manual_is_a_file_that_reads_as_the_defaults() {
        let manual = manual();
        let lines = manual.lines().take_while(|line| !line.starts_with("# A peer"));
        let lines = lines.filter_map(|line| line.strip_prefix('#'));
        let settings: Vec<&str> = lines.filter(|line| line.contains(" = ")).collect();
        let uncommented = settings.join("\n");
        assert_eq!(uncommented.lines().count(), ROWS.len());
        let settings = read(&uncommented, &[]).expect("the manual is sound");
        let defaults = RelaySettings::defaults().expect("defaults");
        assert_eq!(settings, defaults);
        assert_eq!(defaults.shown().len(), ROWS.len());
    }
}
