//! Stories of links: how they come up, survive the network and hostile neighbours, and come back.

use super::*;
use crate::link::{DEAD_US, LinkState};
use crate::testing::{Dice, Network, Node, Path, World, address};
use crate::wire::{Class, Code, DataFields, ObjectId, SYMBOL_LEN};

/// Sends numbered symbols to every peer and remembers what comes.
#[derive(Debug, Default)]
struct Counting {
    to_send: HashMap<PeerId, u64>,
    low: bool,
    got: HashMap<PeerId, Vec<u64>>,
    story: Vec<(&'static str, PeerId)>,
    refuse: Option<DropReason>,
}

impl Upper for Counting {
    fn peer_up(&mut self, peer: PeerId, _: PeerInfo, _: &LinkView, _: NowUs) {
        self.story.push(("up", peer));
    }

    fn peer_down(&mut self, peer: PeerId, _: NowUs) {
        self.story.push(("down", peer));
    }

    fn on_frame(
        &mut self,
        peer: PeerId,
        frame: &Frame<'_>,
        _: &LinkView,
        _: NowUs,
    ) -> Result<(), DropReason> {
        self.got.entry(peer).or_default().push(frame.object().0);
        self.refuse.map_or(Ok(()), Err)
    }

    fn pending(&self, peer: PeerId) -> Option<Priority> {
        let any = self.to_send.get(&peer).is_some_and(|&left| left > 0);
        any.then_some(if self.low { Priority::Low } else { Priority::Useful })
    }

    fn next_frame(
        &mut self,
        peer: PeerId,
        _: &LinkView,
        _: NowUs,
        frame: &mut FrameBuf,
    ) -> Option<Priority> {
        let priority = self.pending(peer)?;
        let left = self.to_send.get_mut(&peer)?;
        let fields = DataFields {
            flags: 0,
            object: ObjectId(*left),
            object_len: 1,
            group: 0,
            symbol: 0,
            k: 1,
            code: Code::None,
            class: Class::Opaque,
            hops_left: 0,
            parity: 0,
        };
        *left -= 1;
        frame.data(&fields, SYMBOL_LEN);
        Some(priority)
    }
}

#[derive(Debug)]
struct Relay {
    links: Links,
    upper: Counting,
}

impl Node for Relay {
    fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: NowUs) {
        self.links.receive(from, datagram, &mut self.upper, now);
    }

    fn tick(&mut self, now: NowUs) {
        self.links.tick(&mut self.upper, now);
    }

    fn next_due(&self, now: NowUs) -> NowUs {
        self.links.next_due(&self.upper, now)
    }

    fn transmit(&mut self, now: NowUs, out: &mut dyn FnMut(SocketAddr, &[u8]) -> bool) {
        self.links.transmit(&mut self.upper, now, &mut |to, bytes| out(to, bytes));
    }
}

impl Relay {
    fn sends(&mut self, peer: u16, count: u64) {
        self.upper.to_send.insert(PeerId(peer), count);
    }

    fn state(&self, now: NowUs) -> LinkState {
        self.links.iter().next().expect("one peer").state(now)
    }

    fn got(&self, peer: u16) -> usize {
        self.upper.got.get(&PeerId(peer)).map_or(0, Vec::len)
    }
}

fn keys(node: usize) -> Keys {
    Keys::from_secret([node as u8 + 1; 32])
}

fn peer(node: usize) -> PeerConfig {
    PeerConfig {
        name: format!("node {node}"),
        addr: Some(address(node)),
        public_key: *keys(node).public(),
        trusted: true,
        rate_mbit: 1_000,
        dedicated_line: false,
    }
}

fn relay_with(
    node: usize,
    peers: Vec<PeerConfig>,
    config: LinksConfig,
    seed: u8,
    now: NowUs,
) -> Relay {
    let mut links = Links::new(config, keys(node), &[seed; 32], now);
    let mut upper = Counting::default();
    links.set_peers(peers, &mut upper, now);
    Relay { links, upper }
}

