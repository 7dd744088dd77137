//! Every setting of a node, as one table.
//!
//! A row is a field of [`Config`]: its help, its type, its default. The key in the file (`rpc.listen`), the variable
//! (`METANODE_RPC_LISTEN`) and the flag (`--rpc-listen`) follow from its name; rows of `node` stand at the top of the file and have no
//! prefix. The rows of `bfr` are those of a relay of its own and stand with its settings. Nothing else knows a setting by name: the file, the environment, the flags, `metanode config` and docs/configuration.md
//! all walk [`SETTINGS`].

use super::value::{Durability, Levels, LogFormat, Size, Value};
use crate::relay::settings::{Peers, relay_rows};
use consensus::params::Network;
use relay::io::Backend;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One row.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Its section; `node` is the top of the file.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// What it does, a line each.
    pub help: &'static [&'static str],
    /// The text of its default.
    pub default: &'static str,
    /// What to write.
    pub form: &'static str,
    /// The least and the most, where there are bounds.
    pub range: Option<(&'static str, &'static str)>,
    /// Reads a text into a configuration.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
    /// The text of its value.
    pub get: fn(&Config) -> String,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.key())
    }
}

impl Setting {
    /// Its key in the file, with the section: `rpc.listen`.
    pub fn key(&self) -> String {
        self.joined(".")
    }

    /// Its variable: `METANODE_RPC_LISTEN`.
    pub fn variable(&self) -> String {
        format!("{}{}", super::PREFIX, self.joined("_").to_ascii_uppercase())
    }

    /// Its flag, without the dashes in front: `rpc-listen`.
    pub fn flag(&self) -> String {
        self.joined("-").replace('_', "-")
    }

    /// What to write, bounds included.
    pub fn form(&self) -> String {
        match self.range {
            Some((least, most)) => format!("{}, {least} to {most}", self.form),
            None => self.form.to_owned(),
        }
    }

    fn joined(&self, between: &str) -> String {
        match self.section {
            "node" => self.name.to_owned(),
            section => [section, self.name].join(between),
        }
    }
}

/// A section of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is about, a line each.
    pub help: &'static [&'static str],
}

/// A value between its bounds, or a sentence about them.
fn between<T: Value + PartialOrd>(value: T, least: &str, most: &str) -> Result<T, String> {
    let is_in = T::parse(least)? <= value && value <= T::parse(most)?;
    if is_in { Ok(value) } else { Err(format!("got {}, expected {least} to {most}", value.show())) }
}

/// The bounds of a row, if it has any.
const fn range_of(bounds: &[(&'static str, &'static str)]) -> Option<(&'static str, &'static str)> {
    match bounds {
        [range, ..] => Some(*range),
        [] => None,
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $about:literal])*
        $section:ident: $Section:ident {
            $( $(#[doc = $help:literal])* $field:ident: $ty:ty = $default:literal $(in $least:literal..=$most:literal)?, )*
        }
    )*) => {
        $(
            $(#[doc = $about])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $( $(#[doc = $help])* pub $field: $ty, )*
            }
        )*

        /// All settings of a node.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $( $(#[doc = $about])* pub $section: $Section, )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $( $section: $Section {
                        $( $field: <$ty as Value>::parse($default)
                            .or_else(|_| <$ty as Value>::parse($default.trim_start_matches("~/")))
                            .expect("a test reads every default of the table"), )*
                    }, )*
                }
            }
        }

        /// The sections, in the order of the file.
        pub const SECTIONS: &[Section] = &[
            $( Section { name: stringify!($section), help: &[$($about),*] }, )*
        ];

        /// The settings, in the order of the file.
        pub const SETTINGS: &[Setting] = &[
            $( $( Setting {
                section: stringify!($section),
                name: stringify!($field),
                help: &[$($help),*],
                default: $default,
                form: <$ty as Value>::FORM,
                range: range_of(&[$( ($least, $most) )?]),
                set: |config, text| {
                    let value = <$ty as Value>::parse(text)?;
                    $( let value = between(value, $least, $most)?; )?
                    config.$section.$field = value;
                    Ok(())
                },
                get: |config| config.$section.$field.show(),
            }, )* )*
        ];
    };
}

macro_rules! settings_and_relay {
    ([ $($relay:tt)* ] $($sections:tt)*) => {
        settings! {
            $($sections)*
            /// The relay inside the node: blocks and transactions go to and come from peers as packets. It runs where there are peers.
            bfr: BfrSettings {
                $($relay)*
                /// Whom it speaks with: `name`, `addr` (left out for a peer that only calls us), `public_key`, `trusted`, `rate_mbit`,
                /// `dedicated_line`, as `metanode relay config` explains. In the file also as `[[bfr.peers]]` tables.
                peers: Peers = "",
            }
        }
    };
}

