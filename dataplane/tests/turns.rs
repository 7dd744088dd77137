//! Toy tiles turned by hand, as the simulator does: credits, backpressure, filters, counts.

mod toy;

use dataplane::metrics::{Cell, Regime};
use dataplane::rng::Rng;
use dataplane::stem::{Stem, Turn};
use dataplane::time::{Clock, ManualClock, US};
use dataplane::topo::{BuildOptions, ExternalEnds, Machine};
use toy::*;

struct Toy {
    machine: Machine,
    clock: ManualClock,
    source: ExternalEnds,
    asks: Vec<Stem<Ask, ManualClock>>,
    owners: Vec<Stem<Owner, ManualClock>>,
    sink: Stem<Sink, ManualClock>,
}

impl Toy {
    fn new(asks: usize, owners: usize, seed: u64) -> Self {
        let plan = topology(asks, owners, 1).plan().expect("the toy table is sound");
        let mut machine =
            plan.build(&BuildOptions { seed, ..BuildOptions::default() }).expect("built");
        let clock = ManualClock::new();
        let wire = |m: &mut Machine, tile: &str, i| m.wiring(tile, i).expect("wiring");
        let ask = |i| {
            let w = wire(&mut machine, "ask", i);
            let tile = Ask::new(&w);
            w.stem(tile, clock.clone())
        };
        let asks = (0..asks).map(ask).collect();
        let owner = |i| {
            let w = wire(&mut machine, "owner", i);
            let tile = Owner::new(&w);
            w.stem(tile, clock.clone())
        };
        let owners = (0..owners).map(owner).collect();
        let sink = wire(&mut machine, "sink", 0)
            .stem(Sink { frags: 0, sum: 0, oldest_ns: 0 }, clock.clone());
        let source = machine.external("source", 0).expect("source");
        Self { machine, clock, source, asks, owners, sink }
    }

    /// One turn of a random tile; whether it was busy.
    fn step(&mut self, rng: &mut Rng) -> Turn {
        self.clock.advance(rng.below(3) * US);
        let which = rng.index(self.asks.len() + self.owners.len() + 1);
        match which.checked_sub(self.asks.len()) {
            None => self.asks[which].turn(),
            Some(i) if i < self.owners.len() => self.owners[i].turn(),
            Some(_) => self.sink.turn(),
        }
    }
}

#[test]
fn every_job_is_answered_once_whatever_the_order_of_turns() {
    for seed in 0..20 {
        let mut toy = Toy::new(3, 2, seed);
        let mut rng = Rng::new(seed);
        let (mut sent, mut sum) = (0_u64, 0_u64);
        let jobs = 2_000;
        for _ in 0..2_000_000 {
            if sent < jobs && rng.chance(1, 2) {
                let out = rng.index(3);
                if toy.source.outs[out].publish(rng.below(2), UNBORN, &job(sent)).is_ok() {
                    sum += sent;
                    sent += 1;
                }
            }
            toy.step(&mut rng);
            if toy.sink.tile().frags == jobs {
                break;
            }
        }
        assert_eq!((toy.sink.tile().frags, toy.sink.tile().sum), (jobs, sum), "seed {seed}");
        let metrics = toy.machine.metrics();
        let sum_of = |count| {
            (0..3).map(|i| metrics.tile("ask", i).expect("ask").counter(count)).sum::<u64>()
        };
        assert_eq!(sum_of(AskCount::JobsTaken), jobs);
        assert_eq!(sum_of(AskCount::AnswersReceived), jobs);
        // What was published on a link is what was taken from it.
        for (i, link) in toy.machine.plan().links.iter().enumerate() {
            if link.row == "source_ask" {
                continue;
            }
            let tile = |at: usize| {
                let t = &toy.machine.plan().tiles[at];
                metrics.tile(t.name, t.index).expect("tile")
            };
            let sent = tile(link.producer.tile).outs().nth(link.producer.port).expect("out").1;
            let peer = link.consumers[0];
            let taken = tile(peer.tile).ins().nth(peer.port).expect("in").1;
            assert_eq!(
                (sent.frags, sent.bytes),
                (taken.frags, taken.bytes),
                "link {i} {}",
                link.name
            );
        }
    }
}

