//! Stages about network cards: queues, flow rules, rings, coalescing, offloads, polling. All over netlink but the rules, which have an
//! ioctl.

use crate::demand::{Demand, Nic};
use crate::ethtool::FLOWS;
use crate::host::Host;
use crate::stage::{Assessment, Stage, Verdict, Words};
use std::collections::BTreeMap;

/// Microseconds that a card may hold a packet back to save an interrupt.
const RX_USECS_MAX: u64 = 8;
/// Rounds without an interrupt, and nanoseconds until one after all: what busy polling wants.
const DEFER_HARD_IRQS: &str = "100";
const GRO_FLUSH_TIMEOUT_NS: &str = "200000";
/// Offloads that merge or split packets behind a tile's back. Bare names of netlink's features.
const OFF: [&str; 5] = [
    "rx-udp-gro-forwarding",
    "rx-gro-list",
    "rx-lro",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
];

type Attributes = BTreeMap<String, String>;

/// Goes through the cards of the demand; `flaps` stages leave a card with the default route alone unless allowed.
fn each_nic(
    host: &Host,
    demand: &Demand,
    group: &str,
    flaps: bool,
    assess: impl Fn(&Nic, &Attributes, &mut Assessment) -> Result<(), String>,
) -> Assessment {
    if demand.nics.is_empty() {
        return Assessment::nothing_asked("no network card is asked for");
    }
    let devices = host.network_devices();
    let routed = host.default_route_devices();
    let mut found = Assessment::default();
    let mut without = Vec::new();
    for nic in &demand.nics {
        let key = format!("netlink:{}/{group}", nic.name);
        if !devices.contains(&nic.name) {
            let reason = format!(
                "no network card is called `{}`; there are {}",
                nic.name,
                devices.join(", ")
            );
            found.off_for_good(&key, None, reason);
            continue;
        }
        let attributes = host.netlink(&nic.name, group);
        if attributes.is_empty() {
            without.push(nic.name.as_str());
            continue;
        }
        let from = found.findings.len();
        if let Err(absurd) = assess(nic, &attributes, &mut found) {
            return Assessment::unavailable(absurd);
        }
        if flaps && !demand.allow_link_flap && routed.contains(&nic.name) {
            for finding in
                found.findings[from..].iter_mut().filter(|finding| finding.want.is_some())
            {
                finding.want = None;
                finding.verdict = Verdict::OffForGood;
                finding.reason += "; the card carries the default route and would lose its link for a moment: \
                                   allow that with --allow-link-flap";
            }
        }
    }
    if found.findings.is_empty() && without.len() == demand.nics.len() {
        return Assessment::unavailable(format!("{} has no {group} to set", without.join(", ")));
    }
    found
}

fn number(nic: &Nic, attributes: &Attributes, name: &str) -> Result<Option<u64>, String> {
    attributes
        .get(name)
        .map(|text| {
            text.parse().map_err(|_| format!("{}: {name} is `{text}`, expected a number", nic.name))
        })
        .transpose()
}

fn keys(host: &Host, group: &str, names: &[&str]) -> Vec<String> {
    let mut keys = Vec::new();
    for device in host.network_devices() {
        let has = host.netlink(&device, group);
        let names = names
            .iter()
            .filter(|name| has.get(**name).is_some_and(|value| !value.ends_with("fixed")));
        keys.extend(names.map(|name| format!("netlink:{device}/{group}/{name}")));
    }
    keys
}

