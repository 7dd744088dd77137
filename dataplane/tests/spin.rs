//! Toy tiles on real threads: they answer everything, stop cleanly, sleep when idle, and are woken in time.

mod toy;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataplane::driver::spin::{self, SpinOptions};
use dataplane::driver::{Crew, OnPanic, Running};
use dataplane::mem::seal::SealedHeap;
use dataplane::metrics::Cell;
use dataplane::stem::{State, Stem};
use dataplane::tile::{Frag, In, Outs, Stamp, Tile};
use dataplane::time::{Clock, HostClock};
use dataplane::topo::{BuildOptions, ExternalEnds, Kind, Topology, one};
use toy::*;

#[global_allocator]
static HEAP: SealedHeap = SealedHeap;

/// One test at a time: they all want every processor.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn start(t: &Topology, options: &SpinOptions, die_at: Option<u64>) -> (Running, ExternalEnds) {
    let clock = HostClock::start();
    let machine = t.plan().expect("sound").build(&BuildOptions::default()).expect("built");
    let mut crew = Crew::new(machine, clock.clone());
    crew.seat(Ask::new).expect("asks");
    crew.seat(|w| {
        let mut owner = Owner::new(w);
        owner.panics_at = die_at;
        owner
    })
    .expect("owners");
    crew.seat(|_| Sink { frags: 0, sum: 0, oldest_ns: 0 }).expect("sink");
    let source = crew.external("source", 0).expect("source");
    let (loads, machine) = crew.loads().expect("everybody is seated");
    (spin::start(loads, machine, &clock, options).expect("started"), source)
}

fn publish_all(source: &mut ExternalEnds, jobs: u64) {
    let asks = source.outs.len() as u64;
    for n in 0..jobs {
        let out = &mut source.outs[(n % asks) as usize];
        while out.publish(n / asks % 2, UNBORN, &job(n)).is_err() {
            std::thread::yield_now();
        }
    }
}

fn sink_of(stopped: &dataplane::driver::Stopped) -> &Sink {
    stopped.stem::<Stem<Sink, HostClock>>("sink:0").expect("the sink came back").tile()
}

#[test]
fn all_jobs_are_answered_and_a_stop_loses_none_in_flight() {
    let _alone = alone();
    for cores in [1, 2] {
        let options = SpinOptions::for_machine(cores);
        let (running, mut source) = start(&topology(2, 2, cores), &options, None);
        let jobs = 50_000;
        publish_all(&mut source, jobs);
        // Stopped at once: what is on the links and in the tiles must come out all the same.
        let stopped = running.stop(Duration::from_secs(20));
        assert!(stopped.drained, "the machine did not come to rest on {cores} cores");
        assert_eq!((sink_of(&stopped).frags, sink_of(&stopped).sum), (jobs, (0..jobs).sum()));
        for tile in stopped.machine.metrics().tiles() {
            assert_eq!(tile.cell(Cell::State), State::Halt as u64);
            assert_eq!(
                tile.cell(Cell::AllocAfterSeal),
                0,
                "{}:{} allocated",
                tile.name(),
                tile.index()
            );
        }
    }
}

#[test]
fn a_floating_tile_turns_on_a_thread_of_its_own() {
    let _alone = alone();
    let mut t = topology(1, 2, 1);
    t.floating("owner");
    let (running, mut source) = start(&t, &SpinOptions::for_machine(3), None);
    publish_all(&mut source, 1_000);
    let stopped = running.stop(Duration::from_secs(20));
    assert!(stopped.drained);
    assert_eq!(sink_of(&stopped).frags, 1_000);
}

#[test]
fn a_tile_that_panics_is_named_and_takes_the_machine_with_it() {
    let _alone = alone();
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let hook = move |label: &str| {
        let _ = tell.lock().expect("one caller").send(label.to_owned());
    };
    let options =
        SpinOptions { on_panic: OnPanic::Call(Arc::new(hook)), ..SpinOptions::for_machine(1) };
    let (running, mut source) = start(&topology(1, 2, 1), &options, Some(3));
    for n in 0..8 {
        source.outs[0].publish(1, UNBORN, &job(n)).expect("room");
    }
    let label = told.recv_timeout(Duration::from_secs(20)).expect("the hook was called");
    assert_eq!(label, "owner:1");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !running.has_failed() || running.is_alive() {
        assert!(Instant::now() < deadline, "the machine runs on without its owner");
        std::thread::sleep(Duration::from_millis(1));
    }
    let stopped = running.stop(Duration::from_secs(20));
    assert!(!stopped.drained);
    let owner = stopped.machine.metrics().tile("owner", 1).expect("owner");
    assert_eq!(owner.cell(Cell::State), State::Fail as u64);
}

