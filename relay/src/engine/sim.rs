//! The protocol in a simulator: a few relays in any shape, a bad network, restarts, settings read again, one relay with little memory, a
//! hostile peer and a hostile stranger, from one seed.
//!
//! A run draws everything from its seed, lets the real engines work, and then asks what a user would ask: did every object
//! arrive, whole and equal, or is there a reason with a name? Did anything stall, grow, or send too fast? The planted bugs of
//! [`crate::plants`] show that the questions are sharp enough: some seed must find each.
//!
//! `BFR_SEEDS=17..18 cargo test -p relay sim` runs seed 17 again.

use super::*;
use crate::compact::{subtree, write_tx};
use crate::link::{Rekey, SESSIONS_MAX};
use crate::lookup::{Found, HeaderView, TxLookup};
use crate::object::FailReason;
use crate::plants::{self, Plant};
use crate::testing::{Dice, Network, Node, Path, World, address};
use crate::wire::{Code, DataFields, NackEntry, flags};
use sigbatch::Hasher;
use std::collections::{BTreeMap, BTreeSet};

const START: NowUs = NowUs(1_000_000);
const RATE_MBIT: u32 = 300;
/// All relays are up after this, whatever the paths are.
const UP_US: u64 = 60_000_000;
/// Objects have arrived after this.
const ARRIVE_US: u64 = 40_000_000;
/// Timeouts of objects are over after this.
const REST_US: u64 = 80_000_000;
/// The same where a hostile peer comes back from quarantine and is asked once more whether it has everything.
const REST_HOSTILE_US: u64 = 200_000_000;

/// Knows no transaction, and asks for a proof of work that no run can make by accident.
struct Strict;

impl TxLookup for Strict {
    fn resolve(&mut self, _: [u8; 16], _: &[u64], _: &mut Found<'_>) {}

    fn offer(&mut self, _: [u8; 32], _: &[u8]) {}
}

impl HeaderView for Strict {
    fn parent_known(&self, _: &[u8; 32]) -> bool {
        true
    }

    fn required_bits(&self, _: &[u8; 32], _: u32) -> Option<u32> {
        Some(0x1d00_ffff)
    }

    fn accepted(&mut self, _: &[u8; 80]) {}
}

/// A peer with a key and no manners: it repeats what it heard, changed, and makes up the rest.
#[derive(Debug)]
struct Rude {
    dice: Dice,
    heard: Vec<(DataFields, Vec<u8>)>,
    peers: BTreeSet<PeerId>,
    left: u64,
}

impl Upper for Rude {
    fn peer_up(&mut self, peer: PeerId, _: PeerInfo, _: &LinkView, _: NowUs) {
        self.peers.insert(peer);
    }

    fn peer_down(&mut self, peer: PeerId, _: NowUs) {
        self.peers.remove(&peer);
    }

    fn on_frame(
        &mut self,
        _: PeerId,
        frame: &Frame<'_>,
        _: &LinkView,
        _: NowUs,
    ) -> Result<(), DropReason> {
        if let Frame::Data(data) = frame {
            if self.heard.len() == 64 {
                self.heard.remove(0);
            }
            self.heard.push((data.fields, data.payload.to_vec()));
        }
        Ok(())
    }

    fn pending(&self, peer: PeerId) -> Option<Priority> {
        (self.left > 0 && self.peers.contains(&peer)).then_some(Priority::Useful)
    }

