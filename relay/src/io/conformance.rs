//! What every backend promises, as cases that anybody with two ends of a wire can run.
//!
//! In: a [`Bed`], which opens the backend under test at either end. Out: for each case of [`CASES`] whether it holds, else what was seen.
//! The test of this crate runs them over the loopback device, `cargo xtask net` between network namespaces that it makes.
//!
//! Payloads are numbered and filled from their number, so that a packet that is lost, doubled, cut, swapped or given to the wrong
//! reader shows.

use super::{
    Caps, IoOptions, IoStats, PAYLOAD_BYTES_MAX, PacketIo, RxBatch, TxBatch, TxRefused, clock,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

/// An end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Sends, mostly.
    Near,
    /// Receives, mostly.
    Far,
}

/// What a case stands on.
pub trait Bed {
    /// Opens the backend under test at that end.
    fn open(&self, end: End, options: &IoOptions) -> io::Result<Box<dyn PacketIo>>;
    /// The address of that end.
    fn address(&self, end: End, ipv6: bool) -> IpAddr;
    /// Options of the mode under test, at that address.
    fn options(&self, listen: SocketAddr) -> IoOptions;
    /// Makes the wire slow (about 100 Mbit/s) or fast again; false where that cannot be done.
    fn slow(&self, slow: bool) -> bool;
    /// An address no packet of this wire has a way to, if there is one.
    fn nowhere(&self) -> Option<SocketAddr>;
    /// Whether packets to multicast groups cross this wire.
    fn multicast(&self) -> bool;
}

