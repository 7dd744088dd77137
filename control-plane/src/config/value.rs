//! Values of settings: one text form each, the same in the file, the environment and a flag.
//!
//! In: the text of a setting. Out: the typed value, or a sentence about what was expected. Sizes are bytes with K, M, G or T (powers of
//! 1024), durations say their unit, and an empty text leaves an optional setting unset.

use consensus::params::Network;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Something a setting can be.
pub trait Value: Sized {
    /// What to write, as help and error texts call it.
    const FORM: &'static str;
    /// Reads the text.
    fn parse(text: &str) -> Result<Self, String>;
    /// The text that reads as this value.
    fn show(&self) -> String;
}

fn expected<T: Value>(text: &str) -> String {
    format!("got `{text}`, expected {}", T::FORM)
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];

impl Value for Size {
    const FORM: &'static str = "SIZE (bytes, or with K, M, G, T: 512M, 4G)";

    fn parse(text: &str) -> Result<Self, String> {
        let upper = text.trim().to_ascii_uppercase();
        let bare = upper.strip_suffix("IB").or(upper.strip_suffix('B')).unwrap_or(&upper);
        let (digits, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| bare.strip_suffix(unit).map(|digits| (digits, *shift)))
            .unwrap_or((bare, 0));
        let number: u64 = digits.trim().parse().map_err(|_| expected::<Self>(text))?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is more than 2^64 bytes"))
    }

    fn show(&self) -> String {
        let fits = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match UNITS.iter().find(|(_, shift)| fits(*shift)) {
            Some((unit, shift)) => format!("{}{unit}", self.0 >> shift),
            None => self.0.to_string(),
        }
    }
}

impl Value for Duration {
    const FORM: &'static str = "DURATION (500ms, 10s, 5m)";

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("", 1_000)];
        for (unit, ms) in units {
            let Some(digits) = text.strip_suffix(unit) else { continue };
            let Ok(number) = digits.trim().parse::<u64>() else { continue };
            return number
                .checked_mul(ms)
                .map(Self::from_millis)
                .ok_or_else(|| format!("`{text}` is too long"));
        }
        Err(expected::<Self>(text))
    }

    fn show(&self) -> String {
        match self.as_millis() {
            ms if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
            ms => format!("{ms}ms"),
        }
    }
}

impl Value for bool {
    const FORM: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(expected::<Self>(text)),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! from_str {
    ($($ty:ty: $form:literal),* $(,)?) => {
        $(impl Value for $ty {
            const FORM: &'static str = $form;
            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| expected::<Self>(text))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}

from_str! {
    u16: "a NUMBER up to 65535",
    u32: "a NUMBER",
    u64: "a NUMBER",
    usize: "a NUMBER",
    SocketAddr: "ADDRESS:PORT (127.0.0.1:8545; port 0 takes a free one)",
}

impl Value for Network {
    const FORM: &'static str = "NETWORK (mainnet, testnet, stn, regtest, teratestnet or tstn)";

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|network| network.name() == text.trim())
            .ok_or_else(|| expected::<Self>(text))
    }

    fn show(&self) -> String {
        self.name().to_owned()
    }
}

impl Value for PathBuf {
    const FORM: &'static str = "PATH (~ is the home directory)";