    fn next_frame(
        &mut self,
        _: PeerId,
        _: &LinkView,
        _: NowUs,
        frame: &mut FrameBuf,
    ) -> Option<Priority> {
        self.left = self.left.checked_sub(1)?;
        let dice = &mut self.dice;
        let known = (!self.heard.is_empty())
            .then(|| self.heard[dice.below(self.heard.len() as u64) as usize].clone());
        let (mut fields, mut payload) = known.unwrap_or_else(|| {
            let fields = DataFields {
                flags: 0,
                object: ObjectId(dice.word()),
                object_len: dice.word() as u32 >> dice.below(32) | 1,
                group: dice.below(4) as u16,
                symbol: dice.word() as u8,
                k: dice.below(128) as u8 + 1,
                code: Code::Rs8,
                class: Class::of(dice.below(5) as u8).expect("five classes"),
                hops_left: 9,
                parity: 9,
            };
            (fields, dice.bytes(1_152))
        });
        match dice.below(10) {
            0 => {
                let entries = (0..50).map(|group| NackEntry { group, need: 255 });
                frame.nack(fields.object, fields.object_len, entries);
                return Some(Priority::Useful);
            }
            1 => {
                let flags = [0, flags::HAVE_ALL, flags::REFUSED][dice.below(3) as usize];
                frame.stop(flags, fields.object, fields.object_len, [dice.word() as u16]);
                return Some(Priority::Useful);
            }
            2 => fields.object_len = (dice.word() as u32 >> dice.below(32)).max(1),
            3 => fields.symbol = dice.word() as u8,
            4 => fields.k = dice.word() as u8 | 1,
            5 => fields.object = ObjectId(dice.word()),
            6 => fields.group = dice.word() as u16,
            7 => payload.truncate(dice.below(payload.len() as u64) as usize + 1),
            8 => payload.fill(dice.word() as u8),
            _ => fields.hops_left = 255,
        }
        frame.data(&fields, payload.len()).copy_from_slice(&payload);
        Some(Priority::Useful)
    }
}

/// A relay, or what pretends to be one.
enum Member {
    Honest(Box<Engine>),
    Hostile(Box<(Links, Rude)>),
}

impl Node for Member {
    fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: NowUs) {
        match self {
            Self::Honest(engine) => engine.receive(from, datagram, now),
            Self::Hostile(rude) => rude.0.receive(from, datagram, &mut rude.1, now),
        }
    }

    fn tick(&mut self, now: NowUs) {
        match self {
            Self::Honest(engine) => engine.tick(now),
            Self::Hostile(rude) => rude.0.tick(&mut rude.1, now),
        }
    }

    fn next_due(&self, now: NowUs) -> NowUs {
        match self {
            Self::Honest(engine) => engine.next_due(now),
            Self::Hostile(rude) => rude.0.next_due(&rude.1, now),
        }
    }

    fn transmit(&mut self, now: NowUs, out: &mut dyn FnMut(SocketAddr, &[u8]) -> bool) {
        match self {
            Self::Honest(engine) => engine.transmit(now, &mut |to, bytes| out(to, bytes)),
            Self::Hostile(rude) => {
                rude.0.transmit(&mut rude.1, now, &mut |to, bytes| out(to, bytes));
            }
        }
    }
}

impl Member {
    fn engine(&mut self) -> Option<&mut Engine> {
        match self {
            Self::Honest(engine) => Some(engine),
            Self::Hostile(_) => None,
        }
    }
}

/// What reading the settings again changes at one relay.
#[derive(Clone, Copy, Debug)]
enum Reload {
    /// Nothing, or the rate and the trust of this neighbour; no link may notice.
    Change { peer: usize, trusted: bool, rate_mbit: u32 },
    /// This neighbour is dropped, and comes back after so long.
    Drop { peer: usize, us: u64 },
}

/// What a seed says.
#[derive(Debug)]
struct Plan {
    seed: u64,
    /// Relays; one more when there is a hostile peer.
    relays: usize,
    hostile: bool,
    /// Whom each is configured with, and whether it is trusted.
    peers: Vec<BTreeMap<usize, bool>>,
    rekey: Rekey,
    /// When an object is sent, by whom, how many bytes.
    sends: Vec<(u64, usize, Class, usize)>,
    restart: Option<(u64, usize, u64)>,
    stranger: bool,
    /// When the settings of which relay are read again.
    reloads: Vec<(u64, usize, Reload)>,
    /// A relay with little memory.
    tight: Option<usize>,
}