/// What was seen instead.
pub type Seen = String;
/// A case: its name, and what tries it.
pub type Case = (&'static str, fn(&dyn Bed) -> Result<(), Seen>);

/// Every promise.
#[rustfmt::skip]
pub const CASES: [Case; 18] = [
    ("a packet arrives as it was sent, over IPv4, with its sender's address",   |bed| one_packet(bed, false)),
    ("a packet arrives as it was sent, over IPv6, with its sender's address",   |bed| one_packet(bed, true)),
    ("bursts of every size arrive whole and in order",                          bursts),
    ("packets of every size from 1 to the largest arrive whole",                sizes),
    ("packets of mixed sizes in one burst arrive whole and in order",           mixed),
    ("packets for several peers in one burst reach each his own",               peers),
    ("one socket serves IPv4 and IPv6 and calls each by its own address",       both_families),
    ("a packet above the largest size is refused and nothing of it leaves",     oversize),
    ("a socket that is full keeps the rest in the batch, and says when there is room", full_socket),
    ("what the receiver's kernel drops is counted",                             overflow),
    ("a packet that goes nowhere is counted and holds up nobody",               nowhere),
    ("a wait ends when a packet comes, when somebody wakes it, and at its time", waits),
    ("sockets that share a port are each given whole peers",                    reuse_port),
    ("packets of many peers at once arrive whole, those of each in order",       many_peers),
    ("what one end counts as sent the other counts as received",                counters),
    ("a run of packets leaves and comes as one where the kernel can",           runs),
    ("a port is free again once its backend is closed",                         closes),
    ("who has joined a group gets what is sent to it",                          multicast),
];

/// How long anything may take that should happen at once; machines are shared.
const PATIENCE_US: u64 = 5_000_000;

/// The payload of packet `number`: the number, then bytes that follow from it.
fn payload(number: u32, len: usize) -> Vec<u8> {
    let filler = |i: usize| (number as usize).wrapping_mul(31).wrapping_add(i * 7) as u8;
    let mut bytes: Vec<u8> = (0..len).map(filler).collect();
    let head = number.to_le_bytes();
    let head_len = len.min(4);
    bytes[..head_len].copy_from_slice(&head[..head_len]);
    bytes
}

struct Endpoint {
    io: Box<dyn PacketIo>,
    at: SocketAddr,
    batch: RxBatch,
}

impl Endpoint {
    fn open(bed: &dyn Bed, end: End, ipv6: bool) -> Result<Self, Seen> {
        Self::with(bed, end, &bed.options(SocketAddr::new(bed.address(end, ipv6), 0)))
    }

    fn with(bed: &dyn Bed, end: End, options: &IoOptions) -> Result<Self, Seen> {
        let io = bed.open(end, options).map_err(|e| format!("opening {options:?}: {e}"))?;
        let at = io.local_addr().map_err(told)?;
        Ok(Self { io, at, batch: RxBatch::new() })
    }

    /// Sends everything, waiting for room.
    fn send(&mut self, packets: &[(SocketAddr, Vec<u8>)]) -> Result<(), Seen> {
        let mut batch = TxBatch::new();
        let until = clock::now_us() + PATIENCE_US;
        let mut rest = packets.iter().peekable();
        while rest.peek().is_some() || !batch.is_empty() {
            while let Some((to, bytes)) = rest.peek() {
                match batch.push(*to, bytes) {
                    Ok(()) => rest.next(),
                    Err(TxRefused::Full) => break,
                    Err(refused) => return Err(refused.to_string()),
                };
            }
            self.io.tx_burst(&mut batch).map_err(told)?;
            if clock::now_us() > until {
                return Err(format!("{} packets never left", batch.len()));
            }
            if !batch.is_empty() {
                self.io.wait(clock::now_us() + 10_000).map_err(told)?;
            }
        }
        self.io.flush().map_err(told)
    }

    /// Takes `count` packets, and no more may come.
    fn take(&mut self, count: usize) -> Result<Vec<(SocketAddr, Vec<u8>)>, Seen> {
        let mut came = self.take_for(count, PATIENCE_US)?;
        if came.len() < count {
            return Err(format!("{} of {count} packets came; {:?}", came.len(), self.io.stats()));
        }
        came.extend(self.take_for(1, 2_000)?);
        if came.len() > count {
            return Err(format!("{count} packets were sent and {} came", came.len()));
        }
        Ok(came)
    }

    /// Takes what comes until there are `count`, or for so long.
    fn take_for(&mut self, count: usize, us: u64) -> Result<Vec<(SocketAddr, Vec<u8>)>, Seen> {
        let until = clock::now_us() + us;
        let mut came = Vec::new();
        while came.len() < count {
            let got = self.io.rx_burst(&mut self.batch).map_err(told)?;
            if got != self.batch.len() {
                return Err(format!("a burst of {} packets is called {got}", self.batch.len()));
            }
            came.extend(self.batch.iter().map(|(from, bytes)| (from, bytes.to_vec())));
            if got == 0 {
                if clock::now_us() >= until {
                    break;
                }
                self.io.wait(until).map_err(told)?;
            }
        }
        Ok(came)
    }
}

#[allow(clippy::needless_pass_by_value)] // it is handed to `map_err`
fn told(error: io::Error) -> Seen {
    error.to_string()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), Seen> {
    if got == want { Ok(()) } else { Err(format!("{what}: got {got:?}, want {want:?}")) }
}

fn same_packets(
    got: &[(SocketAddr, Vec<u8>)],
    from: SocketAddr,
    want: &[Vec<u8>],
) -> Result<(), Seen> {
    for (i, ((came_from, bytes), want)) in got.iter().zip(want).enumerate() {
        same("the sender", came_from, &from)?;
        if bytes != want {
            let (got, want) = (bytes.len(), want.len());
            return Err(format!(
                "packet {i} of {got} bytes differs from the one of {want} that was sent"
            ));
        }
    }
    same("packets", &got.len(), &want.len())
}

fn pair(bed: &dyn Bed) -> Result<(Endpoint, Endpoint), Seen> {
    Ok((Endpoint::open(bed, End::Near, false)?, Endpoint::open(bed, End::Far, false)?))
}

fn send_and_compare(near: &mut Endpoint, far: &mut Endpoint, lens: &[usize]) -> Result<(), Seen> {
    let sent: Vec<Vec<u8>> = (0..).zip(lens).map(|(i, len)| payload(i, *len)).collect();
    let addressed: Vec<_> = sent.iter().map(|bytes| (far.at, bytes.clone())).collect();
    near.send(&addressed)?;
    same_packets(&far.take(sent.len())?, near.at, &sent)
}

fn one_packet(bed: &dyn Bed, ipv6: bool) -> Result<(), Seen> {
    let mut near = Endpoint::open(bed, End::Near, ipv6)?;
    let mut far = Endpoint::open(bed, End::Far, ipv6)?;
    send_and_compare(&mut near, &mut far, &[100])?;
    // And back, to the address it came from.
    send_and_compare(&mut far, &mut near, &[PAYLOAD_BYTES_MAX])
}

fn bursts(bed: &dyn Bed) -> Result<(), Seen> {
    let (mut near, mut far) = pair(bed)?;
    for count in (1..=70).chain([127, 128, 129, 212, 213, 500]) {
        send_and_compare(&mut near, &mut far, &vec![1_200; count])
            .map_err(|seen| format!("a burst of {count}: {seen}"))?;
    }
    Ok(())
}

fn sizes(bed: &dyn Bed) -> Result<(), Seen> {
    let (mut near, mut far) = pair(bed)?;
    // Growing sizes are runs of one, falling ones runs of two.
    let lens: Vec<usize> = (1..=PAYLOAD_BYTES_MAX).collect();
    send_and_compare(&mut near, &mut far, &lens)?;
    let lens: Vec<usize> = (1..=PAYLOAD_BYTES_MAX).rev().collect();
    send_and_compare(&mut near, &mut far, &lens)
}

fn mixed(bed: &dyn Bed) -> Result<(), Seen> {
    let (mut near, mut far) = pair(bed)?;
    let mut state = 7u64;
    let mut draw = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..20 {
        let mut lens = Vec::new();
        while lens.len() < 150 {
            let len = 1 + draw(PAYLOAD_BYTES_MAX as u64) as usize;
            lens.extend((0..=draw(12)).map(|_| len));
        }
        send_and_compare(&mut near, &mut far, &lens)?;
    }
    Ok(())
}

fn peers(bed: &dyn Bed) -> Result<(), Seen> {
    let mut near = Endpoint::open(bed, End::Near, false)?;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Endpoint::open(bed, End::Far, false)?);
    }
    let mut packets = Vec::new();
    let mut wants = vec![Vec::new(); all.len()];
    for number in 0..300u32 {
        let who = (number as usize / 5 + number as usize % 7) % all.len();
        let bytes = payload(number, 900);
        wants[who].push(bytes.clone());
        packets.push((all[who].at, bytes));
    }
    near.send(&packets)?;
    for (far, want) in all.iter_mut().zip(&wants) {
        same_packets(&far.take(want.len())?, near.at, want)?;
    }
    Ok(())
}

