//! Links held against what they promise, with real packets between real namespaces.
//!
//! In: a chain of one or three hops, datagrams that carry their number and the time they were sent. Out: delays, losses, rates and
//! orders that must agree with the rules and with the link's own counts. Without root and `ip` every test says why it is skipped.

use emulator::link::now_ns;
use emulator::namespaces::{exists, ip, remove_stale};
use emulator::{Chain, ChainSpec, Impairment, available, within};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Set for the process that is killed while it holds a chain; its value is the chain's prefix.
const HOLD: &str = "EMULATOR_TEST_HOLDS";

fn chain(name: &str, hops: usize, rules: &Impairment) -> Option<Chain> {
    if let Err(why) = available() {
        eprintln!("skipped: {why}");
        return None;
    }
    let prefix = format!("mn{name}{}", std::process::id());
    Some(Chain::up(&ChainSpec::even(&prefix, hops, rules, 7)).expect("a chain where one may be"))
}

/// A datagram that arrived.
struct Arrival {
    number: u64,
    sent_ns: u64,
    got_ns: u64,
}

/// Sends `count` datagrams of `bytes` over link 1, a few every `gap`, and says what arrived.
fn send(chain: &Chain, count: u64, bytes: usize, burst: u64, gap: Duration) -> Vec<Arrival> {
    let (_, far) = Chain::addresses(1);
    let nodes = chain.nodes();
    let receiver =
        within(&nodes[1], || UdpSocket::bind((far, 0))).expect("node 1").expect("a port");
    let sender = within(&nodes[0], || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .expect("node 0")
        .expect("a port");
    sender.connect(receiver.local_addr().expect("bound")).expect("a route");
    receiver.set_read_timeout(Some(Duration::from_millis(700))).expect("a timeout");
    std::thread::scope(|scope| {
        let arrivals = scope.spawn(|| {
            let mut arrivals = Vec::new();
            let mut datagram = [0; 2_048];
            while let Ok(got) = receiver.recv(&mut datagram) {
                assert_eq!(got, bytes);
                let word = |at: usize| u64::from_le_bytes(datagram[at..at + 8].try_into().unwrap());
                arrivals.push(Arrival { number: word(0), sent_ns: word(8), got_ns: now_ns() });
            }
            arrivals
        });
        for number in 0..count {
            let mut datagram = vec![0; bytes];
            datagram[..8].copy_from_slice(&number.to_le_bytes());
            datagram[8..16].copy_from_slice(&now_ns().to_le_bytes());
            sender.send(&datagram).expect("a datagram is sent");
            if number % burst == burst - 1 {
                std::thread::sleep(gap);
            }
        }
        arrivals.join().expect("the receiver")
    })
}

#[test]
fn a_datagram_takes_the_delay_and_hardly_more() {
    let rules = Impairment { delay_us: 25_000, rate_mbit: 1_000, ..Impairment::default() };
    let Some(chain) = chain("dl", 1, &rules) else { return };
    let arrivals = send(&chain, 150, 200, 1, Duration::from_millis(5));
    assert_eq!(arrivals.len(), 150);
    let mut delays_us: Vec<u64> =
        arrivals.iter().map(|arrival| (arrival.got_ns - arrival.sent_ns) / 1_000).collect();
    delays_us.sort_unstable();
    assert!(delays_us[0] >= 25_000, "{} us is faster than the line", delays_us[0]);
    // Lateness is the scheduler's; on a machine that is busy with other tests the median still holds.
    assert!(delays_us[75] < 27_000, "{delays_us:?}");
}

#[test]
fn losses_are_within_binomial_bounds_and_every_frame_is_accounted_for() {
    let rules = Impairment { loss_pct: 5.0, ..Impairment::default() };
    let Some(chain) = chain("ls", 1, &rules) else { return };
    let sent = 10_000;
    let arrivals = send(&chain, sent, 100, 20, Duration::from_micros(500));
    let [there, back] = chain.links()[0].counts();
    assert_eq!(there.frames, sent);
    assert_eq!(there.lost + there.delivered, sent, "{there:?}");
    assert_eq!(there.delivered, arrivals.len() as u64, "{there:?}");
    assert_eq!((there.tail, there.failed, back.frames), (0, 0, 0), "{there:?} {back:?}");
    // 500 plus or minus five times 21.8.
    assert!((391..=609).contains(&there.lost), "{there:?}");
}

#[test]
fn losses_in_runs_have_their_mean_length_on_real_packets() {
    let rules = Impairment { loss_pct: 5.0, burst_frames: 8.0, ..Impairment::default() };
    let Some(chain) = chain("bu", 1, &rules) else { return };
    let arrivals = send(&chain, 30_000, 100, 20, Duration::from_micros(300));
    // A gap between two neighbours that arrived is a run of lost ones.
    let gaps = arrivals.windows(2).map(|pair| pair[1].number - pair[0].number - 1);
    let runs: Vec<u64> = gaps.filter(|gap| *gap > 0).collect();
    let lost: u64 = runs.iter().sum();
    let mean = lost as f64 / runs.len() as f64;
    // 190 runs of 8, each with a deviation of 7.5: the mean's is 0.54, the rate's 0.5 %.
    assert!((5.5..=10.5).contains(&mean), "{mean} from {} runs", runs.len());
    assert!((700..=2_500).contains(&lost), "{lost} of 30,000");
}

#[test]
fn jitter_spreads_real_packets_evenly_and_keeps_their_order() {
    let rules = Impairment { delay_us: 20_000, jitter_us: 10_000, ..Impairment::default() };
    let Some(chain) = chain("ji", 1, &rules) else { return };
    // Further apart than the jitter, so that nobody waits for the one before.
    let arrivals = send(&chain, 100, 100, 1, Duration::from_millis(21));
    assert_eq!(arrivals.len(), 100);
    assert!(arrivals.is_sorted_by_key(|arrival| arrival.number));
    let mut delays_us: Vec<u64> =
        arrivals.iter().map(|arrival| (arrival.got_ns - arrival.sent_ns) / 1_000).collect();
    delays_us.sort_unstable();
    assert!(delays_us[0] >= 10_000, "{delays_us:?}");
    // Even between 10 and 30 ms: quartiles at 15, 20 and 25, with a deviation of 0.9 ms each; lateness comes on top.
    for (at, ms) in [(25, 15), (50, 20), (75, 25)] {
        let off = delays_us[at].abs_diff(ms * 1_000);
        assert!(off < 5_000, "{at} %: {} us", delays_us[at]);
    }
}

#[test]
fn a_link_carries_its_rate_and_drops_the_rest_at_the_tail() {
    let rules = Impairment { rate_mbit: 20, queue_ms: 20, ..Impairment::default() };
    let Some(chain) = chain("rt", 1, &rules) else { return };
    // 1,000 + 42 + 24 bytes take 426 us; ten every 2 ms offer at least twice the rate.
    let arrivals = send(&chain, 4_000, 1_000, 10, Duration::from_millis(2));
    let [there, _] = chain.links()[0].counts();
    assert_eq!(there.tail + there.delivered, 4_000, "{there:?}");
    assert!(there.tail > 200, "more was offered than fits: {there:?}");
    assert_eq!(there.delivered, arrivals.len() as u64);
    let took_ns = arrivals.last().expect("some").got_ns - arrivals[0].got_ns;
    let mbit = (arrivals.len() - 1) as f64 * 1_066.0 * 8.0 * 1e3 / took_ns as f64;
    assert!((17.0..=20.5).contains(&mbit), "{mbit} Mbit/s");
}

#[test]
fn copies_and_overtaken_frames_arrive_as_counted() {
    let rules = Impairment {
        duplicate_pct: 5.0,
        reorder_pct: 10.0,
        reorder_hold_us: 3_000,
        ..Impairment::default()
    };
    let Some(chain) = chain("du", 1, &rules) else { return };
    let arrivals = send(&chain, 2_000, 64, 5, Duration::from_millis(1));
    let [there, _] = chain.links()[0].counts();
    assert_eq!(arrivals.len() as u64, 2_000 + there.twice, "{there:?}");
    assert!((51..=149).contains(&there.twice) && (133..=267).contains(&there.held), "{there:?}");
    let overtaken = arrivals.windows(2).filter(|pair| pair[1].number < pair[0].number).count();
    assert!(overtaken > 50, "{overtaken} of {} held frames were overtaken", there.held);
    let mut numbers: Vec<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 2_000, "nothing is lost");
}