impl Plan {
    fn draw(seed: u64, dice: &mut Dice) -> Self {
        let relays = 2 + dice.below(4) as usize;
        let hostile = dice.unit() < 0.4;
        let mut peers = vec![BTreeMap::new(); relays + usize::from(hostile)];
        let join = |peers: &mut Vec<BTreeMap<usize, bool>>, a: usize, b: usize, trust: bool| {
            peers[a].insert(b, trust);
            peers[b].insert(a, trust);
        };
        for at in 1..relays {
            let to = dice.below(at as u64) as usize;
            let trust = dice.unit() < 0.8;
            join(&mut peers, at, to, trust);
        }
        for at in 0..relays {
            let to = dice.below(relays as u64) as usize;
            if to != at && !peers[at].contains_key(&to) && dice.unit() < 0.5 {
                let trust = dice.unit() < 0.8;
                join(&mut peers, at, to, trust);
            }
        }
        if hostile {
            for at in 0..relays {
                if at == 0 || dice.unit() < 0.4 {
                    join(&mut peers, relays, at, false);
                }
            }
        }
        // Everybody with everybody: the origin stripes over all, and they pass their parts on.
        if dice.unit() < 0.2 {
            for a in 0..relays {
                for b in 0..a {
                    join(&mut peers, a, b, true);
                }
            }
        }
        let is_short = dice.unit() < 0.3;
        let rekey = Rekey { packets: 2_000, us: 3_000_000 };
        let mut sends: Vec<_> = (0..2 + dice.below(5))
            .map(|_| {
                let class = [Class::Opaque, Class::Bundle, Class::Subtree][dice.below(3) as usize];
                let most = 1 << (4 + dice.below(16));
                let bytes = 1 + dice.below(most) as usize;
                (dice.below(3_000_000), dice.below(relays as u64) as usize, class, bytes)
            })
            .collect();
        sends.sort_unstable_by_key(|&(at, ..)| at);
        let restarts = dice.unit() < 0.3;
        let restart = (
            dice.below(3_000_000),
            dice.below(relays as u64) as usize,
            50_000 + dice.below(2_000_000),
        );
        Self {
            seed,
            relays,
            hostile,
            peers,
            rekey: if is_short { rekey } else { Rekey::default() },
            sends,
            restart: restarts.then_some(restart),
            stranger: dice.unit() < 0.5,
            reloads: Vec::new(),
            tight: None,
        }
        .reloading(dice)
    }

    fn reloading(mut self, dice: &mut Dice) -> Self {
        let mut reloads: Vec<_> = (0..dice.below(4))
            .map(|_| {
                let node = dice.below(self.relays as u64) as usize;
                let neighbours: Vec<usize> =
                    self.peers[node].keys().copied().filter(|&peer| peer < self.relays).collect();
                let peer = neighbours[dice.below(neighbours.len() as u64) as usize];
                let change = if dice.unit() < 0.3 {
                    Reload::Drop { peer, us: 20_000 + dice.below(1_500_000) }
                } else {
                    let rate_mbit = RATE_MBIT / (1 + dice.below(3) as u32);
                    Reload::Change { peer, trusted: dice.unit() < 0.7, rate_mbit }
                };
                (dice.below(3_000_000), node, change)
            })
            .collect();
        reloads.sort_unstable_by_key(|&(at, ..)| at);
        self.reloads = if dice.unit() < 0.5 { reloads } else { Vec::new() };
        self.tight = (dice.unit() < 0.25).then(|| dice.below(self.relays as u64) as usize);
        self
    }

    /// Whether an object may fail to get somewhere without its origin's knowing.
    fn is_rough(&self) -> bool {
        let drops = |&(_, _, change): &(u64, usize, Reload)| matches!(change, Reload::Drop { .. });
        self.restart.is_some() || self.tight.is_some() || self.reloads.iter().any(drops)
    }

