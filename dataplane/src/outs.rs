//! A tile's way out: its out-links by handle, with their credits, and its counters.
//!
//! Every frag that is published carries the time of birth of the frag being handled, and the time of the turn. Counts are
//! kept here and written to the metrics once a turn; sleepers at the other end are woken once a turn and link.

use ring::park::Waker;
use ring::{Kind, LargeFrag, NotSent, Producer, Refused};

use crate::metrics::{Cell, LinkCells, TileCells};
use crate::tile::{Out, Seq, Sig, Stamp};
use crate::time::Ns;

/// One out-link.
#[derive(Debug)]
pub(crate) struct OutPort {
    producer: Producer,
    wakers: Vec<Waker>,
    kind: Kind,
    depth: u64,
    /// Below this the consumers' positions are looked up at the start of a turn.
    low: u64,
    delta: LinkCells,
    touched: bool,
}

impl OutPort {
    /// An out-link of a tile that publishes up to `burst` frags on it in one call.
    pub(crate) fn new(
        producer: Producer,
        wakers: Vec<Waker>,
        kind: Kind,
        depth: u64,
        burst: u32,
    ) -> Self {
        // A quarter of the link is several turns' worth; on a shallow one, whatever one call may need.
        let low = (depth / 4).max(u64::from(burst)).min(depth);
        Self { producer, wakers, kind, depth, low, delta: LinkCells::default(), touched: false }
    }
}

/// The out-links and counters of one tile.
#[derive(Debug)]
pub struct Outs {
    ports: Vec<OutPort>,
    /// Ports that were published to in this turn.
    touched: Vec<u16>,
    cells: TileCells,
    now: Ns,
    born: Stamp,
}

impl Outs {
    pub(crate) fn new(ports: Vec<OutPort>, cells: TileCells) -> Self {
        let touched = Vec::with_capacity(ports.len());
        Self { ports, touched, cells, now: 0, born: Stamp(0) }
    }

    /// Number of out-links.
    #[inline]
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Whether the tile has no out-link.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// Frags that may be published on `out` for certain.
    ///
    /// On a `Lossless` link publishing beyond it is a violation; on a `Shed` link what is beyond it is shed; a `Tap` always
    /// has its whole depth.
    #[inline]
    pub fn credit(&self, out: Out) -> u32 {
        self.ports[out.index()].producer.credit() as u32
    }

    /// The least credit of all `Lossless` out-links; `u32::MAX` if there are none.
    #[inline]
    pub fn least_credit(&self) -> u32 {
        let lossless = self.ports.iter().filter(|p| p.kind == Kind::Lossless);
        lossless.map(|p| p.producer.credit() as u32).min().unwrap_or(u32::MAX)
    }

    /// Frags that `out` holds when it is full.
    #[inline]
    pub fn depth(&self, out: Out) -> u32 {
        self.ports[out.index()].depth as u32
    }

    /// Most payload bytes of a frag in line on `out`.
    #[inline]
    pub fn mtu(&self, out: Out) -> usize {
        self.ports[out.index()].producer.mtu_bytes()
    }

    /// Most payload bytes of any frag on `out`: what its arena holds, or the mtu where it has none.
    pub fn frag_bytes_max(&self, out: Out) -> u64 {
        let producer = &self.ports[out.index()].producer;
        producer.arena_bytes().max(producer.mtu_bytes() as u64)
    }

    /// Number of the next frag on `out`.
    #[inline]
    pub fn next_seq(&self, out: Out) -> Seq {
        self.ports[out.index()].producer.next_seq()
    }

    /// Nanoseconds since the machine's clock started, as of this turn.
    #[inline]
    pub fn now(&self) -> Ns {
        self.now
    }

    /// The time of birth that frags published from here on carry.
    #[inline]
    pub fn born(&self) -> Stamp {
        self.born
    }

    /// Sets the time of birth, for a message that answers an earlier frag than the one being handled.
    #[inline]
    pub fn set_born(&mut self, born: Stamp) {
        self.born = born;
    }

    /// Publishes a copy of `bytes` on `out`: the frag's number, or `None` if a `Shed` link had no credit for it.
    ///
    /// # Panics
    /// If a `Lossless` link has no credit (the tile published more than it was given: its `BURST` is too low, or a hook
    /// did not look at [`credit`](Self::credit)), or if `bytes` is longer than the link's mtu.
    #[inline]
    pub fn publish(&mut self, out: Out, sig: Sig, bytes: &[u8]) -> Option<Seq> {
        let born = self.born.0;
        let port = &mut self.ports[out.index()];
        let Ok(seq) = port.producer.publish(sig, born, bytes) else {
            self.full(out);
            return None;
        };
        self.sent(out, bytes.len());
        Some(seq)
    }