fn relay(node: usize, peers: Vec<PeerConfig>, seed: u8, now: NowUs) -> Relay {
    relay_with(node, peers, LinksConfig::default(), seed, now)
}

const START: NowUs = NowUs(1_000_000);

fn two(path: Path, seed: u64) -> World<Relay> {
    let nodes = vec![relay(0, vec![peer(1)], 1, START), relay(1, vec![peer(0)], 2, START)];
    World::new(Network::new(seed, path), nodes)
}

fn both_up(world: &mut World<Relay>) -> bool {
    let now = world.now;
    world.nodes.iter().flatten().all(|node| node.state(now) == LinkState::Up)
}

#[test]
fn two_relays_that_know_each_others_keys_are_up_after_two_round_trips_and_a_half() {
    let mut world = two(Path::clean(25_000), 1);
    assert!(world.run_until(126_000, both_up));
    world.run(500_000);
    let row = *world.node(0).links.view().get(PeerId(0));
    assert!((50_000..51_000).contains(&row.rtt_us), "{row:?}");
    assert_eq!(world.node(0).links.drops().sum() + world.node(1).links.drops().sum(), 0);
}

#[test]
fn a_relay_that_is_only_called_learns_the_address() {
    let silent = PeerConfig { addr: None, ..peer(1) };
    let nodes = vec![relay(0, vec![silent], 1, START), relay(1, vec![peer(0)], 2, START)];
    let mut world = World::new(Network::new(1, Path::clean(10_000)), nodes);
    assert!(world.run_until(100_000, both_up));
    world.node(0).sends(0, 100);
    world.run(100_000);
    assert_eq!(world.node(1).got(0), 100);
}

#[test]
fn frames_arrive_once_and_never_changed_whatever_the_path_does() {
    for seed in 0..40 {
        let path = Path::any(&mut Dice::new(seed));
        let mut world = two(path, seed);
        assert!(world.run_until(60_000_000, both_up), "seed {seed}: not up over {path:?}");
        world.node(0).sends(0, 2_000);
        world.run(2_000_000);
        let got = &world.node(1).upper.got.get(&PeerId(0)).cloned().unwrap_or_default();
        let mut once = got.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), got.len(), "seed {seed}: a frame came twice");
        assert!(once.iter().all(|&at| (1..=2_000).contains(&at)), "seed {seed}: a changed frame");
        let lost = 1.0 - got.len() as f64 / 2_000.0;
        let most = path.loss + path.corrupt + path.bursts.0 * path.bursts.1 + 0.1;
        assert!(lost < most, "seed {seed}: {lost} lost over {path:?}");
    }
}

#[test]
fn loss_is_measured_where_it_happens_and_told_to_who_can_do_something_about_it() {
    let mut world = two(Path::clean(5_000), 3);
    world.net.set_path(address(0), address(1), Path::clean(5_000).lossy(0.05));
    assert!(world.run_until(10_000_000, both_up));
    world.node(0).sends(0, 20_000);
    world.node(1).sends(0, 20_000);
    world.run(1_000_000);
    let there = world.node(0).links.view().get(PeerId(0)).loss;
    let back = world.node(1).links.view().get(PeerId(0)).loss;
    assert!((0.05..0.12).contains(&there), "{there}");
    assert!(back < 0.001, "{back}");
}