    /// Memory of a relay's objects.
    fn bytes_max(&self, node: usize) -> usize {
        if self.tight == Some(node) { 900_000 } else { 24 << 20 }
    }

    /// How many they may be.
    fn objects_max(&self, node: usize) -> usize {
        if self.tight == Some(node) { 3 } else { 512 }
    }

    fn keys(node: usize) -> Keys {
        Keys::from_secret([node as u8 + 1; 32])
    }

    fn configs(&self, node: usize) -> Vec<PeerConfig> {
        let config = |(&peer, &trusted): (&usize, &bool)| PeerConfig {
            name: format!("node {peer}"),
            addr: Some(address(peer)),
            public_key: *Self::keys(peer).public(),
            trusted,
            rate_mbit: RATE_MBIT,
            dedicated_line: false,
        };
        self.peers[node].iter().map(config).collect()
    }

    fn relay(&self, node: usize, life: u8, now: NowUs) -> Member {
        let links = LinksConfig { rekey: self.rekey, ..LinksConfig::default() };
        let objects = ObjectsConfig {
            object_bytes_max: 2 << 20,
            bytes_max: self.bytes_max(node),
            bytes_per_peer_max: self.bytes_max(node) / 2,
            objects_max: self.objects_max(node),
            seed: node as u64,
            ..ObjectsConfig::default()
        };
        let config = EngineConfig { links, objects };
        let lookups = Lookups { txs: Box::new(Strict), headers: Box::new(Strict) };
        let seed = [node as u8 ^ life << 4; 32];
        let mut engine = Engine::new(config, Self::keys(node), lookups, &seed, now);
        engine.set_peers(self.configs(node), now);
        Member::Honest(Box::new(engine))
    }

    fn hostile(&self, now: NowUs) -> Member {
        let node = self.relays;
        let mut links = Links::new(LinksConfig::default(), Self::keys(node), &[200; 32], now);
        let dice = Dice::new(self.seed ^ 0xbad);
        let mut rude = Rude { dice, heard: Vec::new(), peers: BTreeSet::new(), left: 0 };
        links.set_peers(self.configs(node), &mut rude, now);
        Member::Hostile(Box::new((links, rude)))
    }
}

/// What a run saw.
#[derive(Debug, Default)]
struct Seen {
    /// By id: what was sent, and by whom.
    sent: BTreeMap<u64, (usize, Arc<[u8]>)>,
    /// By id: who has it.
    has: BTreeMap<u64, BTreeSet<usize>>,
    /// By id: reasons.
    failed: BTreeMap<u64, Vec<FailReason>>,
    /// By id: neighbours that have it, or have a reason; and how many there were.
    ended: BTreeMap<u64, (BTreeSet<PeerId>, usize)>,
}

impl Seen {
    fn collect(&mut self, world: &mut World<Member>) -> Result<(), String> {
        for (node, member) in world.nodes.iter_mut().enumerate() {
            let Some(engine) = member.as_mut().and_then(Member::engine) else { continue };
            while let Some(event) = engine.event() {
                match event {
                    Event::Object(ObjectEvent::Received { id, bytes, .. }) => {
                        let known = self.sent.get(&id.0);
                        let (_, sent) =
                            known.ok_or(format!("node {node} has an object nobody sent"))?;
                        if *sent != bytes {
                            return Err(format!("node {node} has other bytes than were sent"));
                        }
                        self.has.entry(id.0).or_default().insert(node);
                    }
                    Event::Object(ObjectEvent::Delivered { id, peer, .. }) => {
                        self.ended.entry(id.0).or_default().0.insert(peer);
                    }
                    Event::Object(ObjectEvent::Failed { id, peer, why, .. }) => {
                        self.failed.entry(id.0).or_default().push(why);
                        let origin = self.sent.get(&id.0).is_some_and(|&(from, _)| from == node);
                        if let Some(peer) = peer.filter(|_| origin) {
                            self.ended.entry(id.0).or_default().0.insert(peer);
                        }
                    }
                    Event::PeerUp { .. } | Event::PeerDown { .. } => {}
                }
            }
        }
        Ok(())
    }
}

