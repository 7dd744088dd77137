//! Flow rules of a network card (ntuple): which UDP port goes to which queue.
//!
//! In: a device. Out: its rules as words and values: `udp4-9999 = 3` sends UDP over IPv4 to port 9999 to queue 3; a rule of any other
//! shape is `rule-LOCATION` and its bytes, so that `show --state` sees it too. A card without rules answers with an error, which the
//! host shows as "no attributes". The kernel takes rules through an ioctl only, so this module holds the one `unsafe` of the crate.
//!
//! Layout and numbers: Linux `include/uapi/linux/ethtool.h`, `struct ethtool_rxnfc` and `struct ethtool_rx_flow_spec`.

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::net::{AddressFamily, SocketType, socket};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io::{Error, Result};
use std::ops::Range;

/// Rules that are believed; cards have up to 8,192.
const RULES_MAX: usize = 8_192;
/// Bytes of the name of a device, its last a zero. Source: `IFNAMSIZ`.
const NAME_BYTES: usize = 16;
const SIOCETHTOOL: Opcode = 0x8946;

const COUNT: u32 = 0x2e;
const GET: u32 = 0x2f;
const LIST: u32 = 0x30;
const DELETE: u32 = 0x31;
const INSERT: u32 = 0x32;

/// The message: its parts by their place.
const COMMAND: usize = 0;
const DATA: usize = 8;
const SPEC: Range<usize> = 16..184;
const RULE_COUNT: usize = 184;
const LOCATIONS: usize = 188;
const MESSAGE_BYTES: usize = 192 + 4 * RULES_MAX;
/// A rule: its parts, from the beginning of the message.
const FLOW_TYPE: usize = 16;
const FIELDS: usize = 16 + 4;
const MASKS: Range<usize> = 16 + 76..16 + 148;
const QUEUE: usize = 16 + 152;
const LOCATION: usize = 16 + 160;

/// The driver chooses the location; it says so in the answer to `COUNT`.
const ANY_LOCATION: u32 = u32::MAX;
const CHOOSES: u64 = 0x8000_0000;

/// Families of rules that are written: name, flow type, and where the destination port stands in fields and masks.
const FAMILIES: [(&str, u32, usize); 2] = [("udp4", 0x02, 10), ("udp6", 0x06, 34)];

/// A request with its answer.
struct Message(Vec<u8>);

impl Message {
    fn new(command: u32) -> Self {
        let mut message = Self(vec![0; MESSAGE_BYTES]);
        message.put(COMMAND, command);
        message
    }