#[test]
fn a_restarted_peer_is_back_within_two_seconds_whoever_calls() {
    for seed in 0..30 {
        let loss = [0.0, 0.01, 0.05][seed as usize % 3];
        let only_called = seed % 2 == 1;
        let path = Path::clean(25_000).lossy(loss);
        let first = if only_called { PeerConfig { addr: None, ..peer(0) } } else { peer(0) };
        let nodes =
            vec![relay(0, vec![peer(1)], 1, START), relay(1, vec![first.clone()], 2, START)];
        let mut world = World::new(Network::new(seed, path), nodes);
        assert!(world.run_until(10_000_000, both_up));
        world.run(1_000_000);
        world.node(0).upper.story.clear();
        // The process is gone for a fifth of a second and has forgotten every session.
        world.nodes[1] = None;
        world.run(200_000);
        world.nodes[1] = Some(relay(1, vec![first], 77, world.now));
        let started = world.now;
        let back = world.run_until(2_000_000, |world| {
            let story = &world.node(0).upper.story;
            story.ends_with(&[("down", PeerId(0)), ("up", PeerId(0))]) && both_up(world)
        });
        assert!(back, "seed {seed}, loss {loss}, only called: {only_called}");
        assert!(world.now.since(started) <= 2_000_000);
        world.node(0).sends(0, 100);
        world.run(200_000);
        assert!(world.node(1).got(0) > 70, "seed {seed}: frames flow again");
    }
}

#[test]
fn a_peer_that_vanishes_is_down_after_three_seconds_and_called_ever_less_often() {
    let mut world = two(Path::clean(1_000), 5);
    assert!(world.run_until(1_000_000, both_up));
    world.nodes[1] = None;
    world.run(DEAD_US + 300_000);
    assert_eq!(world.node(0).upper.story, [("up", PeerId(0)), ("down", PeerId(0))]);
    world.run(120_000_000);
    let before = world.net.counts().sent;
    world.run(160_000_000);
    let calls = world.net.counts().sent - before;
    assert!((7..=15).contains(&calls), "{calls} calls in 160 s");
}

#[test]
fn sessions_are_replaced_without_losing_a_frame() {
    for seed in 0..10 {
        let rekey = Rekey { packets: 3_000, us: 700_000 };
        let config = LinksConfig { rekey, ..LinksConfig::default() };
        let nodes = vec![
            relay_with(0, vec![peer(1)], config, 1, START),
            relay_with(1, vec![peer(0)], config, 2, START),
        ];
        let mut world = World::new(Network::new(seed, Path::clean(20_000)), nodes);
        assert!(world.run_until(1_000_000, both_up));
        for _ in 0..100 {
            world.node(0).sends(0, 500);
            world.node(1).sends(0, 500);
            world.run(100_000);
        }
        for at in 0..2 {
            assert_eq!(world.node(at).got(0), 50_000, "seed {seed}");
            assert_eq!(world.node(at).upper.story.len(), 1, "seed {seed}: the link went down");
            let sessions = world.node(at).links.sessions();
            assert!(sessions <= crate::link::SESSIONS_MAX + 1, "seed {seed}: {sessions} sessions");
        }
    }
}

#[test]
fn dropping_and_adding_a_peer_does_not_touch_the_others() {
    let nodes = vec![
        relay(0, vec![peer(1), peer(2)], 1, START),
        relay(1, vec![peer(0)], 2, START),
        relay(2, vec![peer(0)], 3, START),
    ];
    let mut world = World::new(Network::new(1, Path::clean(10_000)), nodes);
    world.run(500_000);
    world.node(0).sends(0, 1_000_000);
    world.run(100_000);
    let now = world.now;
    let node = world.node(0);
    node.upper.story.clear();
    node.links.set_peers(vec![peer(1)], &mut node.upper, now);
    assert_eq!(node.upper.story, [("down", PeerId(1))]);
    let before = world.node(1).got(0);
    world.run(100_000);
    assert!(world.node(1).got(0) > before + 5_000, "the other link went on");
    assert_eq!(world.node(2).upper.story.last(), Some(&("down", PeerId(0))), "it was told");

    let now = world.now;
    let node = world.node(0);
    node.links.set_peers(vec![peer(1), peer(2)], &mut node.upper, now);
    world.run(1_000_000);
    assert_eq!(world.node(0).upper.story, [("down", PeerId(1)), ("up", PeerId(1))]);
    assert_eq!(world.node(1).upper.story, [("up", PeerId(0))], "never went down");
}