    fn parse(text: &str) -> Result<Self, String> {
        let rest = match text {
            "" => return Err(expected::<Self>(text)),
            "~" => Some(""),
            _ => text.strip_prefix("~/"),
        };
        let Some(rest) = rest else { return Ok(Self::from(text)) };
        match std::env::var_os("HOME") {
            Some(home) if !home.is_empty() => Ok(Self::from(home).join(rest)),
            _ => Err(format!("`{text}` needs HOME, which is not set: write the whole path")),
        }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for String {
    const FORM: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl<T: Value> Value for Option<T> {
    const FORM: &'static str = T::FORM;

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" | "auto" => Ok(None),
            text => T::parse(text).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Value for LogFormat {
    const FORM: &'static str = "FORMAT (text or json)";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(expected::<Self>(text)),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
        .to_owned()
    }
}

/// What the node promises about transactions it has accepted and that no block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: there is no journal. Coins are rebuilt from the blocks at each start, the pool is dropped.
    None,
    /// A journal is written, and nobody waits for it.
    Async,
    /// A journal is written, and whoever asks waits for it; subtrees leave only when it holds them.
    Epoch,
}

impl Value for Durability {
    const FORM: &'static str = "DURABILITY (none, async or epoch)";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "none" => Ok(Self::None),
            "async" => Ok(Self::Async),
            "epoch" => Ok(Self::Epoch),
            _ => Err(expected::<Self>(text)),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::None => "none",
            Self::Async => "async",
            Self::Epoch => "epoch",
        }
        .to_owned()
    }
}

/// What is logged: a level, and levels for single modules.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    text: String,
    filter: tracing_subscriber::filter::Targets,
}

impl Levels {
    /// What the subscriber asks.
    pub fn filter(&self) -> &tracing_subscriber::filter::Targets {
        &self.filter
    }
}

/// Crates whose modules are named in full; every other name is a module of the control plane.
const CRATES: [&str; 7] =
    ["control_plane", "dataplane", "utxo_shard", "hwconfig", "hyper", "tower", "axum"];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Value for Levels {
    const FORM: &'static str = "LEVELS (off, error, warn, info, debug, trace; for single modules: info,chain=debug,rpc=off)";

    fn parse(text: &str) -> Result<Self, String> {
        let mut full = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (module, level) = match part.split_once('=') {
                Some((module, level)) => (Some(module.trim()), level.trim()),
                None => (None, part),
            };
            if !LEVELS.contains(&level) {
                return Err(expected::<Self>(text));
            }
            full.push(match module {
                None => level.to_owned(),
                Some("") => return Err(expected::<Self>(text)),
                Some(m) if CRATES.contains(&m.split("::").next().unwrap_or_default()) => {
                    format!("{m}={level}")
                }
                Some(m) => format!("control_plane::{m}={level}"),
            });
        }
        let filter = full.join(",").parse().map_err(|_| expected::<Self>(text))?;
        Ok(Self { text: text.trim().to_owned(), filter })
    }

    fn show(&self) -> String {
        self.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_show_in_the_largest_whole_unit() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("1000", 1_000, "1000"),
            ("512M", 512 << 20, "512M"),
            ("4 GiB", 4 << 30, "4G"),
            ("1536k", 1_536 << 10, "1536K"),
            ("2048MB", 2 << 30, "2G"),
        ] {
            let size = Size::parse(text).expect(text);
            assert_eq!((size.0, size.show().as_str()), (bytes, shown), "{text}");
            assert_eq!(Size::parse(&size.show()), Ok(size));
        }
        for wrong in ["", "-1", "4X", "G", "1.5G", "99999999999T"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_say_their_unit_and_a_bare_number_is_seconds() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("10", 10_000), ("2m", 120_000)] {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(Duration::from_millis(1_500).show(), "1500ms");
        for wrong in ["", "s", "5x", "-1s"] {
            assert!(Duration::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_module_of_the_control_plane_needs_no_prefix() {
        use tracing::Level;
        let levels = Levels::parse("warn, chain=debug, hyper=off").expect("sound");
        let on = |target, level| levels.filter().would_enable(target, &level);
        assert!(on("control_plane::chain", Level::DEBUG));
        assert!(on("control_plane::chain::files", Level::DEBUG));
        assert!(!on("control_plane::rpc", Level::INFO));
        assert!(on("control_plane::rpc", Level::WARN));
        assert!(!on("hyper::proto", Level::ERROR));
        for wrong in ["loud", "chain=", "=info", "info,chain=blue"] {
            assert!(Levels::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_text_or_auto_leaves_an_optional_setting_unset() {
        assert_eq!(Option::<Size>::parse(""), Ok(None));
        assert_eq!(Option::<Size>::parse("auto"), Ok(None));
        assert_eq!(Option::<Size>::parse("1K"), Ok(Some(Size(1_024))));
    }
}