relay_rows! { settings_and_relay!
    /// The node as a whole.
    node: NodeSettings {
        /// The chain. Peers come with a later version: for now every network but regtest gets its blocks through `submitblock`.
        network: Network = "regtest",
        /// Where the node keeps its files, in a folder named after the network. One process at a time.
        data_dir: PathBuf = "~/.metanode",
        /// What the whole process may use. Left out: four fifths of the cgroup's limit, or half of the machine's memory where
        /// there is none. `metanode topo` prints how it is divided.
        memory: Option<Size> = "",
        /// Whether the shards' memory is committed at start: then no request ever waits until the operating system has cleared a
        /// page, and the start takes 0.05 seconds a gigabyte, on a virtual machine whose host has not given the memory yet 3.
        populate: bool = "false",
        /// Cores for tiles. Left out: all this process may use.
        cores: Option<usize> = "",
        /// A layout printed by `metanode hw plan --json`: which core runs on which processor. Left out: the first processors this
        /// process may use, where there are enough of them.
        layout: Option<PathBuf> = "",
        /// Whether links live in files, so that `metanode dump` can read them while the node runs. Leave it off where every
        /// microsecond counts: file pages are small, and payload areas are then walked round instead of staying in the cache.
        map_links: bool = "false",
        /// Where those files lie, in a folder of this process; a tmpfs, or the disk is written to. Left out: /dev/shm.
        link_dir: Option<PathBuf> = "",
        /// What outlives a crash. `none`: blocks only; coins are rebuilt from them at each start, the pool is dropped. `async`: a
        /// journal is written, so coins and pool come back up to a moment before the crash. `epoch`: besides, `POST /tx?durable=1`
        /// answers once its transactions are on disk, and subtrees leave only then. See docs/operate/durability.md.
        durability: Durability = "epoch",
        /// How often the journals of all shards are synced together while something is logged. An idle node syncs nothing.
        epoch_period: Duration = "5ms",
        /// Bytes of journal after which every shard takes a checkpoint, beside its work, and its journal is cut. A start after a crash
        /// reads what is left of the journals: less is a faster start and more to write.
        journal_bytes: Size = "512M",
    }
    /// Log lines, on stderr. SIGHUP makes a running node read the level again.
    log: LogSettings {
        /// What is logged: a level, then levels of single modules: `info,chain=debug,rpc=off`.
        level: Levels = "info",
        /// `text` for people, `json` for machines: one object a line.
        format: LogFormat = "text",
    }
    /// Transactions by HTTP: `POST /tx` and `/txs` as Teranode takes them, `/v1/tx` and `/v1/txs` as ARC does.
    submit: SubmitSettings {
        /// Where it listens.
        listen: SocketAddr = "127.0.0.1:8833",
        /// Most bytes of one request's body; more is 413.
        body_bytes_max: Size = "32M",
        /// Most transactions of one request; more is 413.
        txs_max: usize = "1024" in "1"..="16384",
        /// Most connections at once; one more is closed at the door.
        connections_max: usize = "256" in "1"..="100000",
        /// Most bytes of the headers of a request; more is 431.
        header_bytes_max: Size = "16K" in "8K"..="1M",
        /// How long the headers of a request may take to arrive.
        header_timeout: Duration = "10s",
        /// How long its body may take; then 408.
        body_timeout: Duration = "10s",
        /// How long a connection may stay open between two requests.
        idle_timeout: Duration = "60s" in "100ms"..="24h",
        /// How long a client may leave an answer unread before its connection is cut.
        write_timeout: Duration = "10s" in "100ms"..="1h",
    }
    /// JSON-RPC as bitcoind and SV Node speak it.
    rpc: RpcSettings {
        /// Where it listens.
        listen: SocketAddr = "127.0.0.1:8545",
        /// The name that goes with the password of `password_file`.
        user: Option<String> = "",
        /// A file whose first line is the password. Secrets are taken from files only. Left out: a new cookie at each start.
        password_file: Option<PathBuf> = "",
        /// Where the cookie is written (`__cookie__:` and 64 hexadecimal digits). Left out: `.cookie` in the network's folder of
        /// the data directory, where `bitcoin-cli -datadir` looks for it.
        cookie_file: Option<PathBuf> = "",
        /// Most bytes of one request's body; more is 413. Blocks come as hexadecimal text.
        body_bytes_max: Size = "256M",
        /// Most calls of one batch.
        batch_max: usize = "1024" in "1"..="100000",
        /// Most connections at once; one more is closed at the door.
        connections_max: usize = "256" in "1"..="100000",
        /// Most calls that run at once; more wait.
        calls_max: usize = "64" in "1"..="10000",
        /// Most bytes of the headers of a request; more is 431.
        header_bytes_max: Size = "16K" in "8K"..="1M",
        /// How long the headers of a request may take to arrive.
        header_timeout: Duration = "10s",
        /// How long its body may take.
        body_timeout: Duration = "30s",
        /// How long a connection may stay open between two requests.
        idle_timeout: Duration = "60s" in "100ms"..="24h",
        /// How long a client may leave an answer unread before its connection is cut.
        write_timeout: Duration = "10s" in "100ms"..="1h",
    }
    /// Metrics and health: `/metrics`, `/health`, `/readiness`.
    ops: OpsSettings {
        /// Where it listens.
        listen: SocketAddr = "127.0.0.1:9545",
        /// Most bytes of one request's body.
        body_bytes_max: Size = "64K",
        /// Most connections at once; one more is closed at the door.
        connections_max: usize = "64" in "1"..="100000",
        /// Most bytes of the headers of a request; more is 431.
        header_bytes_max: Size = "16K" in "8K"..="1M",
        /// How long the headers of a request may take to arrive.
        header_timeout: Duration = "10s",
        /// How long its body may take.
        body_timeout: Duration = "10s",
        /// How long a connection may stay open between two requests.
        idle_timeout: Duration = "60s" in "100ms"..="24h",
        /// How long a client may leave an answer unread before its connection is cut.
        write_timeout: Duration = "10s" in "100ms"..="1h",
    }
    /// Blocks.
    chain: ChainSettings {
        /// Largest block that is taken; 0 for no limit. (SV Node: `-excessiveblocksize`)
        block_bytes_max: Size = "4G",
    }
    /// What is accepted into the pool. Blocks are judged by the rules of the network alone.
    policy: PolicySettings {
        /// Least fee, satoshi for 1,000 bytes. (SV Node: `-minminingtxfee`)
        fee_min_sat_per_kb: u64 = "1",
        /// A transaction pays nothing if it spends so many coins for each it makes, in number and in bytes of scripts; 0: every one pays.
        /// (SV Node: `-minconsolidationfactor`)
        consolidation_factor: u64 = "20",
        /// How deep in the chain each coin of such a transaction is. (SV Node: `-minconfconsolidationinput`)
        consolidation_confirmations_min: u32 = "6",
        /// Largest unlocking script of such a transaction. (SV Node: `-maxconsolidationinputscriptsize`)
        consolidation_script_bytes_max: Size = "150",
        /// Whether its coins may have any locking script. (SV Node: `-acceptnonstdconsolidationinput`)
        consolidation_non_standard: bool = "false",
        /// Largest transaction. (SV Node: `-maxtxsizepolicy`)
        tx_bytes_max: Size = "100000000",
        /// How long an orphan waits for its parents.
        orphan_age_max: Duration = "1200s",
    }
}