/// Queues.
pub const CHANNELS: Stage = Stage {
    name: "nic-channels",
    words: Words {
        what: "Gives the card as many queues as tiles read from it.",
        why: "A queue that no tile reads loses the packets that are hashed to it.",
        gain: "every packet reaches a tile that polls",
        risk: "Most drivers take the link down for a moment; a card with the default route needs --allow-link-flap.",
        undo: "The card gets its former number of queues.",
    },
    keys: |host| keys(host, "channels", &["combined", "rx", "tx"]),
    assess: |host, demand| {
        each_nic(host, demand, "channels", true, |nic, has, found| {
            let names: &[&str] = if number(nic, has, "combined-max")?.unwrap_or(0) > 0 {
                &["combined"]
            } else {
                &["rx", "tx"]
            };
            for name in names {
                let max = number(nic, has, &format!("{name}-max"))?.unwrap_or(0);
                let key = format!("netlink:{}/channels/{name}", nic.name);
                if u64::from(nic.queues) > max {
                    let reason = format!(
                        "{} has at most {max} {name} queues and {} tiles want one each",
                        nic.name, nic.queues
                    );
                    found.off_for_good(&key, has.get(*name).cloned(), reason);
                } else {
                    found.exact(
                        host,
                        &key,
                        &nic.queues.to_string(),
                        "one queue for each tile that reads",
                    );
                }
            }
            Ok(())
        })
    },
};

/// Which packet goes to which queue.
pub const RSS: Stage = Stage {
    name: "nic-rss",
    words: Words {
        what: "Spreads the RSS table evenly over the queues, and switches flow rules (ntuple) on where the card has them.",
        why: "A table left over from more queues sends packets to queues nobody reads; one that is uneven loads one tile.",
        gain: "an even load on the tiles that read",
        risk: "Needs Linux 6.17 to set the table over netlink; an older kernel refuses, which is told and left.",
        undo: "The table and the switch get their former values.",
    },
    keys: |host| {
        let mut all = keys(host, "rss", &["table"]);
        all.extend(keys(host, "features", &["rx-ntuple-filter"]));
        all
    },
    assess: |host, demand| {
        each_nic(host, demand, "features", false, |nic, has, found| {
            let key = format!("netlink:{}/rss/table", nic.name);
            if let Some(table) = host.read(&key) {
                let entries: Vec<u32> =
                    table.split_whitespace().filter_map(|word| word.parse().ok()).collect();
                let queues = nic.queues.max(1);
                let loads: Vec<usize> = (0..queues)
                    .map(|queue| entries.iter().filter(|entry| **entry == queue).count())
                    .collect();
                let inside = entries.iter().all(|entry| *entry < queues);
                let uneven = loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0);
                if inside && uneven <= 1 {
                    found.fine(&key, Some(table));
                } else {
                    let want: Vec<String> = (0..entries.len() as u32)
                        .map(|entry| (entry % queues).to_string())
                        .collect();
                    let why = "an even load on all queues";
                    found.exact_if(host, &key, &want.join(" "), why, Verdict::OffIfPossible);
                }
            }
            if has.get("rx-ntuple-filter").is_some_and(|value| value == "off") {
                let key = format!("netlink:{}/features/rx-ntuple-filter", nic.name);
                found.exact_if(
                    host,
                    &key,
                    "on",
                    "flow rules choose the queue",
                    Verdict::OffIfPossible,
                );
            }
            Ok(())
        })
    },
};

/// Flow rules.
pub const NTUPLE: Stage = Stage {
    name: "nic-ntuple",
    words: Words {
        what: "Sends the UDP port of each tile that reads packets to that tile's queue, over IPv4 and IPv6: a flow rule for each.",
        why: "RSS spreads packets by a hash that the sender chooses; a rule sends what belongs to a tile to its queue and nothing else.",
        gain: "a packet is read by the tile it is for, whoever sent it",
        risk: "A card has room for some hundred rules; one that takes none for IPv6 is told and left.",
        undo: "The rules are taken out, or get their former queue.",
    },
    keys: |_| Vec::new(),
    assess: |host, demand| {
        if demand.nics.iter().all(|nic| nic.udp_port == 0) {
            return Assessment::nothing_asked("no UDP port is asked for");
        }
        each_nic(host, demand, FLOWS, false, |nic, has, found| {
            if nic.udp_port == 0 {
                return Ok(());
            }
            number(nic, has, "rules-max")?;
            for queue in 0..nic.queues {
                for family in ["udp4", "udp6"] {
                    let port = u32::from(nic.udp_port) + queue;
                    let key = format!("netlink:{}/{FLOWS}/{family}-{port}", nic.name);
                    let why = "a tile's packets belong to its queue";
                    let off = Verdict::OffIfPossible;
                    found.exact_if(host, &key, &queue.to_string(), why, off);
                }
            }
            Ok(())
        })
    },
};

