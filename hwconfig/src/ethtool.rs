//! Network cards over netlink: channels, rings, coalescing, offloads, the RSS table, XDP modes; and flow rules ([`crate::flows`]).
//!
//! In: a device and a group. Out: its attributes as words and values, the same ones a fixture holds as files. A group the
//! driver does not have reads as an error, which the host shows as "no attributes".
//!
//! Numbers of commands and attributes: Linux `include/uapi/linux/ethtool_netlink_generated.h` and `netdev.h`.

use crate::netlink::{Attributes, Family, NetlinkError, attributes, text_of, u32_at};
use std::collections::BTreeMap;

/// The groups a device may have.
pub const GROUPS: [&str; 6] = ["channels", "rings", "coalesce", "features", "rss", FLOWS];
/// The one group that is no part of netlink.
pub const FLOWS: &str = "ntuple";

const HEADER: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;

const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HW: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const BITSET_BITS: u16 = 3;
const BITSET_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

const RSS_GET: u8 = 38;
const RSS_SET: u8 = 48;
const RSS_INDIRECTION: u16 = 4;
/// Entries of an indirection table that are believed; cards have up to 2,048.
const RSS_ENTRIES_MAX: usize = 16_384;

const NETDEV_DEV_GET: u8 = 1;
const NETDEV_IFINDEX: u16 = 1;
const NETDEV_XDP_FEATURES: u16 = 3;

/// A group of plain numbers: its get command, its set command, and (attribute, name, width in bytes) of each.
struct Numbers {
    group: &'static str,
    get: u8,
    set: u8,
    rows: &'static [(u16, &'static str, u8)],
}

#[rustfmt::skip]
const NUMBERS: [Numbers; 3] = [
    Numbers { group: "channels", get: 17, set: 18, rows: &[
        (2, "rx-max", 4), (3, "tx-max", 4), (4, "other-max", 4), (5, "combined-max", 4),
        (6, "rx", 4), (7, "tx", 4), (8, "other", 4), (9, "combined", 4),
    ] },
    Numbers { group: "rings", get: 15, set: 16, rows: &[
        (2, "rx-max", 4), (5, "tx-max", 4), (6, "rx", 4), (9, "tx", 4),
    ] },
    Numbers { group: "coalesce", get: 19, set: 20, rows: &[
        (2, "rx-usecs", 4), (3, "rx-frames", 4), (6, "tx-usecs", 4), (7, "tx-frames", 4),
        (11, "adaptive-rx", 1), (12, "adaptive-tx", 1),
    ] },
];

fn about(device: &str) -> Attributes {
    let mut header = Attributes::default();
    header.text(HEADER_DEV_NAME, device);
    let mut ask = Attributes::default();
    ask.nested(HEADER, &header);
    ask
}

/// All attributes of a group of a device.
pub fn read(device: &str, group: &str) -> Result<BTreeMap<String, String>, NetlinkError> {
    let mut family = Family::open("ethtool")?;
    let mut found = BTreeMap::new();
    if let Some(numbers) = NUMBERS.iter().find(|numbers| numbers.group == group) {
        for answer in family.request(numbers.get, &about(device))? {
            for (kind, value) in attributes(&answer) {
                let row = numbers.rows.iter().find(|(number, _, _)| *number == kind);
                let Some((_, name, width)) = row else { continue };
                let value = match width {
                    1 => value.first().map(|byte| u32::from(*byte)),
                    _ => u32_at(value, 0),
                };
                if let Some(value) = value {
                    found.insert((*name).to_owned(), value.to_string());
                }
            }
        }
        return Ok(found);
    }
    if group == "features" {
        let mut changeable = Vec::new();
        let mut active = Vec::new();
        for answer in family.request(FEATURES_GET, &about(device))? {
            for (kind, value) in attributes(&answer) {
                match kind {
                    FEATURES_HW => changeable = set_bits(value),
                    FEATURES_ACTIVE => active = set_bits(value),
                    _ => {}
                }
            }
        }
        for name in active.iter().chain(&changeable) {
            let mut value = if active.contains(name) { "on" } else { "off" }.to_owned();
            if !changeable.contains(name) {
                value += " fixed";
            }
            found.insert(name.clone(), value);
        }
    }
    if group == "rss" {
        for answer in family.request(RSS_GET, &about(device))? {
            for (_, table) in attributes(&answer).filter(|(kind, _)| *kind == RSS_INDIRECTION) {
                let queues: Vec<String> = (0..table.len().min(4 * RSS_ENTRIES_MAX) / 4)
                    .filter_map(|entry| u32_at(table, 4 * entry))
                    .map(|queue| queue.to_string())
                    .collect();
                found.insert("table".to_owned(), queues.join(" "));
            }
        }
    }
    Ok(found)
}