/// Bytes that an honest host would send, about `len` of them and never the same twice.
fn payload(class: Class, len: usize, dice: &mut Dice) -> Vec<u8> {
    match class {
        Class::Bundle => {
            let mut out = Vec::new();
            while out.len() < len {
                let most = len.min(2_000) as u64;
                let tx = 8 + dice.below(most) as usize;
                write_tx(&mut out, &dice.bytes(tx));
            }
            out
        }
        Class::Subtree => {
            let txids = dice.bytes(len.next_multiple_of(32));
            let root = subtree::root_of(txids.as_chunks::<32>().0, &Hasher::new());
            [&root.root.0[..], &txids[..]].concat()
        }
        Class::Header | Class::Block | Class::Opaque => dice.bytes(len + 8),
    }
}

/// Runs a seed; an error says what a user would complain about.
fn run(seed: u64) -> Result<(), String> {
    let dice = &mut Dice::new(seed);
    let plan = Plan::draw(seed, dice);
    let mut net = Network::new(dice.word(), Path::clean(1_000));
    for a in 0..plan.peers.len() {
        for &b in plan.peers[a].keys() {
            net.set_path(address(a), address(b), Path::any(dice));
        }
    }
    if plan.stranger {
        net.watch();
    }
    let mut members: Vec<Member> = (0..plan.relays).map(|at| plan.relay(at, 0, START)).collect();
    if plan.hostile {
        members.push(plan.hostile(START));
    }
    let mut world = World::new(net, members);
    let honest = 0..plan.relays;
    let up = world.run_until(UP_US, |world| {
        honest.clone().all(|at| {
            let links = world.node(at).engine().map(|engine| engine.view().up().count());
            links == Some(plan.peers[at].len())
        })
    });
    if !up {
        return Err("not every link came up".into());
    }
    if let Some(Member::Hostile(rude)) = world.nodes.last_mut().and_then(Option::as_mut) {
        rude.1.left = 2_000;
    }
    let mut seen = Seen::default();
    let begun = world.now;
    let mut sends = plan.sends.iter().peekable();
    let mut restart = plan.restart;
    let mut back_at = None;
    let mut reloads = plan.reloads.iter().peekable();
    let mut again = Vec::new();
    while sends.peek().is_some()
        || restart.is_some()
        || back_at.is_some()
        || reloads.peek().is_some()
        || !again.is_empty()
    {
        world.run(10_000);
        let since = world.now.since(begun);
        while let Some(&(_, node, class, len)) = sends.next_if(|&&(at, ..)| at <= since) {
            let bytes: Arc<[u8]> = payload(class, len, dice).into();
            let now = world.now;
            let Some(engine) = world.nodes[node].as_mut().and_then(Member::engine) else {
                continue;
            };
            let neighbours = engine.view().up().count();
            match engine.send(class, bytes.clone(), None, now) {
                Ok(id) => {
                    seen.sent.insert(id.0, (node, bytes));
                    seen.has.entry(id.0).or_default().insert(node);
                    seen.ended.entry(id.0).or_default().1 = neighbours;
                }
                Err(SendError::NoPeer) if neighbours == 0 => {}
                Err(SendError::Full { .. }) if plan.tight == Some(node) => {}
                Err(error) => return Err(format!("node {node} does not send: {error}")),
            }
        }
        if let Some((_, node, down_us)) = restart.take_if(|&mut (at, ..)| at <= since) {
            seen.collect(&mut world)?;
            world.nodes[node] = None;
            back_at = Some((world.now + down_us, node));
        }
        if let Some((_, node)) = back_at.take_if(|&mut (at, _)| at <= world.now) {
            world.nodes[node] = Some(plan.relay(node, 1, world.now));
        }
        while let Some((_, node, change)) = reloads.next_if(|&&(at, ..)| at <= since) {
            reload(&plan, *node, *change, &mut world)?;
            if let Reload::Drop { us, .. } = *change {
                again.push((world.now + us, *node));
            }
        }
        for (_, node) in again.extract_if(.., |(at, _)| *at <= world.now) {
            let now = world.now;
            if let Some(engine) = world.nodes[node].as_mut().and_then(Member::engine) {
                engine.set_peers(plan.configs(node), now);
            }
        }
        if plan.stranger {
            let now = world.now;
            for _ in 0..5 {
                let watched = world.net.watched();
                let mut bytes = watched[dice.below(watched.len() as u64) as usize].clone();
                if dice.unit() < 0.7 {
                    let at = dice.below(bytes.bytes.len() as u64) as usize;
                    bytes.bytes[at] ^= dice.word() as u8;
                }
                world.net.send(bytes.from, bytes.to, &bytes.bytes, now);
            }
        }
        seen.collect(&mut world)?;
        check_bounds(&plan, &mut world)?;
    }
    let all = |seen: &Seen| {
        let enough = |id| seen.has.get(id).is_some_and(|has| has.len() == plan.relays);
        seen.sent.keys().all(enough)
    };
    let mut stepped = Ok(());
    world.run_until(ARRIVE_US, |world| {
        stepped = seen.collect(world);
        stepped.is_err() || all(&seen)
    });
    stepped?;
    for (id, (from, bytes)) in &seen.sent {
        let has = &seen.has[id];
        let reason = seen.failed.contains_key(id) || plan.is_rough();
        if has.len() < plan.relays && !reason {
            let len = bytes.len();
            return Err(format!("{len} bytes of node {from} are with {has:?} and nobody says why"));
        }
        if !plan.is_rough() && !plan.hostile && has.len() < plan.relays {
            let why = &seen.failed[id];
            return Err(format!("object of node {from} did not get through: {why:?}"));
        }
    }
    world.run(if plan.hostile { REST_HOSTILE_US } else { REST_US });
    seen.collect(&mut world)?;
    check_bounds(&plan, &mut world)?;
    check_rest(&plan, &seen, &mut world)
}