/// Descriptors.
pub const RINGS: Stage = Stage {
    name: "nic-rings",
    words: Words {
        what: "Raises the descriptors of each queue to what is asked for, as far as the card goes.",
        why: "A block arrives as one burst; what does not fit into the ring is lost on the card.",
        gain: "bursts of thousands of packets without loss",
        risk: "Most drivers take the link down for a moment; larger rings use more cache.",
        undo: "The rings get their former sizes.",
    },
    keys: |host| keys(host, "rings", &["rx", "tx"]),
    assess: |host, demand| {
        if demand.ring_entries == 0 {
            return Assessment::nothing_asked("no ring size is asked for");
        }
        each_nic(host, demand, "rings", true, |nic, has, found| {
            for name in ["rx", "tx"] {
                let Some(now) = number(nic, has, name)? else { continue };
                let max = number(nic, has, &format!("{name}-max"))?.unwrap_or(now);
                let want = u64::from(demand.ring_entries).min(max);
                let key = format!("netlink:{}/rings/{name}", nic.name);
                if now >= want {
                    found.fine(&key, Some(now.to_string()));
                } else {
                    found.exact(host, &key, &want.to_string(), "a block is one burst");
                }
            }
            Ok(())
        })
    },
};

/// Interrupt coalescing.
pub const COALESCE: Stage = Stage {
    name: "nic-coalesce",
    words: Words {
        what: "Switches adaptive coalescing off, and has the card hold a packet back for at most 8 microseconds.",
        why: "A card that waits for more packets before it tells about the first adds that wait to every block.",
        gain: "the time the card holds the first packet of a burst back (rx-usecs says how long)",
        risk: "More interrupts under load, unless tiles poll.",
        undo: "The card gets its former values.",
    },
    keys: |host| keys(host, "coalesce", &["adaptive-rx", "adaptive-tx", "rx-usecs"]),
    assess: |host, demand| {
        each_nic(host, demand, "coalesce", false, |nic, has, found| {
            let key = |name: &str| format!("netlink:{}/coalesce/{name}", nic.name);
            for name in
                ["adaptive-rx", "adaptive-tx"].into_iter().filter(|name| has.contains_key(*name))
            {
                found.exact(host, &key(name), "0", "the card guesses, and guesses late");
            }
            match number(nic, has, "rx-usecs")? {
                Some(now) if now > RX_USECS_MAX => {
                    let why = "that long is a packet held back";
                    found.exact(host, &key("rx-usecs"), &RX_USECS_MAX.to_string(), why);
                }
                Some(now) => found.fine(&key("rx-usecs"), Some(now.to_string())),
                None => {}
            }
            Ok(())
        })
    },
};