/// Names of the bits that are set in a bitset that lists its bits.
fn set_bits(bitset: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    // A set without a mask lists only the bits that are set, without a value; one with a mask gives each its value.
    let no_mask = attributes(bitset).any(|(kind, _)| kind == 1);
    for (_, bits) in attributes(bitset).filter(|(kind, _)| *kind == BITSET_BITS) {
        for (_, bit) in attributes(bits).filter(|(kind, _)| *kind == BITSET_BIT) {
            let set = no_mask || attributes(bit).any(|(kind, _)| kind == BIT_VALUE);
            let name = attributes(bit).find(|(kind, _)| *kind == BIT_NAME);
            if let Some((_, name)) = name.filter(|_| set) {
                names.push(text_of(name));
            }
        }
    }
    names
}

/// Sets one attribute. Called by the module `write` only.
pub fn set(device: &str, group: &str, name: &str, value: &str) -> Result<(), NetlinkError> {
    let mut family = Family::open("ethtool")?;
    let mut ask = about(device);
    let command = match NUMBERS.iter().find(|numbers| numbers.group == group) {
        Some(numbers) => {
            let row = numbers.rows.iter().find(|(_, row, _)| *row == name);
            let (kind, _, width) = row.ok_or(NetlinkError::Answer("no such attribute"))?;
            let value: u32 = value.parse().map_err(|_| NetlinkError::Answer("not a number"))?;
            match width {
                1 => ask.bytes(*kind, &[value as u8]),
                _ => ask.number(*kind, value),
            };
            numbers.set
        }
        None if group == "features" => {
            let mut bit = Attributes::default();
            bit.text(BIT_NAME, name);
            if value == "on" {
                bit.bytes(BIT_VALUE, &[]);
            }
            let mut bits = Attributes::default();
            bits.nested(BITSET_BIT, &bit);
            let mut bitset = Attributes::default();
            bitset.nested(BITSET_BITS, &bits);
            ask.nested(FEATURES_WANTED, &bitset);
            FEATURES_SET
        }
        None if group == "rss" && name == "table" => {
            let mut table = Vec::new();
            for word in value.split_whitespace() {
                let queue: u32 = word.parse().map_err(|_| NetlinkError::Answer("not a queue"))?;
                table.extend_from_slice(&queue.to_ne_bytes());
            }
            ask.bytes(RSS_INDIRECTION, &table);
            RSS_SET
        }
        None => return Err(NetlinkError::Answer("no such group")),
    };
    family.request(command, &ask).map(drop)
}

/// The XDP modes of a device by its index: `basic redirect zerocopy ...`; `None` where the kernel does not tell.
pub fn xdp_modes(ifindex: u32) -> Option<Vec<&'static str>> {
    const MODES: [&str; 7] =
        ["basic", "redirect", "xmit", "zerocopy", "offload", "rx-sg", "xmit-sg"];
    let mut family = Family::open("netdev").ok()?;
    let mut ask = Attributes::default();
    ask.number(NETDEV_IFINDEX, ifindex);
    let answers = family.request(NETDEV_DEV_GET, &ask).ok()?;
    let bits = answers
        .iter()
        .flat_map(|answer| attributes(answer))
        .find(|(kind, _)| *kind == NETDEV_XDP_FEATURES)
        .and_then(|(_, value)| u32_at(value, 0))?;
    Some(
        MODES
            .iter()
            .enumerate()
            .filter(|(bit, _)| bits >> bit & 1 == 1)
            .map(|(_, name)| *name)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_of_this_machine_has_offloads_and_no_rings() {
        let features = read("lo", "features").expect("every kernel since 5.7 answers this");
        assert!(features.contains_key("tx-udp-segmentation"), "{features:?}");
        assert!(features.values().any(|value| value == "on fixed"), "{features:?}");
        assert!(read("lo", "rings").is_err());
        assert!(read("nosuchdevice", "features").is_err());
        assert!(set("lo", "rings", "nonsense", "1").is_err());
    }
}
