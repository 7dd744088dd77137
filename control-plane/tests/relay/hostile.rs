//! Neighbours nobody asked for: noise, floods from addresses that are not theirs, old packets, and a peer that turned against us.
//!
//! In: datagrams of every kind at a running relay. Out: what a user would notice: objects still arrive, memory stays, every packet that
//! was thrown away is counted under its reason.

use crate::rig::{Relay, bytes, resident_kib, text, two, until};
use relay::engine::{Links, LinksConfig};
use relay::link::Keys;
use relay::testing::{Scripted, Write};
use relay::wire::{Class, Code, DataFields, HELLO_LEN, ObjectId, SYMBOL_LEN, write_hello};
use relay::{NowUs, PeerConfig, Priority};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn drops(relay: &Relay, reason: &str) -> u64 {
    relay.status()["drops"][reason].as_u64().unwrap_or(0)
}

#[test]
fn rubbish_from_anywhere_is_counted_and_costs_no_memory() {
    let (a, b) = two();
    let to = a.listens().expect("it listens");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let drops = |relay: &Relay| -> u64 {
        let status = relay.status();
        let drops = status["drops"].as_object().expect("reasons").values();
        drops.filter_map(Value::as_u64).sum()
    };
    let shower = |count: u64| {
        for n in 0..count {
            let mut packet = bytes(1 + (n as usize * 37) % 1_232, n + 1);
            // Every type the protocol has, and some that it has not.
            packet[0] = n as u8;
            stranger.send_to(&packet, &to).expect("sent");
            if n % 64 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    shower(2_000);
    until("the first are counted", || (drops(&a) > 1_000).then_some(()));
    let before = resident_kib(&a);
    shower(10_000);
    until("the rest is counted", || (drops(&a) > 8_000).then_some(()));
    let after = resident_kib(&a);
    assert!(after < before + 4_096, "{before} KiB before, {after} KiB after");
    let object = bytes(200_000, 3);
    let sent = a.send(&object, &["--wait"]);
    assert!(sent.status.success(), "{}\n{}", text(&sent.stderr), a.log());
    b.has(&object);
    assert_eq!(b.inbox().len(), 1);
}

/// Hands over 32 datagrams, then leaves the relay a moment: what the kernel's queue drops tests nothing.
fn send_from(sources: u32, to: &str, datagram: impl Fn(u32) -> Vec<u8>) {
    for n in 0..sources {
        // Every address of 127.0.0.0/8 is ours, as a forger's are his: 127.x.y.9 for each of them.
        let from = Ipv4Addr::new(127, 1 + (n >> 8) as u8, n as u8, 9);
        let socket = UdpSocket::bind((from, 0)).expect("an address of the loopback device");
        socket.send_to(&datagram(n), to).expect("sent");
        if n % 32 == 31 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn calls_from_thousands_of_forged_addresses_leave_nothing_behind_and_peers_get_in_all_the_same() {
    let (mut a, mut b) = (Relay::new("a"), Relay::new("b"));
    a.head = a.head.replacen("127.0.0.1:0", "0.0.0.0:0", 1);
    a.peers(&[&b]);
    a.start();
    let port = a.listens().expect("it listens").rsplit(':').next().expect("a port").to_owned();
    let to = format!("127.0.0.1:{port}");
    let ask = |n: u32| write_hello(n, None).to_vec();
    let forged = |n: u32| write_hello(n, Some((&[n as u8; 16], &[7; 112]))).to_vec();
    send_from(500, &to, ask);
    send_from(500, &to, forged);
    let before = resident_kib(&a);
    send_from(6_000, &to, ask);
    send_from(6_000, &to, forged);
    until("made up cookies are counted", || (drops(&a, "cookie_wrong") > 5_000).then_some(()));
    let (after, status) = (resident_kib(&a), a.status());
    assert!(after < before + 4_096, "{before} KiB before, {after} KiB after");
    assert_eq!(status["sessions"], 0, "{status}");
    // The flood goes on while a peer calls.
    b.head +=
        &format!("\n[[peer]]\nname = \"a\"\naddr = \"{to}\"\npublic_key = \"{}\"\n", a.public_key);
    b.peers(&[]);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                send_from(64, &to, ask);
            }
        });
        b.start();
        let began = Instant::now();
        b.wait_for(&["a"]);
        let took = began.elapsed();
        ended.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(5), "{took:?} until a peer got in");
    });
    let object = bytes(100_000, 5);
    assert!(b.send(&object, &["--wait"]).status.success(), "{}", b.log());
    a.has(&object);
}