#[test]
fn tcp_crosses_in_frames_of_the_wire() {
    let rules = Impairment { delay_us: 1_000, rate_mbit: 1_000, ..Impairment::default() };
    let Some(chain) = chain("tc", 1, &rules) else { return };
    let (_, far) = Chain::addresses(1);
    let nodes = chain.nodes();
    let listener =
        within(&nodes[1], || TcpListener::bind((far, 0))).expect("node 1").expect("a port");
    let address = listener.local_addr().expect("bound");
    let body: Vec<u8> = (0..2_000_000u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    let got = std::thread::scope(|scope| {
        let taken = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a caller");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("all of it");
            got
        });
        let stream = within(&nodes[0], || TcpStream::connect(address)).expect("node 0");
        stream.expect("a connection").write_all(&body).expect("sent");
        taken.join().expect("the receiver")
    });
    assert!(got == body, "{} bytes arrived of {}", got.len(), body.len());
    let [there, _] = chain.links()[0].counts();
    assert!(there.bytes / there.frames <= 1_514, "frames are larger than the wire's: {there:?}");
    assert!(there.frames >= 2_000_000 / 1_448, "{there:?}");
}

#[test]
fn rules_can_change_while_the_chain_stands_and_then_it_goes_away() {
    let Some(chain) = chain("ch", 3, &Impairment::default()) else { return };
    let names: Vec<String> = chain.nodes().to_vec();
    assert!(names.iter().all(|name| exists(name)));
    let none = Impairment { loss_pct: 100.0, ..Impairment::default() };
    chain.set(&none, &none, 1).expect("links follow");
    assert!(send(&chain, 20, 64, 1, Duration::ZERO).is_empty());
    chain.set(&Impairment::default(), &Impairment::default(), 1).expect("links follow");
    assert_eq!(send(&chain, 20, 64, 1, Duration::ZERO).len(), 20);
    drop(chain);
    assert!(!names.iter().any(|name| exists(name)));
}

