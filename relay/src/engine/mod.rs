//! The engine: all links and all objects composed, with no clock and no socket.
//!
//! In: datagrams, objects to send, peers, the time. Out: datagrams and events. Hosts and the simulator call the same eight
//! functions and nothing else:
//!
//! ```text
//!   receive(from, datagram, now)          a datagram came
//!   tick(now)                             timers; bounded work
//!   transmit(now, out)                    what may go now, most urgent first, each peer at its rate
//!   next_due(now)                         when to call tick and transmit again
//!   send(class, bytes, to, now)           an object to pass on
//!   event()                               what happened
//!   set_peers(peers, now)                 who is there; links that stay are not touched
//!   status(now)                           numbers
//! ```
//!
//! Cost of a packet: a load to find its link, 200 ns for its tag, and what its object needs.

mod links;
#[cfg(test)]
mod sim;
mod status;

pub use links::{Links, LinksConfig, OUTBOX_MAX, PEERS_MAX, RUN_PACKETS, TRANSMIT_PACKETS, Upper};
pub use status::{PeerStatus, Status};

use crate::drops::DropReason;
use crate::link::Keys;
use crate::lookup::Lookups;
use crate::object::{ObjectEvent, Objects, ObjectsConfig, SendError};
use crate::origin::OriginKeys;
use crate::peer::{LinkView, PeerConfig, PeerId, PeerInfo};
use crate::time::NowUs;
use crate::wire::{Class, Frame, FrameBuf, ObjectId, Priority};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// Links that came up or went down and that the host has not asked for yet, at most; the oldest goes first.
pub const PEER_EVENTS_MAX: usize = 4 * PEERS_MAX;

/// What does not change while a relay runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EngineConfig {
    /// Of links.
    pub links: LinksConfig,
    /// Of objects.
    pub objects: ObjectsConfig,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A link carries frames.
    PeerUp {
        /// Whose.
        peer: PeerId,
    },
    /// A link does not any more.
    PeerDown {
        /// Whose.
        peer: PeerId,
    },
    /// Something became of an object.
    Object(ObjectEvent),
}

/// A relay without a socket.
#[expect(missing_debug_implementations, reason = "holds the host's lookups")]
pub struct Engine {
    links: Links,
    above: Above,
}

/// The objects, and the events that links make.
struct Above {
    objects: Objects,
    events: VecDeque<Event>,
    events_dropped: u64,
}

impl Above {
    fn push(&mut self, event: Event) {
        if self.events.len() == PEER_EVENTS_MAX {
            self.events.pop_front();
            self.events_dropped += 1;
        }
        self.events.push_back(event);
    }
}

impl Upper for Above {
    fn peer_up(&mut self, peer: PeerId, _: PeerInfo, links: &LinkView, now: NowUs) {
        self.objects.peer_up(peer, links, now);
        self.push(Event::PeerUp { peer });
    }

    fn peer_down(&mut self, peer: PeerId, now: NowUs) {
        self.objects.peer_down(peer, now);
        self.push(Event::PeerDown { peer });
    }

    fn on_frame(
        &mut self,
        peer: PeerId,
        frame: &Frame<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        self.objects.on_frame(peer, frame, links, now)
    }

    fn pending(&self, peer: PeerId) -> Option<Priority> {
        self.objects.pending(peer)
    }

    fn next_frame(
        &mut self,
        peer: PeerId,
        links: &LinkView,
        now: NowUs,
        frame: &mut FrameBuf,
    ) -> Option<Priority> {
        self.objects.next_frame(peer, links, now, frame)
    }
}

impl Engine {
    /// A relay without peers. `seed` is 32 bytes that nobody can guess: from the operating system in a node, from the run's seed
    /// in a simulator.
    pub fn new(
        config: EngineConfig,
        keys: Keys,
        lookups: Lookups,
        seed: &[u8; 32],
        now: NowUs,
    ) -> Self {
        let objects = Objects::new(config.objects, lookups);
        let above = Above { objects, events: VecDeque::new(), events_dropped: 0 };
        Self { links: Links::new(config.links, keys, seed, now), above }
    }