#[test]
fn a_peer_with_another_key_is_not_let_in() {
    let wrong = Keys::from_secret([99; 32]);
    let mut upper = Counting::default();
    let mut links = Links::new(LinksConfig::default(), wrong, &[5; 32], START);
    links.set_peers(vec![peer(0)], &mut upper, START);
    let nodes = vec![relay(0, vec![peer(1)], 1, START), Relay { links, upper }];
    let mut world = World::new(Network::new(1, Path::clean(1_000)), nodes);
    world.run(5_000_000);
    assert!(world.node(0).upper.story.is_empty() && world.node(1).upper.story.is_empty());
    assert!(world.node(0).links.drops().of(DropReason::PeerUnknown) > 0);
}

#[test]
fn whoever_forges_and_repeats_packets_takes_no_link_down_and_takes_no_memory() {
    let mut world = two(Path::clean(5_000), 1);
    world.net.watch();
    let mut dice = Dice::new(4);
    assert!(world.run_until(1_000_000, both_up));
    world.node(0).sends(0, 500);
    // Whatever is on the wire, the attacker sees and sends again, also from the other's address and with bits changed.
    for _ in 0..3_000 {
        world.run(500);
        let now = world.now;
        let seen = world.net.watched();
        let mut bytes = seen[dice.below(seen.len() as u64) as usize].bytes.clone();
        if dice.unit() < 0.5 {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= dice.word() as u8;
        }
        if dice.unit() < 0.5 {
            // A number that was not heard yet, so that only the tag stands in the way.
            bytes[5] ^= 0x40;
        }
        if dice.unit() < 0.2 {
            bytes.truncate(dice.below(bytes.len() as u64 + 1) as usize);
        }
        let from = [address(0), address(7)][dice.below(2) as usize];
        world.node(1).receive(from, &bytes, now);
        let hello = write_hello(dice.word() as u32, None);
        world.node(1).receive(address(0), &hello, now);
    }
    world.run(1_000_000);
    assert!(both_up(&mut world));
    assert_eq!(world.node(1).upper.story, [("up", PeerId(0))]);
    assert!(world.node(1).links.sessions() <= 3);
    let got = &world.node(1).upper.got[&PeerId(0)];
    assert_eq!(got.len(), 500, "every frame once");
    let drops = world.node(1).links.drops().clone();
    assert!(
        drops.of(DropReason::Replay) > 100 && drops.of(DropReason::MacWrong) > 100,
        "{drops:?}"
    );
}

#[test]
fn a_handshake_that_is_sent_again_makes_no_session() {
    let mut world = two(Path::clean(1_000), 1);
    world.net.watch();
    assert!(world.run_until(1_000_000, both_up));
    let to_one = |seen: &&crate::testing::Flying| {
        seen.to == address(1) && seen.bytes.len() == HELLO_LEN && seen.bytes[1] == 0
    };
    let hello = world.net.watched().iter().find(to_one).expect("a call with a cookie");
    let hello = hello.bytes.clone();
    let sessions = world.node(1).links.sessions();
    let now = world.now;
    for _ in 0..5 {
        world.node(1).receive(address(0), &hello, now);
    }
    assert_eq!(world.node(1).links.sessions(), sessions);
    assert_eq!(world.node(1).links.drops().of(DropReason::HandshakeReplay), 5);
    world.node(1).receive(address(9), &hello, now);
    assert_eq!(world.node(1).links.drops().of(DropReason::CookieWrong), 1, "from elsewhere");
}

#[test]
fn answers_to_strangers_are_shorter_than_their_questions_and_few_wait() {
    let mut relay = relay(0, vec![peer(1)], 1, START);
    for at in 0..10_000_u32 {
        let from = SocketAddr::from((at.to_be_bytes(), 5));
        relay.receive(from, &write_hello(at, None), START);
    }
    let mut bytes = 0;
    let mut answers = 0;
    relay.links.transmit(&mut relay.upper, START, &mut |_, datagram| {
        assert!(datagram.len() <= HELLO_LEN);
        bytes += datagram.len();
        answers += 1;
        true
    });
    assert_eq!(answers, OUTBOX_MAX - 24, "places for our own calls stay free");
    assert_eq!(relay.links.sessions(), 0);
    assert_eq!(relay.links.drops().of(DropReason::HelloFlood), 10_000 - answers as u64);
}