fn both_families(bed: &dyn Bed) -> Result<(), Seen> {
    let anywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    let mut far = Endpoint::with(bed, End::Far, &bed.options(anywhere))?;
    let port = far.at.port();
    for ipv6 in [false, true] {
        let mut near = Endpoint::open(bed, End::Near, ipv6)?;
        let to = SocketAddr::new(bed.address(End::Far, ipv6), port);
        let sent: Vec<Vec<u8>> = (0..40).map(|n| payload(n, 1_000)).collect();
        near.send(&sent.iter().map(|bytes| (to, bytes.clone())).collect::<Vec<_>>())?;
        same_packets(&far.take(sent.len())?, near.at, &sent)?;
        // The answer goes to the address as it was told.
        far.send(&[(near.at, payload(1, 50))])?;
        same_packets(&near.take(1)?, to, &[payload(1, 50)])?;
    }
    Ok(())
}

fn oversize(bed: &dyn Bed) -> Result<(), Seen> {
    let (mut near, mut far) = pair(bed)?;
    let max = near.io.caps().payload_bytes_max;
    let mut batch = TxBatch::new();
    let refused = batch.push(far.at, &vec![1; max + 1]);
    same("a larger one", &refused, &Err(TxRefused::Oversize { got: max + 1, max }))?;
    batch.push(far.at, &payload(1, max)).map_err(|e| e.to_string())?;
    same("packets that left", &near.io.tx_burst(&mut batch).map_err(told)?, &1)?;
    same_packets(&far.take(1)?, near.at, &[payload(1, max)])
}

fn full_socket(bed: &dyn Bed) -> Result<(), Seen> {
    if !bed.slow(true) {
        return Ok(());
    }
    let result = full_socket_on_a_slow_wire(bed);
    bed.slow(false);
    result
}

fn full_socket_on_a_slow_wire(bed: &dyn Bed) -> Result<(), Seen> {
    let near = SocketAddr::new(bed.address(End::Near, false), 0);
    let options = IoOptions { send_buffer_bytes: 64 << 10, ..bed.options(near) };
    let mut near = Endpoint::with(bed, End::Near, &options)?;
    let mut far = Endpoint::open(bed, End::Far, false)?;
    let sent: Vec<Vec<u8>> = (0..1_000).map(|n| payload(n, 1_200)).collect();
    let mut batch = TxBatch::new();
    let mut pushed = 0;
    let mut left = 0;
    let until = clock::now_us() + PATIENCE_US;
    while left < sent.len() {
        while pushed < sent.len() && batch.push(far.at, &sent[pushed]).is_ok() {
            pushed += 1;
        }
        left += near.io.tx_burst(&mut batch).map_err(told)?;
        same("left and still there", &(left + batch.len()), &pushed)?;
        same("packets counted as sent", &near.io.stats().tx_packets, &(left as u64))?;
        if !batch.is_empty() {
            near.io.wait(clock::now_us() + 100_000).map_err(told)?;
        }
        if clock::now_us() > until {
            return Err(format!("{left} of {} left in time", sent.len()));
        }
    }
    if near.io.stats().tx_full == 0 {
        return Err("the socket was never full: the case tried nothing".into());
    }
    same("packets refused", &near.io.stats().tx_refused, &0)?;
    same_packets(&far.take(sent.len())?, near.at, &sent)
}