#[test]
fn an_allocation_on_a_hot_core_is_counted() {
    struct Careless;
    impl Tile for Careless {
        const NAME: &'static str = "careless";
        const BURST: u32 = 0;
        fn frag(&mut self, _: In, frag: Frag<'_>, _: &mut Outs) {
            drop(std::hint::black_box(frag.bytes.to_vec()));
        }
    }
    let _alone = alone();
    let mut t = Topology::new("careless");
    t.external("source", 1).tile::<Careless>(1).cores(1).place("careless", 0, 0);
    t.link("source_careless", 64, 64, Kind::Lossless, one("source"), one("careless"));
    let clock = HostClock::start();
    let machine = t.plan().expect("sound").build(&BuildOptions::default()).expect("built");
    let mut crew = Crew::new(machine, clock.clone());
    crew.seat(|_| Careless).expect("seated");
    let mut source = crew.external("source", 0).expect("source");
    let (loads, machine) = crew.loads().expect("complete");
    let running =
        spin::start(loads, machine, &clock, &SpinOptions::for_machine(1)).expect("started");
    for n in 0..10 {
        source.outs[0].publish(0, UNBORN, &job(n)).expect("room");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while running.machine().metrics().tile("careless", 0).expect("tile").cell(Cell::AllocAfterSeal)
        < 10
    {
        assert!(Instant::now() < deadline, "ten allocations were not counted");
        std::thread::sleep(Duration::from_millis(1));
    }
    running.stop(Duration::from_secs(5));
}

#[test]
fn a_layout_with_more_cores_than_processors_is_refused_when_bound() {
    let _alone = alone();
    let clock = HostClock::from_system();
    let machine =
        topology(1, 1, 2).plan().expect("sound").build(&BuildOptions::default()).expect("built");
    let mut crew = Crew::new(machine, clock.clone());
    crew.seat(Ask::new).and_then(|c| c.seat(Owner::new)).expect("seated");
    let missing = crew.machine().plan().tiles.iter().any(|t| t.name == "sink");
    assert!(missing);
    let error = crew.loads().expect_err("the sink is not seated").to_string();
    assert!(error.contains("sink:0"), "{error}");
    let machine =
        topology(1, 1, 2).plan().expect("sound").build(&BuildOptions::default()).expect("built");
    let mut crew = Crew::new(machine, clock.clone());
    crew.seat(Ask::new).and_then(|c| c.seat(Owner::new)).expect("seated");
    crew.seat(|_| Sink { frags: 0, sum: 0, oldest_ns: 0 }).expect("seated");
    let (loads, machine) = crew.loads().expect("complete");
    let options = SpinOptions { cpus: vec![0], ..SpinOptions::for_machine(1) };
    let error =
        spin::start(loads, machine, &clock, &options).expect_err("two cores, one processor");
    assert!(error.to_string().contains("2 cores"), "{error}");
}

/// Processor time of this process so far.
fn process_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let of_main = stat.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut total = Duration::from_nanos(of_main);
    if let Ok(tasks) = std::fs::read_dir("/proc/self/task") {
        total = tasks
            .flatten()
            .filter_map(|t| std::fs::read_to_string(t.path().join("schedstat")).ok())
            .filter_map(|s| s.split_whitespace().next().and_then(|n| n.parse().ok()))
            .map(Duration::from_nanos)
            .sum();
    }
    total
}

/// Why timing cannot be judged now, if so: others are using the processors.
fn busy_machine() -> Option<String> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split_whitespace().next()?.parse().ok()?;
    (load > 0.5).then(|| format!("load average {load}"))
}

#[test]
fn an_idle_machine_sleeps_and_wakes_within_a_millisecond() {
    let _alone = alone();
    let clock = HostClock::start();
    let (running, mut source) = start(&topology(2, 2, 2), &SpinOptions::for_machine(2), None);
    std::thread::sleep(Duration::from_millis(50));
    let parks = |running: &Running| {
        running.machine().metrics().tiles().map(|t| t.cell(Cell::CoreParks)).max().unwrap_or(0)
    };
    let (cpu, wall, parked) = (process_cpu(), Instant::now(), parks(&running));
    std::thread::sleep(Duration::from_secs(1));
    let (cpu, wall) = (process_cpu().saturating_sub(cpu), wall.elapsed());
    let share = cpu.as_secs_f64() / wall.as_secs_f64();
    assert!(parks(&running) > parked, "an idle core never slept");

    // One job at a time, each after a pause in which every core falls asleep: how long until it is answered.
    let mut latency_us = Vec::new();
    for n in 0..200 {
        std::thread::sleep(Duration::from_millis(5));
        let answered = |r: &Running| {
            r.machine()
                .metrics()
                .tiles()
                .filter(|t| t.name() == "sink")
                .flat_map(|t| t.ins().map(|(_, l)| l.frags).collect::<Vec<_>>())
                .sum::<u64>()
        };
        let sent = clock.now();
        source.outs[0].publish(0, Stamp::of(sent), &job(n)).expect("room");
        while answered(&running) <= n {
            std::thread::sleep(Duration::from_micros(20));
        }
        latency_us.push((clock.now() - sent) / 1_000);
    }
    let stopped = running.stop(Duration::from_secs(20));
    assert!(stopped.drained);
    assert_eq!(sink_of(&stopped).frags, 200, "every job after a sleep was answered");
    latency_us.sort_unstable();
    let (p50, p99) = (latency_us[100], latency_us[198]);
    eprintln!(
        "idle: {:.2} % of one core; first answer after idle: p50 {p50} us, p99 {p99} us",
        share * 100.0
    );
    if let Some(why) = busy_machine() {
        eprintln!("not judged: {why}");
        return;
    }
    assert!(share <= 0.02, "an idle machine used {:.2} % of one core", share * 100.0);
    assert!(p99 <= 1_000, "first answer after idle: p99 {p99} us");
}
