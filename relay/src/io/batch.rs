//! Batches: packets on their way in or out, in memory that is taken once.
//!
//! In: pushes of single packets. Out: for the way out, *runs*: packets of the same size to the same peer that lie one behind the other,
//! which is how a kernel takes many of them in one go. The last packet of a run may be shorter.
//!
//! A batch never grows: [`TxBatch::push`] refuses what does not fit, and a backend takes off what has left ([`TxBatch::settle`]), so a
//! packet is in exactly one place: in the batch, with the kernel, or counted as refused.

use super::PAYLOAD_BYTES_MAX;
use std::net::SocketAddr;

/// Packets of one run. Source: Linux `UDP_MAX_SEGMENTS`, 64 until 6.9.
pub const SEGMENTS_MAX: usize = 64;
/// Payload of one run: below the largest datagram of IPv4 and IPv6.
pub(super) const RUN_BYTES_MAX: usize = 64_000;
/// Payload of a batch on its way out: 212 packets of full size.
pub const TX_BYTES: usize = 256 << 10;
/// Runs of such a batch.
const RUNS_MAX: usize = 1_024;

/// One receive buffer in which the kernel may join packets. Source: the largest `sk_buff` that GRO builds.
pub(super) const JOINED_BYTES: usize = 65_536;
/// One receive buffer for a single packet.
pub(super) const SINGLE_BYTES: usize = 2_048;
/// Memory of a batch on its way in.
pub(super) const RX_BYTES: usize = 16 * JOINED_BYTES;
/// Packets of such a batch: what every buffer holds when it is full of the least packets worth joining.
const RX_PACKETS_MAX: usize = 2_048;

#[derive(Clone, Copy, Debug)]
struct Received {
    from: SocketAddr,
    start: u32,
    len: u32,
}

/// Packets that came.
#[derive(Debug)]
pub struct RxBatch {
    bytes: Box<[u8]>,
    packets: Vec<Received>,
}

impl Default for RxBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RxBatch {
    /// All the memory it will ever use.
    pub fn new() -> Self {
        let bytes = vec![0; RX_BYTES].into_boxed_slice();
        Self { bytes, packets: Vec::with_capacity(RX_PACKETS_MAX) }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Each with its sender, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.packets.iter().map(|p| {
            let start = p.start as usize;
            (p.from, &self.bytes[start..start + p.len as usize])
        })
    }

    /// Whether a receive buffer's worth of joined packets still fits behind `used` bytes.
    pub(super) fn has_room(&self, used: usize) -> bool {
        used + JOINED_BYTES <= RX_BYTES && self.packets.len() + SEGMENTS_MAX * 2 <= RX_PACKETS_MAX
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.packets.clear();
    }

    /// Where a backend writes.
    pub(super) fn memory(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Names what lies at `start`: `len` bytes from one sender, cut every `segment` bytes. Gives how many packets that were; those
    /// there is no room for are left out.
    pub(super) fn name(
        &mut self,
        from: SocketAddr,
        start: usize,
        len: usize,
        segment: usize,
    ) -> usize {
        let segment = if segment == 0 { len.max(1) } else { segment };
        let before = self.packets.len();
        let mut at = 0;
        // An empty datagram is a packet too.
        loop {
            if self.packets.len() == RX_PACKETS_MAX {
                break;
            }
            let one = segment.min(len - at);
            self.packets.push(Received { from, start: (start + at) as u32, len: one as u32 });
            at += one;
            if at >= len {
                break;
            }
        }
        self.packets.len() - before
    }
}

/// Packets of one size for one peer; the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// To whom.
    pub to: SocketAddr,
    start: u32,
    len: u32,
    /// Bytes of each packet but the last.
    pub segment: u16,
}

impl Run {
    /// Packets in it.
    pub fn packets(&self) -> usize {
        (self.len as usize).div_ceil(usize::from(self.segment).max(1)).max(1)
    }

    /// Bytes in it.
    pub fn len_bytes(&self) -> usize {
        self.len as usize
    }

    fn takes(&self, to: SocketAddr, len: usize) -> bool {
        let segment = usize::from(self.segment);
        let is_whole = segment > 0 && (self.len as usize).is_multiple_of(segment);
        self.to == to
            && is_whole
            && len > 0
            && len <= segment
            && self.packets() < SEGMENTS_MAX
            && self.len as usize + len <= RUN_BYTES_MAX
    }
}

/// Why a batch does not take a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxRefused {
    /// Try again after a burst.
    #[error("the batch is full")]
    Full,
    /// It would be cut on the way.
    #[error("a packet of {got} bytes; no path promises more than {max}")]
    Oversize {
        /// Its size.
        got: usize,
        /// The largest.
        max: usize,
    },
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is gone.
    Gone,
    /// So many of its packets are gone, from the front.
    Partly(usize),
    /// It stays.
    Stays,
}

/// Packets to send.
#[derive(Debug)]
pub struct TxBatch {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    packets: usize,
}