fn overflow(bed: &dyn Bed) -> Result<(), Seen> {
    let mut near = Endpoint::open(bed, End::Near, false)?;
    let far = SocketAddr::new(bed.address(End::Far, false), 0);
    let options = IoOptions { receive_buffer_bytes: 32 << 10, ..bed.options(far) };
    let mut far = Endpoint::with(bed, End::Far, &options)?;
    let count = 8_000;
    let packets: Vec<_> = (0..count).map(|n| (far.at, payload(n, 1_200))).collect();
    near.send(&packets)?;
    let came = far.take_for(packets.len(), 200_000)?.len() as u64;
    let stats = far.io.stats();
    same("packets counted", &stats.rx_packets, &came)?;
    // Runs are dropped whole; how many packets the kernel calls a run is its own affair.
    let is_whole = came + stats.rx_overflowed == u64::from(count);
    let is_run = far.io.caps().gro || near.io.caps().gso;
    if stats.rx_overflowed == 0 || (!is_whole && !is_run) {
        return Err(format!(
            "{came} of {count} came and {} are called dropped",
            stats.rx_overflowed
        ));
    }
    Ok(())
}

fn nowhere(bed: &dyn Bed) -> Result<(), Seen> {
    let Some(nowhere) = bed.nowhere() else { return Ok(()) };
    let (mut near, mut far) = pair(bed)?;
    let mut packets = Vec::new();
    for number in 0..60 {
        let to = if number % 3 == 0 { nowhere } else { far.at };
        packets.push((to, payload(number, 700)));
    }
    near.send(&packets)?;
    let want: Vec<_> = packets.iter().filter(|p| p.0 == far.at).map(|p| p.1.clone()).collect();
    same_packets(&far.take(want.len())?, near.at, &want)?;
    counted(&near, |stats| (stats.tx_refused, stats.tx_packets), &(20, 40))
}

/// Waits until the counters say so: a thread that sends may count a moment after the packet is there.
fn counted<T: PartialEq + std::fmt::Debug>(
    end: &Endpoint,
    what: impl Fn(&IoStats) -> T,
    want: &T,
) -> Result<(), Seen> {
    let until = clock::now_us() + PATIENCE_US;
    while what(&end.io.stats()) != *want && clock::now_us() < until {
        thread::sleep(Duration::from_millis(1));
    }
    same("counters", &what(&end.io.stats()), want)
}

fn waits(bed: &dyn Bed) -> Result<(), Seen> {
    let (mut near, mut far) = pair(bed)?;
    // The first wait may set things up.
    far.io.wait(clock::now_us()).map_err(told)?;
    let elapsed = |far: &mut Endpoint, us: u64| {
        let start = clock::now_us();
        far.io.wait(start + us).map_err(told)?;
        Ok::<u64, Seen>(clock::now_us() - start)
    };
    let slept_us = elapsed(&mut far, 30_000)?;
    if slept_us < 25_000 {
        return Err(format!("a wait of 30 ms ended after {slept_us} us with nothing to do"));
    }
    let long = 20 * PATIENCE_US;
    let waker = far.io.waker();
    let wakes = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        waker.wake();
    });
    let slept_us = elapsed(&mut far, long)?;
    wakes.join().map_err(|_| "the waking thread died")?;
    if !(10_000..PATIENCE_US).contains(&slept_us) {
        return Err(format!("somebody woke it after 20 ms and it slept {slept_us} us"));
    }
    // A wake-up before the wait is not lost, and counts once.
    far.io.waker().wake();
    let slept_us = elapsed(&mut far, long)?;
    if slept_us > PATIENCE_US {
        return Err(format!("a wake-up before the wait was lost: it slept {slept_us} us"));
    }
    let to = far.at;
    let sends = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        near.send(&[(to, payload(3, 300))]).map(|()| near)
    });
    let slept_us = elapsed(&mut far, long)?;
    let _near = sends.join().map_err(|_| "the sending thread died")??;
    if !(10_000..PATIENCE_US).contains(&slept_us) {
        return Err(format!("a packet came after 20 ms and it slept {slept_us} us"));
    }
    // It is still there, and a wait beside an unread packet does not sleep.
    let slept_us = elapsed(&mut far, long)?;
    if slept_us > PATIENCE_US {
        return Err(format!("a packet was there and it slept {slept_us} us"));
    }
    same("packets", &far.take(1)?.len(), &1)
}