/// Reads the settings of a relay again; links of peers that stay must not notice.
fn reload(
    plan: &Plan,
    node: usize,
    change: Reload,
    world: &mut World<Member>,
) -> Result<(), String> {
    let now = world.now;
    let Some(engine) = world.nodes[node].as_mut().and_then(Member::engine) else { return Ok(()) };
    let name = |peer: usize| format!("node {peer}");
    let up =
        |engine: &Engine| -> Vec<PeerId> { engine.view().up().map(|(peer, _)| peer).collect() };
    let mut configs = plan.configs(node);
    let mut before = up(engine);
    match change {
        Reload::Change { peer, trusted, rate_mbit } => {
            for config in configs.iter_mut().filter(|config| config.name == name(peer)) {
                (config.trusted, config.rate_mbit) = (trusted, rate_mbit);
            }
        }
        Reload::Drop { peer, .. } => {
            configs.retain(|config| config.name != name(peer));
            let gone = engine.peer_named(&name(peer));
            before.retain(|other| Some(*other) != gone);
        }
    }
    engine.set_peers(configs, now);
    let after = up(engine);
    if after == before {
        Ok(())
    } else {
        Err(format!("node {node} read {change:?}: links {before:?} became {after:?}"))
    }
}

fn check_bounds(plan: &Plan, world: &mut World<Member>) -> Result<(), String> {
    let now = world.now;
    for at in 0..plan.relays {
        let Some(engine) = world.nodes[at].as_mut().and_then(Member::engine) else { continue };
        let status = engine.status(now);
        let sessions = plan.peers[at].len() * (SESSIONS_MAX + 1);
        if status.sessions > sessions {
            return Err(format!("node {at} has {} sessions; at most {sessions}", status.sessions));
        }
        let (objects, most) = (status.objects.in_flight, plan.objects_max(at));
        if objects > most {
            return Err(format!("node {at} holds {objects} objects; at most {most}"));
        }
        if status.objects.bytes > plan.bytes_max(at) {
            return Err(format!("node {at} holds {} bytes of objects", status.objects.bytes));
        }
    }
    // What a bucket holds, twice, for the two spans it may straddle; control frames and handshakes on top.
    let allowed = u64::from(RATE_MBIT) * 125_000 / 100 + 3 * 64 * 1_280;
    let peak = world.net.peak_bytes();
    if peak > allowed {
        return Err(format!("somebody sent {peak} bytes in 10 ms; the rate allows {allowed}"));
    }
    Ok(())
}