impl Default for TxBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl TxBatch {
    /// All the memory it will ever use.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(TX_BYTES), runs: Vec::with_capacity(RUNS_MAX), packets: 0 }
    }

    /// Takes one packet.
    pub fn push(&mut self, to: SocketAddr, packet: &[u8]) -> Result<(), TxRefused> {
        let (got, max) = (packet.len(), PAYLOAD_BYTES_MAX);
        if got > max {
            return Err(TxRefused::Oversize { got, max });
        }
        let joins = self.runs.last().is_some_and(|run| run.takes(to, got));
        if self.bytes.len() + got > TX_BYTES || (!joins && self.runs.len() == RUNS_MAX) {
            return Err(TxRefused::Full);
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(packet);
        self.packets += 1;
        match self.runs.last_mut().filter(|_| joins) {
            Some(run) => run.len += got as u32,
            None => self.runs.push(Run { to, start, len: got as u32, segment: got as u16 }),
        }
        Ok(())
    }

    /// Packets in it.
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Its runs, oldest first.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The bytes of one of its runs.
    pub fn bytes(&self, run: &Run) -> &[u8] {
        &self.bytes[run.start as usize..(run.start + run.len) as usize]
    }

    /// The packets of one of its runs.
    pub(super) fn packets<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = &'a [u8]> {
        let (bytes, segment) = (self.bytes(run), usize::from(run.segment));
        (0..run.packets()).map(move |i| &bytes[i * segment..bytes.len().min((i + 1) * segment)])
    }

    /// Takes off what left: `each` says what became of a run, by its place.
    pub fn settle(&mut self, mut each: impl FnMut(usize, &Run) -> Settled) {
        let mut at = 0;
        let mut packets = 0;
        self.runs.retain_mut(|run| {
            let settled = each(at, run);
            at += 1;
            let gone = match settled {
                Settled::Gone => return false,
                Settled::Partly(gone) => gone,
                Settled::Stays => 0,
            };
            let cut = (gone * usize::from(run.segment)).min(run.len as usize) as u32;
            let is_gone = gone >= run.packets();
            run.start += cut;
            run.len -= cut;
            packets += if is_gone { 0 } else { run.packets() };
            !is_gone
        });
        self.packets = packets;
        if self.runs.is_empty() {
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn packets(batch: &TxBatch) -> Vec<(SocketAddr, Vec<u8>)> {
        let of = |run: &Run| batch.packets(run).map(|p| (run.to, p.to_vec())).collect::<Vec<_>>();
        batch.runs().iter().flat_map(of).collect()
    }

    #[test]
    fn equal_packets_to_one_peer_make_a_run_and_a_shorter_one_ends_it() {
        let mut batch = TxBatch::new();
        let sent: Vec<(SocketAddr, Vec<u8>)> = [
            (1, 1_000),
            (1, 1_000),
            (1, 400),
            (1, 400),
            (2, 400),
            (1, 400),
            (1, 500),
            (1, 0),
            (1, 1),
        ]
        .iter()
        .map(|(port, len)| (peer(*port), vec![*port as u8; *len]))
        .collect();
        for (to, packet) in &sent {
            batch.push(*to, packet).expect("room");
        }
        let runs: Vec<usize> = batch.runs().iter().map(Run::packets).collect();
        assert_eq!(runs, [3, 1, 1, 1, 1, 1, 1]);
        assert_eq!(batch.len(), sent.len());
        assert_eq!(packets(&batch), sent);
    }

    #[test]
    fn a_run_is_no_longer_than_a_kernel_takes() {
        let mut batch = TxBatch::new();
        for _ in 0..=SEGMENTS_MAX {
            batch.push(peer(1), &[7; 100]).expect("room");
        }
        let runs: Vec<usize> = batch.runs().iter().map(Run::packets).collect();
        assert_eq!(runs, [SEGMENTS_MAX, 1]);
        let mut batch = TxBatch::new();
        for _ in 0..60 {
            batch.push(peer(1), &[7; PAYLOAD_BYTES_MAX]).expect("room");
        }
        assert!(batch.runs().iter().all(|run| run.len_bytes() <= RUN_BYTES_MAX));
        assert_eq!(batch.runs().len(), 2);
    }

    #[test]
    fn what_is_refused_leaves_the_batch_as_it_was() {
        let mut batch = TxBatch::new();
        let big = batch.push(peer(1), &[0; PAYLOAD_BYTES_MAX + 1]).expect_err("too large");
        assert_eq!(big, TxRefused::Oversize { got: 1_233, max: 1_232 });
        let mut taken = 0;
        while batch.push(peer(1), &[1; PAYLOAD_BYTES_MAX]).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, TX_BYTES / PAYLOAD_BYTES_MAX);
        assert_eq!(batch.len(), taken);
        batch.settle(|_, _| Settled::Gone);
        assert!(batch.is_empty());
        assert_eq!(batch.push(peer(1), &[1; 8]), Ok(()));
    }

    #[test]
    fn what_stays_is_what_did_not_leave() {
        let mut batch = TxBatch::new();
        for n in 0..10u8 {
            batch.push(peer(u16::from(n / 5)), &[n; 100]).expect("room");
        }
        batch.settle(|at, _| if at == 0 { Settled::Partly(3) } else { Settled::Stays });
        let left: Vec<u8> = packets(&batch).iter().map(|(_, p)| p[0]).collect();
        assert_eq!(left, [3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(batch.len(), 7);
        batch.settle(|at, _| if at == 0 { Settled::Partly(2) } else { Settled::Gone });
        assert_eq!((batch.len(), batch.runs().len()), (0, 0));
    }

    #[test]
    fn joined_packets_are_cut_apart_and_the_last_may_be_short() {
        let mut batch = RxBatch::new();
        batch.memory()[..7].copy_from_slice(b"aaabbbc");
        assert_eq!(batch.name(peer(1), 0, 7, 3), 3);
        assert_eq!(batch.name(peer(2), 7, 0, 0), 1);
        let all: Vec<&[u8]> = batch.iter().map(|(_, p)| p).collect();
        assert_eq!(all, [&b"aaa"[..], b"bbb", b"c", b""]);
    }
}