    /// A datagram came. Whatever it holds, nothing panics, and nobody who has not proved his key makes anything grow.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: NowUs) {
        self.links.receive(from, datagram, &mut self.above, now);
    }

    /// Timers. Bounded by the peers and the objects in flight.
    pub fn tick(&mut self, now: NowUs) {
        self.links.tick(&mut self.above, now);
        self.above.objects.tick(self.links.view(), now);
    }

    /// When [`Self::tick`] or [`Self::transmit`] has something to do again; at most a second from now.
    pub fn next_due(&self, now: NowUs) -> NowUs {
        let links = self.links.next_due(&self.above, now);
        self.above.objects.next_due().map_or(links, |due| due.max(now).min(links))
    }

    /// Hands datagrams to `out`: most urgent first, each peer at its rate, runs of equal length to one peer. `false` from
    /// `out` means that the socket is full; the datagram stays and is offered again.
    pub fn transmit(&mut self, now: NowUs, out: &mut impl FnMut(SocketAddr, &[u8]) -> bool) {
        self.links.transmit(&mut self.above, now, out);
    }

    /// Sets whose proofs of origin count, and the key that proves what is sent here.
    pub fn set_origins(&mut self, origins: OriginKeys) {
        self.above.objects.set_origins(origins);
    }

    /// Sends an object to these peers, or to all whose link is up.
    pub fn send(
        &mut self,
        class: Class,
        bytes: Arc<[u8]>,
        to: Option<&[PeerId]>,
        now: NowUs,
    ) -> Result<ObjectId, SendError> {
        self.above.objects.send(class, bytes, to, self.links.view(), now)
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<Event> {
        let of_link = self.above.events.pop_front();
        of_link.or_else(|| self.above.objects.event().map(Event::Object))
    }

    /// Adds, drops and rekeys peers; links that stay are not touched. A peer is its key: another key is another peer.
    pub fn set_peers(&mut self, peers: Vec<PeerConfig>, now: NowUs) {
        self.links.set_peers(peers, &mut self.above, now);
    }

    /// Says goodbye to everybody; [`Self::transmit`] once more, then end.
    pub fn close(&mut self, now: NowUs) {
        self.links.close_all(&mut self.above, now);
    }

    /// The id of the configured peer with this name.
    pub fn peer_named(&self, name: &str) -> Option<PeerId> {
        self.links.iter().find(|link| link.config.name == name).map(|link| link.id)
    }

    /// All links as objects see them.
    pub fn view(&self) -> &LinkView {
        self.links.view()
    }

    /// Numbers for operators.
    pub fn status(&self, now: NowUs) -> Status {
        Status::of(&self.links, self.above.objects.counts(), self.above.events_dropped, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LinkState;
    use crate::testing::{Dice, Network, Path, World, address, open_lookups};

    fn keys(node: usize) -> Keys {
        Keys::from_secret([node as u8 + 1; 32])
    }

    fn engine(node: usize, peers: &[usize]) -> Engine {
        let start = NowUs(1_000_000);
        let seed = [node as u8 + 100; 32];
        let config = EngineConfig::default();
        let mut engine = Engine::new(config, keys(node), open_lookups(), &seed, start);
        engine.set_peers(configs(peers).collect(), start);
        engine
    }

    fn configs(peers: &[usize]) -> impl Iterator<Item = PeerConfig> {
        peers.iter().map(|&peer| PeerConfig {
            name: format!("node {peer}"),
            addr: Some(address(peer)),
            public_key: *keys(peer).public(),
            trusted: true,
            rate_mbit: 950,
            dedicated_line: false,
        })
    }

    #[test]
    fn a_megabyte_over_a_line_of_three_relays_arrives_whole_and_nearly_at_the_speed_of_light() {
        for (seed, loss, most_us) in [(1, 0.0, 110_000), (2, 0.05, 140_000)] {
            let path = Path { rate_bytes_s: 125_000_000, queue_us: 200_000, ..Path::clean(25_000) };
            let nodes = vec![engine(0, &[1]), engine(1, &[0, 2]), engine(2, &[1])];
            let mut world = World::new(Network::new(seed, path.lossy(loss)), nodes);
            world.run(2_000_000);
            let bytes: Arc<[u8]> = Dice::new(seed).bytes(1_000_000).into();
            let started = world.now;
            let sent = world.node(0).send(Class::Opaque, bytes.clone(), None, started);
            let mut got = None;
            world.run_until(2_000_000, |world| {
                while let Some(event) = world.node(2).event() {
                    if let Event::Object(ObjectEvent::Received { id, bytes, .. }) = event {
                        got = Some((id, bytes));
                    }
                }
                got.is_some()
            });
            let (id, arrived) = got.expect("it arrives");
            assert!(Ok(id) == sent && arrived == bytes);
            // Twice 25 ms on the way, 8.7 ms to put a megabyte on the line.
            let took = world.now.since(started);
            assert!((58_000..most_us).contains(&took), "loss {loss}: {took} us");
            world.run(1_000_000);
            let delivered = std::iter::from_fn(|| world.node(0).event());
            let delivered = delivered
                .filter(|event| matches!(event, Event::Object(ObjectEvent::Delivered { .. })));
            assert_eq!(delivered.count(), 1, "its neighbour has it and said so");
        }
    }

    #[test]
    fn trust_that_is_taken_away_at_run_time_ends_the_passing_on_of_single_symbols() {
        let path = Path { rate_bytes_s: 125_000_000, queue_us: 200_000, ..Path::clean(5_000) };
        let nodes = vec![engine(0, &[1]), engine(1, &[0, 2]), engine(2, &[1])];
        let mut world = World::new(Network::new(1, path), nodes);
        world.run(2_000_000);
        let took = |world: &mut World<Engine>, seed| {
            let started = world.now;
            let bytes: Arc<[u8]> = Dice::new(seed).bytes(1_000_000).into();
            world.node(0).send(Class::Opaque, bytes, None, started).expect("a peer");
            let done = world.run_until(2_000_000, |world| {
                let mut events = std::iter::from_fn(|| world.node(2).event());
                events.any(|event| matches!(event, Event::Object(ObjectEvent::Received { .. })))
            });
            assert!(done, "it arrives");
            let took = world.now.since(started);
            world.run(1_000_000);
            took
        };
        let trusted = took(&mut world, 1);
        let now = world.now;
        let peers = configs(&[0, 2]).map(|config| PeerConfig { trusted: false, ..config });
        world.node(1).set_peers(peers.collect(), now);
        assert_eq!(world.node(1).view().up().count(), 2, "no link noticed");
        let apart = took(&mut world, 2);
        // A megabyte takes 9 ms: it is passed on when all of it is here.
        assert!(apart > trusted + 6_000, "{trusted} us trusted, {apart} us not");
    }

    #[test]
    fn a_large_object_survives_outages_of_every_length() {
        for (seed, outage_us, at_us) in [
            (1, 50_000, 60_000),
            (2, 400_000, 80_000),
            (3, 1_500_000, 50_000),
            (4, 5_000_000, 70_000),
        ] {
            let path = Path { rate_bytes_s: 125_000_000, queue_us: 200_000, ..Path::clean(25_000) };
            let nodes = vec![engine(0, &[1]), engine(1, &[0])];
            let mut world = World::new(Network::new(seed, path), nodes);
            world.run(2_000_000);
            let bytes: Arc<[u8]> = Dice::new(seed).bytes(8_000_000).into();
            let started = world.now;
            world.node(0).send(Class::Opaque, bytes.clone(), None, started).expect("a peer");
            world.run(at_us);
            // The receiver hears nothing for a while: its process was not given a processor.
            world.net.set_path(address(0), address(1), path.lossy(1.0));
            world.run(outage_us);
            world.net.set_path(address(0), address(1), path);
            let done = world.run_until(20_000_000, |world| {
                std::iter::from_fn(|| world.node(1).event())
                    .any(|event| matches!(event, Event::Object(ObjectEvent::Received { .. })))
            });
            let took = world.now.since(started);
            let now = world.now;
            let status = (world.node(0).status(now), world.node(1).status(now));
            assert!(done, "outage {outage_us}: {status:#?}");
            assert!(took < outage_us + 4_000_000, "outage {outage_us}: took {took} us");
        }
    }

    #[test]
    fn status_shows_every_peer_with_what_was_measured() {
        let nodes = vec![engine(0, &[1, 7]), engine(1, &[0])];
        let mut world = World::new(Network::new(1, Path::clean(5_000)), nodes);
        world.run(1_000_000);
        let now = world.now;
        world.node(0).receive(address(9), b"noise", now);
        let status = world.node(0).status(now);
        let states: Vec<LinkState> = status.peers.iter().map(|peer| peer.state).collect();
        assert_eq!(states, [LinkState::Up, LinkState::Calling]);
        assert!((10_000..10_200).contains(&status.peers[0].rtt_us), "{:?}", status.peers[0]);
        assert!((949.0..951.0).contains(&status.peers[0].rate_mbit));
        assert_eq!(status.drops.get("malformed"), Some(&1));
        assert_eq!(world.node(0).peer_named("node 7"), Some(PeerId(1)));
    }
}