#[test]
fn what_is_left_of_a_process_that_is_no_more_goes_away_and_nothing_else() {
    if let Err(why) = available() {
        eprintln!("skipped: {why}");
        return;
    }
    let prefix = format!("mnst{}x", std::process::id());
    // No process has a number above the kernel's limit of 2^22; the first process is always there.
    let (dead, alive) = (format!("{prefix}9999999n0"), format!("{prefix}1n0"));
    for name in [&dead, &alive] {
        ip(&["netns", "add", name]).expect("a namespace");
    }
    let removed = remove_stale(&prefix).expect("it can be removed");
    let (dead_stands, alive_stands) = (exists(&dead), exists(&alive));
    ip(&["netns", "del", &alive]).expect("ours");
    assert_eq!(removed, [dead]);
    assert!(!dead_stands && alive_stands);
}

#[test]
fn a_process_that_is_killed_leaves_no_namespace_behind() {
    let rules = Impairment { delay_us: 1_000, ..Impairment::default() };
    if let Ok(prefix) = std::env::var(HOLD) {
        let _chain = Chain::up(&ChainSpec::even(&prefix, 2, &rules, 1)).expect("a chain");
        println!("standing");
        std::thread::sleep(Duration::from_secs(60));
        panic!("nobody killed the process that held {prefix}");
    }
    if let Err(why) = available() {
        eprintln!("skipped: {why}");
        return;
    }
    let prefix = format!("mnkl{}", std::process::id());
    let mut holder = Command::new(std::env::current_exe().expect("this program"))
        .args(["a_process_that_is_killed_leaves_no_namespace_behind", "--exact", "--nocapture"])
        .env(HOLD, &prefix)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let mut said = String::new();
    let mut out = holder.stdout.take().expect("piped");
    while !said.contains("standing") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).expect("output"), 1, "it ended early: {said}");
        said.push(char::from(byte[0]));
    }
    assert!(exists(&format!("{prefix}n2")));
    holder.kill().expect("a signal no process survives");
    holder.wait().expect("it ended");
    let until = Instant::now() + Duration::from_secs(10);
    let names = ["n0", "n1", "n2", "w1", "w2"].map(|last| format!("{prefix}{last}"));
    while names.iter().any(|name| exists(name)) {
        assert!(Instant::now() < until, "left behind: {names:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