/// Offloads.
pub const OFFLOADS: Stage = Stage {
    name: "nic-offloads",
    words: Words {
        what: "Switches off offloads that merge datagrams or cut them up (UDP GRO forwarding, GRO lists, LRO, GRE segmentation), and \
               warns where GRO itself is off.",
        why: "A tile that reads packets from the card must get them as they were sent.",
        gain: "no merged datagrams in AF_XDP queues: those are lost",
        risk: "A host that also forwards packets does so a little slower.",
        undo: "Every offload gets its former switch.",
    },
    keys: |host| keys(host, "features", &OFF),
    assess: |host, demand| {
        each_nic(host, demand, "features", false, |nic, has, found| {
            for name in OFF {
                let key = format!("netlink:{}/features/{name}", nic.name);
                match has.get(name).map(String::as_str) {
                    None => {}
                    Some("on fixed") => {
                        let reason = format!("{key} is on and the driver does not let it go");
                        found.off_for_good(&key, Some("on".to_owned()), reason);
                    }
                    Some("off fixed") => found.fine(&key, Some("off".to_owned())),
                    Some(_) => {
                        found.exact(host, &key, "off", "packets must arrive as they were sent");
                    }
                }
            }
            if has.get("rx-gro").is_some_and(|value| value.starts_with("off")) {
                let key = format!("netlink:{}/features/rx-gro", nic.name);
                found.warn(
                    &key,
                    Some("off".to_owned()),
                    format!("{key} is off: TCP peers cost more"),
                );
            }
            Ok(())
        })
    },
};

/// The loopback device.
pub const LOOPBACK: Stage = Stage {
    name: "loopback",
    words: Words {
        what: "Switches UDP segmentation of the loopback device off.",
        why: "A datagram that is cut up late passes an XDP program on the loopback device whole, and does not fit a frame.",
        gain: "tests on one host see the packets a network would bring",
        risk: "Local UDP with segmentation (QUIC) becomes a little slower.",
        undo: "The offload gets its former switch.",
    },
    keys: |host| {
        let mut all = keys(host, "features", &["tx-udp-segmentation"]);
        all.retain(|key| key.starts_with("netlink:lo/"));
        all
    },
    assess: |host, demand| {
        if demand.nics.is_empty() {
            return Assessment::nothing_asked("no network card is asked for");
        }
        let key = "netlink:lo/features/tx-udp-segmentation";
        let mut found = Assessment::default();
        match host.read(key).as_deref() {
            None => return Assessment::unavailable("the loopback device has no UDP segmentation"),
            Some("on fixed") => {
                let reason = format!("{key} is on and cannot be changed");
                found.off_for_good(key, Some("on".to_owned()), reason);
            }
            Some("off fixed") => found.fine(key, Some("off".to_owned())),
            Some(_) => found.exact(host, key, "off", "XDP on the loopback device sees it whole"),
        }
        found
    },
};

/// Polling instead of interrupts.
pub const NAPI: Stage = Stage {
    name: "napi",
    words: Words {
        what: "Puts a card's interrupts off while a tile polls it: napi_defer_hard_irqs 100, gro_flush_timeout 200000.",
        why: "With a tile that polls, an interrupt only takes time from somebody.",
        gain: "one interrupt less per burst",
        risk: "If no tile polls, packets wait up to 200 microseconds.",
        undo: "Both get their former values.",
    },
    keys: |host| {
        let mut keys = Vec::new();
        for device in host.network_devices() {
            for name in ["napi_defer_hard_irqs", "gro_flush_timeout"] {
                keys.push(format!("/sys/class/net/{device}/{name}"));
            }
        }
        keys.retain(|key| host.read(key).is_some());
        keys
    },
    assess: |host, demand| {
        if !demand.busy_poll {
            return Assessment::nothing_asked("busy polling is not asked for");
        }
        let mut found = Assessment::default();
        for nic in &demand.nics {
            let folder = format!("/sys/class/net/{}", nic.name);
            for (name, want) in [
                ("gro_flush_timeout", GRO_FLUSH_TIMEOUT_NS),
                ("napi_defer_hard_irqs", DEFER_HARD_IRQS),
            ] {
                let key = format!("{folder}/{name}");
                match host.number(&key) {
                    Ok(Some(_)) => found.exact(host, &key, want, "a tile polls this card"),
                    Ok(None) => found.off_for_good(&key, None, format!("{key} is not there")),
                    Err(absurd) => return Assessment::unavailable(absurd),
                }
            }
        }
        found
    },
};