fn reuse_port(bed: &dyn Bed) -> Result<(), Seen> {
    let at = SocketAddr::new(bed.address(End::Far, false), 0);
    let shared = |listen| IoOptions { reuse_port: true, ..bed.options(listen) };
    let mut all = vec![Endpoint::with(bed, End::Far, &shared(at))?];
    let to = all[0].at;
    for _ in 1..4 {
        all.push(Endpoint::with(bed, End::Far, &shared(to))?);
    }
    let senders = 32;
    let each = 10;
    // They stay: the port of one that has gone may be the next one's.
    let mut nears = Vec::new();
    for _ in 0..senders {
        let mut near = Endpoint::open(bed, End::Near, false)?;
        near.send(&(0..each).map(|n| (to, payload(n, 600))).collect::<Vec<_>>())?;
        nears.push(near);
    }
    let mut owner: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut came = 0;
    let mut used = 0;
    for (i, far) in all.iter_mut().enumerate() {
        let got = far.take_for(usize::MAX, 50_000)?;
        came += got.len();
        used += usize::from(!got.is_empty());
        for (from, _) in got {
            if *owner.entry(from).or_insert(i) != i {
                return Err(format!("packets of {from} reached two sockets"));
            }
        }
    }
    same("packets in all", &came, &(senders * each as usize))?;
    same("senders", &owner.len(), &senders)?;
    if used < 2 { Err(format!("{senders} peers and {used} socket of 4 used")) } else { Ok(()) }
}

fn many_peers(bed: &dyn Bed) -> Result<(), Seen> {
    const PEERS: usize = 24;
    const ROUNDS: u32 = 30;
    let mut far = Endpoint::open(bed, End::Far, false)?;
    let mut all = Vec::new();
    for _ in 0..PEERS {
        all.push(Endpoint::open(bed, End::Near, false)?);
    }
    for round in 0..ROUNDS {
        for near in &mut all {
            let pair = [2 * round, 2 * round + 1].map(|n| (far.at, payload(n, 800)));
            near.send(&pair)?;
        }
    }
    let mut next: BTreeMap<SocketAddr, u32> = all.iter().map(|near| (near.at, 0)).collect();
    let came = far.take(PEERS * 2 * ROUNDS as usize)?;
    for (from, bytes) in &came {
        let next =
            next.get_mut(from).ok_or_else(|| format!("a packet of {from}, who is nobody"))?;
        same("the next packet of a peer", bytes, &payload(*next, 800))?;
        *next += 1;
    }
    // And an answer to each.
    far.send(&all.iter().map(|near| (near.at, payload(9, 60))).collect::<Vec<_>>())?;
    for near in &mut all {
        let came = near.take(1).map_err(|seen| format!("the answer to {}: {seen}", near.at))?;
        same_packets(&came, far.at, &[payload(9, 60)])?;
    }
    Ok(())
}

fn counters(bed: &dyn Bed) -> Result<(), Seen> {
    let (mut near, mut far) = pair(bed)?;
    let lens: Vec<usize> = (0..400).map(|n| 40 + n % 9 * 130).collect();
    send_and_compare(&mut near, &mut far, &lens)?;
    send_and_compare(&mut far, &mut near, &lens[..100])?;
    let bytes = |lens: &[usize]| lens.iter().sum::<usize>() as u64;
    for (stats, sent, received) in
        [(near.io.stats(), &lens[..], &lens[..100]), (far.io.stats(), &lens[..100], &lens[..])]
    {
        let got = IoStats { tx_runs: 0, rx_runs: 0, tx_full: 0, tx_unrolled: 0, ..stats };
        let want = IoStats {
            tx_packets: sent.len() as u64,
            tx_bytes: bytes(sent),
            rx_packets: received.len() as u64,
            rx_bytes: bytes(received),
            ..IoStats::default()
        };
        same("counters", &got, &want)?;
    }
    Ok(())
}