    /// As [`publish`](Self::publish), but the frag is built in place: `fill` gets the link's next slot, an mtu of bytes with
    /// old content, and gives back how many of them are the frag.
    ///
    /// # Panics
    /// As [`publish`](Self::publish).
    #[inline]
    pub fn publish_with(
        &mut self,
        out: Out,
        sig: Sig,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Option<Seq> {
        let born = self.born.0;
        let port = &mut self.ports[out.index()];
        let Some(slot) = port.producer.prepare() else {
            if port.kind == Kind::Shed {
                port.producer.count_shed();
            }
            self.full(out);
            return None;
        };
        let len = fill(slot);
        let seq = port.producer.commit(sig, len, born);
        self.sent(out, len);
        Some(seq)
    }

    /// The next slot of `out`, to be filled over several calls; `None` without credit. [`commit`](Self::commit) publishes it;
    /// until then it may be asked for again, with its content, unless another frag is published there.
    #[inline]
    pub fn prepare(&mut self, out: Out) -> Option<&mut [u8]> {
        self.ports[out.index()].producer.prepare()
    }

    /// Publishes the first `len` bytes of the prepared slot of `out`.
    ///
    /// # Panics
    /// If nothing is prepared there.
    #[inline]
    pub fn commit(&mut self, out: Out, sig: Sig, len: usize) -> Seq {
        let seq = self.ports[out.index()].producer.commit(sig, len, self.born.0);
        self.sent(out, len);
        seq
    }

    /// Publishes a whole frag of any size on `out`: in line up to the mtu, through the arena above it. Nothing is published
    /// (and on a `Shed` link it is counted) where there is no credit, or where the arena refuses.
    ///
    /// `source` is whoever the frag comes from: one source has at most one large frag in the arena.
    pub fn publish_any(
        &mut self,
        out: Out,
        sig: Sig,
        bytes: &[u8],
        source: u64,
    ) -> Result<Seq, NotSent> {
        let port = &mut self.ports[out.index()];
        let sent = port.producer.publish_any(sig, self.born.0, bytes, source);
        match sent {
            Ok(_) => self.sent(out, bytes.len()),
            Err(_) if port.kind == Kind::Shed => self.dropped(out),
            Err(_) => {}
        }
        sent
    }

    /// Room in the arena of `out` for a frag of `bytes` from `source`, before its first byte is there.
    pub fn admit(&mut self, out: Out, bytes: u64, source: u64) -> Result<LargeFrag, Refused> {
        self.ports[out.index()].producer.admit(bytes, source)
    }

    /// Appends `piece` to a frag admitted on `out`.
    ///
    /// # Panics
    /// If that is more than was claimed: the caller checks its source's claim before.
    pub fn append(&mut self, out: Out, frag: &mut LargeFrag, piece: &[u8]) {
        let written = self.ports[out.index()].producer.write(frag, piece);
        written.expect("a large frag is appended to within its claim");
    }

    /// Publishes a frag admitted on `out`. Without credit the frag comes back, to be published later.
    pub fn publish_large(&mut self, out: Out, sig: Sig, frag: LargeFrag) -> Result<Seq, LargeFrag> {
        let len = frag.written_bytes() as usize;
        let seq = self.ports[out.index()].producer.publish_large(frag, sig, self.born.0)?;
        self.sent(out, len);
        Ok(seq)
    }

    /// Adds to a counter of the tile's catalogue.
    #[inline]
    pub fn count(&self, counter: impl Into<usize>, n: u64) {
        self.cells.add(counter, n);
    }

    /// Sets a gauge of the tile's catalogue.
    #[inline]
    pub fn set(&self, counter: impl Into<usize>, value: u64) {
        self.cells.set(counter, value);
    }

    pub(crate) fn cells(&self) -> &TileCells {
        &self.cells
    }

    pub(crate) fn shallowest(&self) -> u64 {
        self.ports.iter().map(|p| p.depth).min().unwrap_or(0)
    }

    /// Start of a turn.
    #[inline]
    pub(crate) fn begin(&mut self, now: Ns) {
        self.now = now;
        self.born = Stamp::of(now);
        for port in &mut self.ports {
            port.producer.set_now(self.born.0);
            if port.kind != Kind::Tap && port.producer.credit() < port.low {
                port.producer.credit_at_least(port.low);
            }
        }
    }

    /// End of a turn: counts are written, sleepers woken.
    #[inline]
    pub(crate) fn finish(&mut self) {
        for i in self.touched.drain(..) {
            let port = &mut self.ports[i as usize];
            port.touched = false;
            let delta = std::mem::take(&mut port.delta);
            self.cells.output(i as usize, &delta);
            for waker in &port.wakers {
                waker.wake_if_parked();
            }
        }
    }

    /// The tile could not go on: the links that are short of `burst` are counted, and their slowest consumer blamed.
    pub(crate) fn blame(&mut self, burst: u64) {
        for (i, port) in self.ports.iter_mut().enumerate() {
            if port.kind == Kind::Lossless && port.producer.credit() < burst {
                port.producer.count_backpressure();
                let slowest = port.producer.slowest().unwrap_or(0) as u64;
                self.cells.blame(i, slowest);
            }
        }
    }

    /// Housekeeping of one link: its positions reread, its counters where other processes see them.
    pub(crate) fn refresh(&mut self, i: usize) {
        self.ports[i].producer.refresh();
    }

    pub(crate) fn heartbeat(&self, now: Ns, alloc_after_seal: u64) {
        self.cells.fixed(Cell::HeartbeatNs, now);
        self.cells.fixed(Cell::AllocAfterSeal, alloc_after_seal);
    }

    #[inline]
    fn sent(&mut self, out: Out, bytes: usize) {
        let port = &mut self.ports[out.index()];
        port.delta.frags += 1;
        port.delta.bytes += bytes as u64;
        if !port.touched {
            port.touched = true;
            self.touched.push(out.0);
        }
    }

    #[cold]
    fn full(&mut self, out: Out) {
        let port = &self.ports[out.index()];
        assert!(
            port.kind != Kind::Lossless,
            "published on {} without credit: the tile's BURST is below what it publishes in one call, or a hook did not \
             look at the credit",
            port.producer.name()
        );
        self.dropped(out);
    }

    fn dropped(&mut self, out: Out) {
        let port = &mut self.ports[out.index()];
        port.delta.dropped += 1;
        if !port.touched {
            port.touched = true;
            self.touched.push(out.0);
        }
    }
}