impl BfrSettings {
    /// Whether the node relays.
    pub fn is_on(&self) -> bool {
        !self.peers.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_reads_as_what_it_says() {
        for setting in SETTINGS {
            let mut config = Config::default();
            assert_eq!((setting.set)(&mut config, setting.default), Ok(()), "{setting:?}");
            if !setting.default.starts_with('~') {
                assert_eq!((setting.get)(&config), (setting.default), "{setting:?}");
            }
            assert!(!setting.help.is_empty(), "{setting:?} has no help");
        }
    }

    #[test]
    fn no_two_settings_share_a_key_a_variable_or_a_flag() {
        for name in [Setting::key, Setting::variable, Setting::flag] {
            let mut names: Vec<String> = SETTINGS.iter().map(name).collect();
            names.sort();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before);
        }
    }

    #[test]
    fn a_value_outside_of_its_bounds_is_refused_with_them() {
        let ranges = |setting: &&Setting| setting.range.is_some();
        assert!(SETTINGS.iter().filter(ranges).count() >= 10);
        for setting in SETTINGS.iter().filter(ranges) {
            let (least, most) = setting.range.expect("filtered");
            let mut config = Config::default();
            for inside in [least, most, setting.default] {
                assert_eq!((setting.set)(&mut config, inside), Ok(()), "{setting:?} {inside}");
            }
            let kept = config.clone();
            // Below the least of all of them, and above the most.
            let beyond = if setting.form.starts_with("DURATION") { "9999h" } else { "999999999" };
            for outside in ["0", beyond] {
                let told = (setting.set)(&mut config, outside).expect_err("it is outside");
                assert!(told.ends_with(&format!("expected {least} to {most}")), "{told}");
            }
            assert_eq!(config, kept, "and nothing has changed");
        }
    }

    #[test]
    fn every_default_that_listens_without_being_asked_listens_on_loopback() {
        let config = Config::default();
        for address in [config.submit.listen, config.rpc.listen, config.ops.listen] {
            assert!(address.ip().is_loopback(), "{address}");
        }
        assert!(!config.bfr.is_on(), "a relay needs peers, and those have keys");
    }
}
