//! A chain: nodes in a row, each joined to the next by a link.
//!
//! In: a [`ChainSpec`]. Out: `hops + 1` namespaces named `PREFIXn0`, `PREFIXn1`, ... with addresses `10.80.LINK.1` (the near end
//! of a link) and `10.80.LINK.2` (its far end), and `hops` running links in namespaces of their own. Devices of nodes hand each
//! frame down as it will be on the wire (no segmentation or checksum left to hardware that is not there), neighbours are known
//! for good (no ARP that could be lost), and IPv6, which talks unasked, is off.

use crate::impairment::Impairment;
use crate::link::Link;
use crate::namespaces::{EmulatorError, Namespaces, ip, within};
use crate::sys::{Offload, set_offload};
use std::net::Ipv4Addr;

/// Longest chain: links are numbered in one byte of an address.
pub const HOPS_MAX: usize = 200;

/// What chain is wanted.
#[derive(Clone, Debug)]
pub struct ChainSpec {
    /// How names of namespaces begin; unique to the caller.
    pub prefix: String,
    /// Links in a row.
    pub hops: usize,
    /// Away from node 0.
    pub there: Impairment,
    /// Towards node 0.
    pub back: Impairment,
    /// Draws everything.
    pub seed: u64,
    /// `net.` settings of every node: path below `/proc/sys/net/` and value.
    pub sysctls: Vec<(String, String)>,
}

impl ChainSpec {
    /// `hops` links that do the same in both directions.
    pub fn even(prefix: &str, hops: usize, rules: &Impairment, seed: u64) -> Self {
        Self {
            prefix: prefix.to_owned(),
            hops,
            there: rules.clone(),
            back: rules.clone(),
            seed,
            sysctls: Vec::new(),
        }
    }
}

/// A running chain. Dropping it stops the links and takes the namespaces away.
#[derive(Debug)]
pub struct Chain {
    nodes: Vec<String>,
    // Before the namespaces: links stop first.
    links: Vec<Link>,
    _namespaces: Namespaces,
}

impl Chain {
    /// Makes the chain.
    pub fn up(spec: &ChainSpec) -> Result<Self, EmulatorError> {
        if !(1..=HOPS_MAX).contains(&spec.hops) {
            let why = format!("{} hops, expected 1 to {HOPS_MAX}", spec.hops);
            return Err(EmulatorError::Impairment(why));
        }
        let mut namespaces = Namespaces::open()?;
        let nodes: Vec<String> = (0..=spec.hops).map(|i| format!("{}n{i}", spec.prefix)).collect();
        for node in &nodes {
            namespaces.add(node)?;
            within(node, || settings(&spec.sysctls))??;
        }
        let mut links = Vec::new();
        for link in 1..=spec.hops {
            let middle = format!("{}w{link}", spec.prefix);
            namespaces.add(&middle)?;
            let quiet = [("ipv6/conf/default/disable_ipv6".to_owned(), "1".to_owned())];
            within(&middle, || settings(&quiet))??;
            let near = End { node: &nodes[link - 1], device: format!("d{link}"), link, last: 1 };
            let far = End { node: &nodes[link], device: format!("u{link}"), link, last: 2 };
            near.join(&middle, "L", &far)?;
            far.join(&middle, "R", &near)?;
            let rules = [spec.there.clone(), spec.back.clone()];
            links.push(Link::start(&middle, ["L", "R"], rules, link_seed(spec.seed, link))?);
        }
        Ok(Self { nodes, links, _namespaces: namespaces })
    }

    /// Names of the nodes' namespaces, node 0 first.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// The links, the one at node 0 first.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Other rules for every link.
    pub fn set(
        &self,
        there: &Impairment,
        back: &Impairment,
        seed: u64,
    ) -> Result<(), EmulatorError> {
        for (i, link) in self.links.iter().enumerate() {
            link.set([there.clone(), back.clone()], link_seed(seed, i + 1))?;
        }
        Ok(())
    }

    /// Addresses of a link's near and far end; links count from 1.
    pub fn addresses(link: usize) -> (Ipv4Addr, Ipv4Addr) {
        (Ipv4Addr::new(10, 80, link as u8, 1), Ipv4Addr::new(10, 80, link as u8, 2))
    }
}

fn link_seed(seed: u64, link: usize) -> u64 {
    seed.wrapping_mul(1_000_003).wrapping_add(link as u64)
}

/// Writes settings of the calling thread's network namespace.
fn settings(settings: &[(String, String)]) -> Result<(), EmulatorError> {
    let always = [("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")];
    let own = settings.iter().map(|(path, value)| (path.as_str(), value.as_str()));
    for (path, value) in always.into_iter().chain(own) {
        let path = format!("/proc/sys/net/{path}");
        if path.contains("/ipv6/") && !std::path::Path::new(&path).exists() {
            continue; // A kernel without IPv6 is as quiet as can be.
        }
        std::fs::write(&path, value)
            .map_err(|error| EmulatorError::io(&format!("writing {value} to {path}"), error))?;
    }
    Ok(())
}

/// One end of a link.
struct End<'a> {
    node: &'a str,
    device: String,
    link: usize,
    last: u8,
}

impl End<'_> {
    fn mac(&self) -> String {
        format!("02:80:00:00:{:02x}:{:02x}", self.link, self.last)
    }

    fn address(&self) -> String {
        format!("10.80.{}.{}", self.link, self.last)
    }

    /// Makes the device and its peer in the link's namespace.
    fn join(&self, middle: &str, side: &str, other: &End<'_>) -> Result<(), EmulatorError> {
        let (node, device) = (self.node, self.device.as_str());
        let (mac, address) = (self.mac(), self.address() + "/24");
        let ends = ["address", &mac, "netns", node, "type", "veth", "peer", "name", side];
        ip(&[&["link", "add", device][..], &ends, &["netns", middle]].concat())?;
        ip(&["-n", node, "addr", "add", &address, "dev", device])?;
        ip(&["-n", node, "link", "set", device, "txqueuelen", "10000", "up"])?;
        ip(&["-n", middle, "link", "set", side, "up"])?;
        let known = ["lladdr", &other.mac(), "dev", device, "nud", "permanent"];
        ip(&[&["-n", node, "neigh", "add", &other.address()][..], &known].concat())?;
        within(node, || plain(device))??;
        within(middle, || plain(side))?
    }
}

/// Frames on this device are what they are on the wire.
fn plain(device: &str) -> Result<(), EmulatorError> {
    for offload in [Offload::Tso, Offload::Gso, Offload::Gro, Offload::TxChecksum] {
        set_offload(device, offload, false).map_err(|error| {
            EmulatorError::io(&format!("switching {offload:?} of {device} off"), error)
        })?;
    }
    Ok(())
}
