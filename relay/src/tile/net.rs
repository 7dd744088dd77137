//! The tile `net`: a socket between two links.
//!
//! In: `bfr_net`, datagrams to send. Out: `net_bfr`, datagrams that came. A turn sends what the last turns gathered, as runs, and publishes
//! what has come; nothing waits. The socket is looked at once a turn. While packets come the core stays awake; [`AWAKE_NS`] after the
//! last one it may sleep, and then looks again when its sleep ends, within a millisecond (eight, if it has slept for long).
//!
//! Back of the envelope: a burst of up to 2,048 packets is one system call a 64; a packet is copied once into the link. At 250 ns a packet a
//! core moves 4 million a second; the kernel is the limit long before (see `io`).

use super::{Desk, datagram};
use crate::io::{PacketIo, RxBatch, TxBatch, TxRefused};
use dataplane::counters;
use dataplane::metrics::CounterDef;
use dataplane::tile::{Busy, Frag, House, In, Out, Outs, Tile};
use dataplane::time::Ns;
use std::net::SocketAddr;

/// How long the core stays awake after a packet.
pub const AWAKE_NS: Ns = 20_000_000;
/// How old the socket's numbers may be: asking for them is a system call.
const STATS_EVERY_NS: Ns = 10_000_000;
/// Packets taken from `bfr_net` in one turn: what a batch holds, about.
const PACKETS_PER_TURN: u32 = 192;

counters! {
    /// What the socket counts.
    pub enum NetCount {
        /// Packets received.
        Received = counter "packets_received_total",
        /// Bytes of them.
        ReceivedBytes = counter "received_bytes_total",
        /// Packets sent.
        Sent = counter "packets_sent_total",
        /// Bytes of them.
        SentBytes = counter "sent_bytes_total",
        /// Packets too long to be ours.
        Refused = counter "packets_refused_total",
        /// Packets the kernel dropped because nobody read them in time.
        Overflowed = counter "packets_overflowed_total",
        /// Packets the kernel would not send.
        Unsent = counter "packets_unsent_total",
        /// Times the socket was full.
        Full = counter "socket_full_total",
        /// Calls of the socket that failed.
        Errors = counter "socket_errors_total",
    }
}

/// The tile; see the module.
pub struct Net {
    io: Box<dyn PacketIo>,
    rx: RxBatch,
    tx: TxBatch,
    out: Out,
    is_full: bool,
    awake_until: Ns,
    stats_due: Ns,
    errors: u64,
    desk: Desk,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("caps", &self.io.caps()).finish_non_exhaustive()
    }
}

impl Net {
    /// Around an open socket, whose numbers are shown at the desk; `out` is `net_bfr`.
    pub fn new(io: Box<dyn PacketIo>, out: Out, desk: Desk) -> Self {
        let (rx, tx) = (RxBatch::new(), TxBatch::new());
        Self { io, rx, tx, out, is_full: false, awake_until: 0, stats_due: 0, errors: 0, desk }
    }

    /// Where packets arrive.
    ///
    /// # Panics
    /// If the socket is gone.
    pub fn local_addr(&self) -> SocketAddr {
        self.io.local_addr().expect("an open socket is bound")
    }

    fn flush(&mut self) -> Busy {
        if self.tx.is_empty() {
            return Busy::No;
        }
        let Ok(sent) = self.io.tx_burst(&mut self.tx) else {
            self.errors += 1;
            return Busy::Waiting;
        };
        self.is_full = !self.tx.is_empty();
        if sent == 0 && self.is_full { Busy::Waiting } else { Busy::Yes }
    }
}

impl Tile for Net {
    const NAME: &'static str = "net";
    const BURST: u32 = 1;
    const FRAGS_PER_TURN: u32 = PACKETS_PER_TURN;
    const COUNTERS: &'static [CounterDef] = NetCount::DEFS;

    fn housekeeping(&mut self, house: &mut House<'_>) {
        if house.now() < self.stats_due {
            return;
        }
        self.stats_due = house.now() + STATS_EVERY_NS;
        let stats = self.io.stats();
        self.desk.show_io(stats);
        for (counter, value) in [
            (NetCount::Received, stats.rx_packets),
            (NetCount::ReceivedBytes, stats.rx_bytes),
            (NetCount::Sent, stats.tx_packets),
            (NetCount::SentBytes, stats.tx_bytes),
            (NetCount::Refused, stats.rx_refused),
            (NetCount::Overflowed, stats.rx_overflowed),
            (NetCount::Unsent, stats.tx_refused),
            (NetCount::Full, stats.tx_full),
            (NetCount::Errors, self.errors),
        ] {
            house.set(counter, value);
        }
    }

    fn before(&mut self, outs: &mut Outs) -> Busy {
        let sent = self.flush();
        let came = self.io.rx_burst(&mut self.rx).unwrap_or_else(|_| {
            self.errors += 1;
            0
        });
        for (from, bytes) in self.rx.iter() {
            // Without credit it is lost and counted by the link, as a router would.
            outs.publish_with(self.out, 0, |frag| datagram::write(from, bytes, frag));
        }
        if came > 0 {
            self.awake_until = outs.now() + AWAKE_NS;
        }
        sent | Busy::if_so(came > 0 || outs.now() < self.awake_until)
    }

    fn wants(&mut self, _input: In, _outs: &Outs) -> u32 {
        if self.is_full { 0 } else { u32::MAX }
    }

    fn frag(&mut self, _input: In, frag: Frag<'_>, outs: &mut Outs) {
        let (to, bytes) = datagram::read(frag.bytes).expect("bfr_net carries datagrams");
        self.awake_until = outs.now() + AWAKE_NS;
        match self.tx.push(to, bytes) {
            Ok(()) => {}
            Err(TxRefused::Full) => {
                // A turn's frags are fewer than a batch holds, so what fills it waits since an earlier turn; this one is lost.
                let _ = self.flush();
                let _ = self.tx.push(to, bytes);
            }
            Err(refused) => panic!("the engine made {refused}"),
        }
    }

    fn after(&mut self, _outs: &mut Outs) -> Busy {
        self.flush()
    }

    fn is_drained(&self) -> bool {
        self.tx.is_empty()
    }
}