#[test]
fn a_full_link_to_one_owner_stops_neither_the_answers_nor_the_work_of_the_others() {
    let mut toy = Toy::new(1, 2, 1);
    toy.owners[1].tile_mut().deaf = true;
    let publish = |toy: &mut Toy, n: u64| {
        let owner = u64::from(n.is_multiple_of(4));
        let _ = toy.source.outs[0].publish(owner, UNBORN, &job(n));
    };
    // Owner 1 takes nothing: sixteen questions fill its link. Its seventeenth job then waits at the head of the source's
    // link, and everything asked of owner 0 before it is still answered.
    for n in 0..64 {
        publish(&mut toy, n);
    }
    for _ in 0..100 {
        toy.asks[0].turn();
        toy.owners[0].turn();
        toy.owners[1].turn();
        toy.sink.turn();
        toy.clock.advance(US);
    }
    let credit: Vec<_> =
        (0..2).map(|i| toy.asks[0].outs().credit(dataplane::tile::Out(i))).collect();
    assert_eq!(credit[1], 0, "the link to the deaf owner is full");
    assert_eq!(toy.asks[0].tile().received, [48, 0]);
    assert_eq!(toy.sink.tile().frags, 48);
    let ask = toy.machine.metrics().tile("ask", 0).expect("ask");
    assert!(ask.time().get(dataplane::metrics::Phase::Prefrag, Regime::CaughtUp) == 0);
    // It hears again: everything is answered.
    toy.owners[1].tile_mut().deaf = false;
    for _ in 0..100 {
        toy.asks[0].turn();
        toy.owners[0].turn();
        toy.owners[1].turn();
        toy.sink.turn();
    }
    assert_eq!(toy.asks[0].tile().received, [48, 16]);
    assert_eq!(toy.asks[0].turn(), Turn::Idle);
}

#[test]
fn a_blocked_turn_says_so_and_names_the_link_that_is_full() {
    let mut toy = Toy::new(1, 1, 1);
    toy.owners[0].tile_mut().deaf = true;
    for n in 0..40 {
        toy.source.outs[0].publish(0, UNBORN, &job(n)).expect("room for forty");
    }
    while toy.asks[0].turn() == Turn::Busy {}
    assert_eq!(toy.asks[0].turn(), Turn::Backpressured);
    let ask = toy.machine.metrics().tile("ask", 0).expect("ask");
    let blamed: Vec<_> =
        ask.outs().filter(|(_, l)| l.backpressured_turns > 0).map(|(n, _)| n.to_owned()).collect();
    assert_eq!(blamed, ["ask_owner:0.0"]);
    assert!(ask.cell(Cell::TurnsBackpressured) >= 1);
    assert_eq!(toy.owners[0].turn(), Turn::Backpressured, "the deaf owner leaves frags lying");
}