fn runs(bed: &dyn Bed) -> Result<(), Seen> {
    let (mut near, mut far) = pair(bed)?;
    send_and_compare(&mut near, &mut far, &[1_200; 128])?;
    let (caps, took): (Caps, Caps) = (near.io.caps(), far.io.caps());
    let got = far.io.stats();
    // A path without runs is no broken promise if the backend noticed.
    counted(&near, |stats| stats.tx_runs > 0 || stats.tx_unrolled > 0, &caps.gso)?;
    if got.rx_runs > 0 && !took.gro {
        return Err(format!("{} runs came and nobody asked for them", got.rx_runs));
    }
    Ok(())
}

fn closes(bed: &dyn Bed) -> Result<(), Seen> {
    let mut near = Endpoint::open(bed, End::Near, false)?;
    let mut far = Endpoint::open(bed, End::Far, false)?;
    let at = far.at;
    for round in 0..5 {
        send_and_compare(&mut near, &mut far, &[200; 3])?;
        drop(far);
        far = Endpoint::with(bed, End::Far, &bed.options(at))
            .map_err(|seen| format!("round {round}: {seen}"))?;
    }
    Ok(())
}

fn multicast(bed: &dyn Bed) -> Result<(), Seen> {
    if !bed.multicast() {
        return Ok(());
    }
    let anywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    let mut near = Endpoint::open(bed, End::Near, true)?;
    let mut far = Endpoint::with(bed, End::Far, &bed.options(anywhere))?;
    let group = |n: u16| IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xb5f, n));
    far.io.join(group(1)).map_err(|e| e.to_string())?;
    let port = far.at.port();
    let packets: Vec<_> = (0..40)
        .map(|n| (SocketAddr::new(group(1 + n as u16 % 2), port), payload(n, 500)))
        .collect();
    near.send(&packets)?;
    let want: Vec<_> = (0..40).step_by(2).map(|n| payload(n, 500)).collect();
    same_packets(&far.take(want.len())?, near.at, &want)
}

#[cfg(test)]
mod tests {
    use super::super::{Backend, open};
    use super::*;

    struct Loopback {
        backend: Backend,
        runs: bool,
        threads: usize,
    }

    impl Bed for Loopback {
        fn open(&self, _end: End, options: &IoOptions) -> io::Result<Box<dyn PacketIo>> {
            Ok(open(self.backend, options)?.io)
        }

        fn address(&self, _end: End, ipv6: bool) -> IpAddr {
            if ipv6 { Ipv6Addr::LOCALHOST.into() } else { [127, 0, 0, 1].into() }
        }

        fn options(&self, listen: SocketAddr) -> IoOptions {
            let (gso, threads) = (self.runs, self.threads);
            IoOptions { gso, gro: gso, threads, ..IoOptions::at(listen) }
        }

        fn slow(&self, _slow: bool) -> bool {
            false
        }

        fn nowhere(&self) -> Option<SocketAddr> {
            None
        }

        fn multicast(&self) -> bool {
            false
        }
    }

    fn has_ipv6() -> bool {
        std::net::UdpSocket::bind("[::1]:0").is_ok()
    }

    fn every_promise(backend: Backend, runs: bool, threads: usize) {
        let bed = Loopback { backend, runs, threads };
        let mut broken = Vec::new();
        for (name, case) in CASES {
            if name.contains("IPv6") && !has_ipv6() {
                continue;
            }
            if let Err(seen) = case(&bed) {
                broken.push(format!("{name}: {seen}"));
            }
        }
        let mode = format!("{backend:?} runs {runs} threads {threads}");
        assert!(broken.is_empty(), "{mode}:\n{}", broken.join("\n"));
    }

    #[test]
    fn udp_keeps_every_promise_over_the_loopback_device() {
        every_promise(Backend::Udp, true, 1);
        every_promise(Backend::Udp, false, 1);
    }

    #[test]
    fn uring_keeps_every_promise_over_the_loopback_device() {
        every_promise(Backend::Uring, true, 1);
        every_promise(Backend::Uring, false, 1);
    }

    #[test]
    fn several_sockets_on_one_port_keep_every_promise_of_one() {
        every_promise(Backend::Udp, true, 3);
        every_promise(Backend::Udp, false, 2);
        every_promise(Backend::Uring, true, 2);
    }
}