fn check_rest(plan: &Plan, seen: &Seen, world: &mut World<Member>) -> Result<(), String> {
    let now = world.now;
    let (mut sent, mut got) = (0, 0);
    for at in 0..plan.relays {
        let Some(engine) = world.nodes[at].as_mut().and_then(Member::engine) else { continue };
        let status = engine.status(now);
        let objects = status.objects;
        if objects.in_flight > 0 || objects.bytes > 0 {
            let (count, bytes) = (objects.in_flight, objects.bytes);
            return Err(format!("node {at} still holds {count} objects, {bytes} bytes"));
        }
        sent += objects.symbols_sent;
        got += objects.symbols_useful + objects.symbols_useless;
        if !plan.hostile {
            for reason in ["frame_malformed", "shape_wrong", "shape_differs", "hash_wrong"] {
                if let Some(count) = status.drops.get(reason) {
                    return Err(format!("node {at}: honest peers were guilty of {count} {reason}"));
                }
            }
        }
        if !plan.is_rough()
            && !plan.stranger
            && !plan.hostile
            && let Some(count) = status.drops.get("key_unknown").filter(|&&count| count > 20)
        {
            return Err(format!("node {at} threw away {count} packets of sessions it had ended"));
        }
        if engine.view().up().count() < plan.peers[at].len() - usize::from(plan.hostile) {
            let peers = status.peers;
            return Err(format!("node {at} has lost a link for good: {peers:?}"));
        }
    }
    if !plan.hostile && !plan.is_rough() {
        if got > sent {
            return Err(format!("{got} symbols were heard and {sent} sent: some counted twice"));
        }
        for (id, (ended, neighbours)) in &seen.ended {
            if ended.len() != *neighbours {
                let (from, _) = &seen.sent[id];
                let ended = ended.len();
                return Err(format!("node {from} knows of {ended} of {neighbours} neighbours"));
            }
        }
    }
    Ok(())
}

/// Seeds to run: `BFR_SEEDS=17..18`, or these.
fn seeds(else_to: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("BFR_SEEDS").ok();
    let asked = asked.as_deref().and_then(|text| text.split_once(".."));
    asked.map_or(0..else_to, |(from, to)| {
        from.parse().expect("BFR_SEEDS=FROM..TO")..to.parse().expect("BFR_SEEDS=FROM..TO")
    })
}

#[test]
fn objects_arrive_whole_and_equal_or_fail_with_a_reason_whatever_the_network_and_its_neighbours_do()
{
    let mut complaints = Vec::new();
    for seed in seeds(120) {
        if let Err(complaint) = run(seed) {
            complaints.push(format!("BFR_SEEDS={seed}..{}: {complaint}", seed + 1));
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_planted_bug_is_found() {
    use Plant::*;
    let bugs = [
        ReplayUnchecked,
        TagUnchecked,
        PacerDeaf,
        RekeyCutsOff,
        NacksUnsent,
        MemoryKept,
        RoomUnchecked,
        ReloadCutsOff,
    ];
    for bug in bugs {
        plants::plant(Some(bug));
        let found = (0..150).find_map(|seed| run(seed).err().map(|complaint| (seed, complaint)));
        plants::plant(None);
        let (seed, complaint) = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        println!("{bug:?}: seed {seed}: {complaint}");
    }
}