#[test]
fn credit_is_never_above_depth_nor_below_what_is_unread() {
    let mut toy = Toy::new(2, 2, 9);
    let mut rng = Rng::new(9);
    for n in 0..50_000 {
        let _ = toy.source.outs[rng.index(2)].publish(rng.below(2), UNBORN, &job(n));
        if rng.chance(1, 100) {
            let i = rng.index(2);
            toy.owners[i].tile_mut().deaf ^= true;
        }
        toy.step(&mut rng);
        for stem in &toy.asks {
            for out in 0..stem.outs().len() {
                let out = dataplane::tile::Out(out as u16);
                assert!(stem.outs().credit(out) <= stem.outs().depth(out));
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_counts() {
    let run = |seed| {
        let mut toy = Toy::new(2, 2, seed);
        let mut rng = Rng::new(seed);
        for n in 0..20_000 {
            let _ = toy.source.outs[rng.index(2)].publish(rng.below(2), UNBORN, &job(n));
            toy.step(&mut rng);
        }
        let metrics = toy.machine.metrics();
        metrics
            .tiles()
            .map(|t| {
                (t.time(), t.cell(Cell::Housekeepings), t.cell(Cell::TurnsBusy), t.ins().count())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_frag_keeps_its_time_of_birth_over_every_hop() {
    let mut toy = Toy::new(1, 1, 1);
    toy.source.outs[0].publish(0, dataplane::tile::Stamp::of(0), &job(1)).expect("room");
    for _ in 0..10 {
        toy.clock.advance(100 * US);
        toy.asks[0].turn();
        toy.owners[0].turn();
        toy.sink.turn();
    }
    assert_eq!(toy.sink.tile().frags, 1);
    let age = toy.sink.tile().oldest_ns;
    assert!((200 * US..=300 * US).contains(&age), "born at 0, seen three turns later: {age} ns");
}

#[test]
fn links_can_live_in_files_that_another_process_may_map() {
    let directory = std::env::temp_dir().join(format!("metanode-turns-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    let plan = topology(1, 1, 1).plan().expect("sound");
    let options = BuildOptions { directory: Some(directory.clone()), ..BuildOptions::default() };
    let mut machine = plan.build(&options).expect("built");
    let mut source = machine.external("source", 0).expect("source");
    source.outs[0].publish(3, UNBORN, &job(9)).expect("room");
    let other = ring::Link::open_file(directory.join("source_ask-0.0.link")).expect("mapped again");
    assert_eq!(other.spec().name, "source_ask:0.0");
    assert!(other.producer().is_err(), "the producer's end is taken");
    let mut ask = machine.wiring("ask", 0).map(|w| (Ask::new(&w), w)).expect("ask");
    assert_eq!(ask.1.input("source_ask"), Some(dataplane::tile::In(1)));
    ask.0.received.clear();
    std::fs::remove_dir_all(&directory).expect("cleaned up");
}

#[test]
fn an_instance_is_handed_out_once_and_as_what_it_is() {
    let mut machine =
        topology(1, 1, 1).plan().expect("sound").build(&BuildOptions::default()).expect("built");
    machine.wiring("ask", 0).expect("the first time");
    for (tile, index, why) in
        [("ask", 0, "before"), ("ask", 1, "no such"), ("source", 0, "external")]
    {
        let error = machine.wiring(tile, index).expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
    }
    let error = machine.external("sink", 0).expect_err("a tile").to_string();
    assert!(error.contains("it is a tile"), "{error}");
}

#[test]
fn the_nine_cells_add_up_to_the_time_that_passed_in_turns() {
    use dataplane::tile::{Busy, Frag, In, Outs, Tile};
    /// Moves the clock in every hook, as if each took time.
    struct Slow(ManualClock);
    impl Tile for Slow {
        const NAME: &'static str = "sink";
        const BURST: u32 = 0;
        fn housekeeping(&mut self, _: &mut dataplane::tile::House<'_>) {
            self.0.advance(5 * US);
        }
        fn before(&mut self, _: &mut Outs) -> Busy {
            self.0.advance(3 * US);
            Busy::No
        }
        fn frag(&mut self, _: In, _: Frag<'_>, _: &mut Outs) {
            self.0.advance(7 * US);
        }
    }
    let mut toy = Toy::new(1, 1, 3);
    let plan = topology(1, 1, 1).plan().expect("sound");
    let mut machine = plan.build(&BuildOptions::default()).expect("built");
    let clock = ManualClock::new();
    let mut slow =
        machine.wiring("sink", 0).expect("sink").stem(Slow(clock.clone()), clock.clone());
    let start = clock.now();
    for _ in 0..500 {
        slow.turn();
    }
    let view = machine.metrics().tile("sink", 0).expect("sink");
    assert_eq!(view.time().total(), clock.now() - start);
    assert_eq!(
        view.time().regime(Regime::CaughtUp),
        clock.now() - start,
        "there was nothing to do"
    );
    let house = view.time().get(dataplane::metrics::Phase::Housekeeping, Regime::CaughtUp);
    assert_eq!(house, view.cell(Cell::Housekeepings) * 5 * US);
    assert!(view.cell(Cell::Housekeepings) > 0);
    assert_eq!(toy.sink.turn(), Turn::Idle);
}

#[test]
fn a_tile_that_holds_something_back_is_waiting_not_idle() {
    use dataplane::tile::{Busy, Frag, In, Outs, Tile};
    struct Holds(bool);
    impl Tile for Holds {
        const NAME: &'static str = "ask";
        const BURST: u32 = 1;
        fn frag(&mut self, _: In, _: Frag<'_>, _: &mut Outs) {}
        fn after(&mut self, _: &mut Outs) -> Busy {
            if self.0 { Busy::Waiting } else { Busy::No }
        }
    }
    let plan = topology(1, 1, 1).plan().expect("sound");
    let mut machine = plan.build(&BuildOptions::default()).expect("built");
    let mut stem = machine.wiring("ask", 0).expect("ask").stem(Holds(true), ManualClock::new());
    assert_eq!(stem.turn(), Turn::Backpressured);
    stem.tile_mut().0 = false;
    assert_eq!(stem.turn(), Turn::Idle);
}

#[test]
#[should_panic(expected = "without credit")]
fn publishing_without_credit_on_a_lossless_link_is_a_violation() {
    use dataplane::tile::{Frag, In, Out, Outs, Tile};
    struct Greedy;
    impl Tile for Greedy {
        const NAME: &'static str = "ask";
        const BURST: u32 = 1;
        fn frag(&mut self, _: In, frag: Frag<'_>, outs: &mut Outs) {
            for _ in 0..1_000 {
                outs.publish(Out(0), 0, frag.bytes);
            }
        }
    }
    let mut t = topology(1, 1, 1);
    let mut machine = t
        .memory_limit(1 << 30)
        .plan()
        .expect("sound")
        .build(&BuildOptions::default())
        .expect("built");
    let mut stem = machine.wiring("ask", 0).expect("ask").stem(Greedy, ManualClock::new());
    let mut source = machine.external("source", 0).expect("source");
    source.outs[0].publish(0, UNBORN, &job(0)).expect("room");
    stem.turn();
}