#[test]
fn a_peer_that_sends_what_no_encoder_makes_is_shut_out_for_a_while() {
    let mut world = two(Path::clean(1_000), 1);
    assert!(world.run_until(1_000_000, both_up));
    world.node(1).upper.refuse = Some(DropReason::HashWrong);
    world.node(0).sends(0, 10);
    world.run(5_000_000);
    let now = world.now;
    assert_eq!(world.node(1).state(now), LinkState::Quarantined);
    assert_eq!(world.node(1).upper.story, [("up", PeerId(0)), ("down", PeerId(0))]);
    assert!(world.node(1).links.drops().of(DropReason::Quarantined) > 0);
    world.node(1).upper.refuse = None;
    assert!(world.run_until(90_000_000, both_up), "a minute later it may try again");
}

#[test]
fn the_rate_of_a_peer_and_of_the_relay_is_kept() {
    let slow = PeerConfig { rate_mbit: 80, ..peer(1) };
    let total = LinksConfig { total_mbit: 100, ..LinksConfig::default() };
    let nodes = vec![
        relay_with(0, vec![slow, peer(2)], total, 1, START),
        relay(1, vec![peer(0)], 2, START),
        relay(2, vec![peer(0)], 3, START),
    ];
    let mut world = World::new(Network::new(1, Path::clean(1_000)), nodes);
    world.run(100_000);
    world.node(0).sends(0, 100_000);
    world.run(1_000_000);
    let alone = world.node(1).got(0);
    assert!((7_900..8_100).contains(&alone), "{alone} packets of 1,248 bytes at 80 Mbit/s");
    world.node(0).sends(1, 100_000);
    world.run(1_000_000);
    let (first, second) = (world.node(1).got(0) - alone, world.node(2).got(0));
    assert!((9_900..10_200).contains(&(first + second)), "{first} and {second}");
    assert!(first > 3_000 && second > 3_000, "they take turns: {first} and {second}");
}

#[test]
fn a_full_socket_loses_nothing() {
    let mut world = two(Path::clean(1_000), 1);
    assert!(world.run_until(1_000_000, both_up));
    world.node(0).sends(0, 300);
    let mut dice = Dice::new(1);
    for _ in 0..5_000 {
        world.now += 20;
        let now = world.now;
        let mut out = Vec::new();
        let relay = world.node(0);
        relay.links.transmit(&mut relay.upper, now, &mut |_, bytes| {
            let takes = dice.unit() < 0.4;
            if takes {
                out.push(bytes.to_vec());
            }
            takes
        });
        out.iter().for_each(|bytes| world.node(1).receive(address(0), bytes, now));
    }
    assert_eq!(world.node(1).got(0), 300);
}

#[test]
fn our_queue_in_a_shared_line_makes_us_slower_and_a_dedicated_line_does_not() {
    for (dedicated, fair) in [(false, 3_000..10_000), (true, 18_000..21_000)] {
        let to = PeerConfig { rate_mbit: 200, dedicated_line: dedicated, ..peer(1) };
        let nodes = vec![relay(0, vec![to], 1, START), relay(1, vec![peer(0)], 2, START)];
        let mut net = Network::new(1, Path::clean(10_000));
        // Half of what is configured fits.
        let narrow = Path { rate_bytes_s: 12_500_000, queue_us: 200_000, ..Path::clean(10_000) };
        net.set_path(address(0), address(1), narrow);
        let mut world = World::new(net, nodes);
        assert!(world.run_until(1_000_000, both_up));
        world.node(0).sends(0, 1_000_000);
        world.run(3_000_000);
        let before = world.net.counts().sent;
        world.run(1_000_000);
        let sent = world.net.counts().sent - before;
        assert!(fair.contains(&(sent as usize)), "dedicated {dedicated}: {sent} in a second");
    }
}