    fn put(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(*self.0[at..].first_chunk().expect("inside the message"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(*self.0[at..].first_chunk().expect("inside the message"))
    }

    /// The insertion of a rule: this port of this family to a queue.
    fn rule(flow_type: u32, port_at: usize, port: u16, queue: u32, location: u32) -> Self {
        let mut message = Self::new(INSERT);
        message.put(FLOW_TYPE, flow_type);
        message.0[FIELDS + port_at..][..2].copy_from_slice(&port.to_be_bytes());
        message.0[MASKS.start + port_at..][..2].fill(0xff);
        message.0[QUEUE..][..8].copy_from_slice(&u64::from(queue).to_ne_bytes());
        message.put(LOCATION, location);
        message
    }

    /// Name and value of the rule in an answer.
    fn words(&self) -> (String, String) {
        for (family, flow_type, port_at) in FAMILIES {
            let mut masks = self.0[MASKS].to_vec();
            let exact = masks[port_at..][..2] == [0xff; 2];
            masks[port_at..][..2].fill(0);
            if self.u32(FLOW_TYPE) == flow_type && exact && masks.iter().all(|byte| *byte == 0) {
                let port = &self.0[FIELDS + port_at..][..2];
                let port = u16::from_be_bytes([port[0], port[1]]);
                return (format!("{family}-{port}"), self.u64(QUEUE).to_string());
            }
        }
        let bytes: Vec<String> = self.0[SPEC].iter().map(|byte| format!("{byte:02x}")).collect();
        (format!("rule-{}", self.u32(LOCATION)), bytes.concat())
    }

    /// Sends it to a device; the kernel writes its answer over it.
    fn send(&mut self, device: &str) -> Result<()> {
        if device.is_empty() || device.len() >= NAME_BYTES {
            return Err(Error::other(format!("`{device}` is no name of a device")));
        }
        let mut request = [0; 40];
        request[..device.len()].copy_from_slice(device.as_bytes());
        let address = self.0.as_mut_ptr().expose_provenance();
        request[NAME_BYTES..][..size_of::<usize>()].copy_from_slice(&address.to_ne_bytes());
        let through = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        // SAFETY: SIOCETHTOOL reads and writes one `struct ifreq` of 40 bytes, which `Ask` holds, and through the pointer in it one
        // `struct ethtool_rxnfc` with `rule_count` locations behind it: `self.0` is as large as it can be, because no request is made
        // with a count above RULES_MAX, lives beyond the call, and is borrowed by nobody else.
        unsafe { ioctl(through, Ask(request)) }?;
        Ok(())
    }
}

/// `struct ifreq` with a pointer to the message.
struct Ask([u8; 40]);

// SAFETY: the kernel gets a pointer to the 40 bytes of `struct ifreq` that SIOCETHTOOL expects, and may write them.
unsafe impl Ioctl for Ask {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        SIOCETHTOOL
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// What a card has room for, and the locations of its rules.
struct Rules {
    room: u32,
    chooses: bool,
    locations: Vec<u32>,
}

fn rules(device: &str) -> Result<Rules> {
    let mut count = Message::new(COUNT);
    count.send(device)?;
    let chooses = count.u64(DATA) & CHOOSES != 0;
    let rules = count.u32(RULE_COUNT);
    if rules as usize > RULES_MAX {
        return Err(Error::other(format!("{device} says that it has {rules} flow rules")));
    }
    let mut list = Message::new(LIST);
    list.put(RULE_COUNT, rules);
    list.send(device)?;
    let listed = (list.u32(RULE_COUNT) as usize).min(rules as usize);
    let locations = (0..listed).map(|n| list.u32(LOCATIONS + 4 * n)).collect();
    Ok(Rules { room: list.u64(DATA) as u32, chooses, locations })
}

fn rule_at(device: &str, location: u32) -> Result<Message> {
    let mut rule = Message::new(GET);
    rule.put(LOCATION, location);
    rule.send(device)?;
    Ok(rule)
}

/// All rules of a device, and `rules-max`: how many it has room for.
pub fn read(device: &str) -> Result<BTreeMap<String, String>> {
    let rules = rules(device)?;
    let mut found = BTreeMap::from([("rules-max".to_owned(), rules.room.to_string())]);
    for location in rules.locations {
        found.extend([rule_at(device, location)?.words()]);
    }
    Ok(found)
}

/// Sends `name` (`udp4-9999`) to a queue, or where every packet goes. Called by the module `write` only.
pub fn set(device: &str, name: &str, queue: Option<&str>) -> Result<()> {
    let parsed = name.split_once('-').and_then(|(family, port)| {
        let row = FAMILIES.iter().find(|row| row.0 == family)?;
        Some((row, port.parse::<u16>().ok()?))
    });
    let Some((&(_, flow_type, port_at), port)) = parsed else {
        return Err(Error::other(format!("`{name}` is no rule of ours")));
    };
    let before = rules(device)?;
    let mut taken = before.locations.clone();
    for &location in &before.locations {
        if rule_at(device, location)?.words().0 == name {
            let mut delete = Message::new(DELETE);
            delete.put(LOCATION, location);
            delete.send(device)?;
            taken.retain(|&other| other != location);
        }
    }
    let Some(queue) = queue else { return Ok(()) };
    let queue = queue.parse().map_err(|_| Error::other(format!("`{queue}` is no queue")))?;
    let free = || (0..before.room).rev().find(|location| !taken.contains(location));
    let location = if before.chooses { Some(ANY_LOCATION) } else { free() };
    let location = location.ok_or_else(|| {
        Error::other(format!("{device} has {} flow rules and room for no more", before.room))
    })?;
    Message::rule(flow_type, port_at, port, queue, location).send(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_as_the_kernel_s_header_lays_it_out_and_read_back() {
        let rule = Message::rule(2, 10, 9_999, 3, 7);
        let bytes = &rule.0;
        assert_eq!(bytes[..4], 0x32_u32.to_ne_bytes());
        assert_eq!(bytes[16..20], 2_u32.to_ne_bytes());
        assert_eq!(bytes[30..32], [0x27, 0x0f], "port 9999 in the network's order");
        assert_eq!(bytes[102..104], [0xff, 0xff], "all of its bits");
        assert_eq!(bytes[168..176], 3_u64.to_ne_bytes());
        assert_eq!(bytes[176..180], 7_u32.to_ne_bytes());
        let set = bytes.iter().filter(|byte| **byte != 0).count();
        assert_eq!(set, 8, "nothing else is asked for");
        assert_eq!(rule.words(), ("udp4-9999".to_owned(), "3".to_owned()));
        let rule = Message::rule(6, 34, 80, 0, 1);
        assert_eq!(rule.words(), ("udp6-80".to_owned(), "0".to_owned()));
    }

    #[test]
    fn a_rule_that_asks_for_more_than_a_port_is_no_rule_of_ours() {
        let mut rule = Message::rule(2, 10, 9_999, 3, 7);
        rule.0[MASKS.start] = 0xff;
        let (name, bytes) = rule.words();
        assert_eq!((name.as_str(), bytes.len()), ("rule-7", 2 * 168));
    }

    #[test]
    fn a_device_without_rules_says_so_and_a_name_that_is_none_is_not_asked() {
        const EOPNOTSUPP: i32 = 95;
        assert_eq!(read("lo").expect_err("lo").raw_os_error(), Some(EOPNOTSUPP));
        assert_eq!(
            set("lo", "udp4-9", Some("0")).expect_err("lo").raw_os_error(),
            Some(EOPNOTSUPP)
        );
        for name in ["", "a-name-that-is-too-long"] {
            assert!(read(name).is_err());
        }
        assert!(set("lo", "tcp4-9", Some("0")).is_err());
    }
}