/// Passes datagrams between two relays and keeps a copy of each that went to the second.
struct Tap {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    end: Arc<AtomicBool>,
    /// The socket that the second relay knows as the first.
    far: UdpSocket,
}

impl Tap {
    fn before(relay: &Relay) -> Self {
        let to = relay.listens().expect("it listens");
        let near = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let far = UdpSocket::bind("127.0.0.1:0").expect("a port");
        far.connect(to).expect("connected");
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        }
        let address = near.local_addr().expect("bound");
        let (seen, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let caller = Arc::new(Mutex::new(None));
        let (from_far, from_near) =
            (far.try_clone().expect("a copy"), near.try_clone().expect("a copy"));
        let back = (from_far.try_clone().expect("a copy"), near, caller.clone(), end.clone());
        std::thread::spawn(move || {
            let (far, near, caller, end) = back;
            let mut datagram = [0; 2_048];
            while !end.load(Ordering::Relaxed) {
                let Ok(got) = far.recv(&mut datagram) else { continue };
                if let Some(to) = *caller.lock().expect("whole") {
                    let _ = near.send_to(&datagram[..got], to);
                }
            }
        });
        let there = (seen.clone(), end.clone());
        std::thread::spawn(move || {
            let (seen, end) = there;
            let mut datagram = [0; 2_048];
            while !end.load(Ordering::Relaxed) {
                let Ok((got, from)) = from_near.recv_from(&mut datagram) else { continue };
                *caller.lock().expect("whole") = Some(from);
                seen.lock().expect("whole").push(datagram[..got].to_vec());
                let _ = from_far.send(&datagram[..got]);
            }
        });
        Self { address, seen, end, far }
    }

    fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().expect("whole").clone()
    }

    fn say(&self, datagrams: &[Vec<u8>]) {
        for (n, datagram) in datagrams.iter().enumerate() {
            let _ = self.far.send(datagram);
            if n % 32 == 31 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_was_recorded_on_the_way_and_is_sent_again_cut_or_changed_does_nothing() {
    let (mut a, mut b) = (Relay::new("a"), Relay::new("b"));
    b.peers(&[&a]);
    b.start();
    let tap = Tap::before(&b);
    a.head += &format!(
        "[[peer]]\nname = \"b\"\naddr = \"{}\"\npublic_key = \"{}\"\ntrusted = true\n",
        tap.address, b.public_key
    );
    a.peers(&[]);
    a.start();
    a.wait_for(&["b"]);
    let object = bytes(200_000, 21);
    let sent = a.send(&object, &["--wait"]);
    assert!(sent.status.success(), "{}\n{}", text(&sent.stderr), a.log());
    b.has(&object);
    let recorded = tap.seen();
    assert!(recorded.len() > 170, "{} datagrams went through", recorded.len());
    let sessions = b.status()["sessions"].clone();
    let count = |reasons: &[&str]| reasons.iter().map(|reason| drops(&b, reason)).sum::<u64>();

    let (replays, others) =
        (&["replay", "too_old", "handshake_replay", "hello_rate"], &["malformed", "mac_wrong"]);
    let (replayed, damaged) = (count(replays), count(others));
    tap.say(&recorded);
    let packets = recorded.len() as u64;
    until("all of it is known for a repetition", || {
        (count(replays) + 4 >= replayed + packets).then_some(())
    });
    let cut: Vec<_> = recorded.iter().map(|bytes| bytes[..bytes.len() / 2].to_vec()).collect();
    let changed = recorded.iter().enumerate().map(|(n, bytes)| {
        let mut bytes = bytes.clone();
        let at = bytes.len() - 1 - n % 8;
        bytes[at] ^= 1 << (n % 8);
        // A number nobody has used: else it would be a repetition before it is a forgery.
        if bytes.len() != HELLO_LEN {
            bytes[4..8].copy_from_slice(&(50_000 + n as u32).to_le_bytes());
        }
        bytes
    });
    let rubbish: Vec<_> = cut.into_iter().chain(changed).collect();
    tap.say(&rubbish);
    let wrong = rubbish.len() as u64;
    until("all of it is known for rubbish", || {
        (count(others)
            + count(&["cookie_wrong", "handshake_wrong", "handshake_replay", "replay"])
            + 16
            >= damaged + wrong)
            .then_some(())
    });
    assert_eq!(b.status()["sessions"], sessions, "a recording makes no session");
    assert_eq!(b.inbox().len(), 1, "nothing arrives a second time");
    let again = bytes(50_000, 22);
    assert!(a.send(&again, &["--wait"]).status.success(), "{}", a.log());
    b.has(&again);
}

/// A peer whose key is right and whose frames are not.
struct Traitor {
    links: Links,
    upper: Scripted,
    socket: UdpSocket,
    began: Instant,
}

impl Traitor {
    fn of(relay: &Relay, secret: [u8; 32]) -> Self {
        let began = Instant::now();
        let now = NowUs(1_000_000);
        let mut links =
            Links::new(LinksConfig::default(), Keys::from_secret(secret), &[3; 32], now);
        let mut upper = Scripted::new(Priority::Useful);
        let addr = relay.listens().expect("it listens").parse().expect("an address");
        let public_key = hex::decode(&relay.public_key).expect("hex").try_into().expect("32 bytes");
        let peer = PeerConfig {
            name: "victim".into(),
            addr: Some(addr),
            public_key,
            trusted: true,
            rate_mbit: 200,
            dedicated_line: true,
        };
        links.set_peers(vec![peer], &mut upper, now);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
        Self { links, upper, socket, began }
    }

    fn turn(&mut self) {
        let now = NowUs(1_000_000 + self.began.elapsed().as_micros() as u64);
        let mut datagram = [0; 2_048];
        while let Ok((got, from)) = self.socket.recv_from(&mut datagram) {
            self.links.receive(from, &datagram[..got], &mut self.upper, now);
        }
        self.links.tick(&mut self.upper, now);
        let socket = &self.socket;
        self.links
            .transmit(&mut self.upper, now, &mut |to, bytes| socket.send_to(bytes, to).is_ok());
    }

    fn turn_until(&mut self, what: &str, mut over: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !over(self) {
            assert!(began.elapsed() < Duration::from_secs(30), "{what}");
            self.turn();
        }
    }

    /// One symbol of each of `count` objects of `len` bytes: they begin and never end.
    fn begins(&mut self, first: u64, count: u64, len: u32) {
        let k = if len <= 4 << 20 { 64 } else { 128 };
        let largest = (len.div_ceil(SYMBOL_LEN as u32)).min(k) as u8;
        self.upper.frames.extend((0..count).map(|n| -> Write {
            let fields = DataFields {
                flags: 0,
                object: ObjectId(first + n),
                object_len: len,
                group: 0,
                symbol: 0,
                k: largest,
                code: Code::Rs8,
                class: Class::Opaque,
                hops_left: 8,
                parity: 5,
            };
            Box::new(move |frame| frame.data(&fields, SYMBOL_LEN).fill(0x5a))
        }));
        self.turn_until("everything is said", |traitor| traitor.upper.frames.is_empty());
    }
}

#[test]
fn a_peer_that_begins_objects_and_never_ends_them_gets_its_share_of_memory_and_no_more() {
    let secret = [77; 32];
    let traitor_key = hex::encode(Keys::from_secret(secret).public());
    for trusted in [false, true] {
        let (mut a, mut b) = (Relay::new("a"), Relay::new("b"));
        a.head += "memory = \"64M\"\nobject_bytes_max = \"8M\"\n";
        let peer = format!(
            "[[peer]]\nname = \"traitor\"\npublic_key = \"{traitor_key}\"\ntrusted = {trusted}\n"
        );
        let honest = format!("[[peer]]\nname = \"b\"\npublic_key = \"{}\"\n", b.public_key);
        a.head += &peer;
        a.head += &honest;
        a.peers(&[]);
        a.start();
        b.peers(&[&a]);
        b.start();
        b.wait_for(&["a"]);
        let mut traitor = Traitor::of(&a, secret);
        traitor.turn_until("it gets in", |traitor| traitor.upper.up);
        let before = resident_kib(&a);
        // 16 MB are a peer's share of 64: two objects of 8 MB at most, whatever the count allows.
        traitor.begins(1 << 20, 300, 8_000_000);
        traitor.begins(2 << 20, 300, 100_000);
        until("what goes beyond is counted", || {
            let beyond = drops(&a, "memory_full") + drops(&a, "objects_in_flight");
            (beyond >= 500).then_some(())
        });
        let status = a.status();
        let bytes_held = status["objects"]["bytes"].as_u64().expect("a number");
        assert!(bytes_held <= 17 << 20, "trusted {trusted}: {status}");
        let in_flight = status["objects"]["in_flight"].as_u64().expect("a number");
        assert!(in_flight <= if trusted { 64 } else { 2 }, "trusted {trusted}: {status}");
        let after = resident_kib(&a);
        assert!(after < before + 20_480, "{before} KiB before, {after} KiB after");
        // What is larger than the relay takes is refused, and repeated often enough it is a strike too many.
        traitor.begins(3 << 20, 5, 9_000_000);
        traitor.turn_until("it is told so", |traitor| traitor.upper.refused > 0);
        assert!(drops(&a, "object_too_large") >= 1);
        traitor.begins(4 << 20, 20, 9_000_000);
        until("it is shut out", || {
            (a.status()["quarantines"].as_u64().expect("a number") == 1).then_some(())
        });
        let object = bytes(1_000_000, 9);
        let sent = b.send(&object, &["--wait"]);
        assert!(sent.status.success(), "{}\n{}", text(&sent.stderr), a.log());
        a.has(&object);
    }
}

#[test]
fn a_peer_that_does_not_answer_is_called_ever_less_often() {
    let (mut a, stranger) = (Relay::new("a"), Relay::new("b"));
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("a port");
    nobody.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    a.head += &format!(
        "[[peer]]\nname = \"b\"\naddr = \"{}\"\npublic_key = \"{}\"\n",
        nobody.local_addr().expect("bound"),
        stranger.public_key
    );
    a.peers(&[]);
    a.start();
    let (began, mut calls, mut datagram) = (Instant::now(), Vec::new(), [0; 2_048]);
    while began.elapsed() < Duration::from_secs(8) {
        if let Ok((got, _)) = nobody.recv_from(&mut datagram) {
            assert_eq!(got, HELLO_LEN);
            calls.push(began.elapsed());
        }
    }
    // Six times every quarter of a second, then doubled: about nine in eight seconds, never one a second.
    assert!((6..=12).contains(&calls.len()), "{calls:?}");
    let gap = |at: usize| calls[at + 1].saturating_sub(calls[at]);
    let last = gap(calls.len() - 2);
    assert!(last > 3 * gap(1) && last > Duration::from_secs(1), "{calls:?}");
    let peer = &a.status()["peers"][0];
    assert_eq!(peer["state"], "calling", "{peer}");
    assert!(peer["rtt_us"] == 0 || peer["rtt_us"].is_null(), "{peer}");
}
