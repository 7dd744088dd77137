//! All links of a relay: whose packet is this, and whose packet goes next.
//!
//! In: datagrams, the time, and what wants to be sent (asked for, never handed in: [`Upper`]). Out: datagrams in the order of
//! their priority, each at its peer's rate and all below the relay's, and frames that are authentic. Between peers of one
//! priority short runs take turns, so that a host can hand a run to its socket in one call.

use crate::drops::{DropReason, Drops};
use crate::link::{
    COOKIE_TURN_US, CookieJar, Entropy, Greeting, HelloGate, KeyTable, Keys, Link, Rekey, Session,
    Stage, TokenBucket, Turn, call, called,
};
use crate::peer::{LinkView, PeerConfig, PeerId, PeerInfo, PeerView};
use crate::plants::{self, Plant};
use crate::time::NowUs;
use crate::wire::{
    Answer, Frame, FrameBuf, HELLO_LEN, Hello, Inside, Packet, Priority, Sealed, write_cookie,
    write_hello, write_noise_answer,
};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Most peers of a relay.
pub const PEERS_MAX: usize = 1_024;
/// Packets of one peer in a row; one `sendmsg` with segmentation offload takes as many.
pub const RUN_PACKETS: usize = 32;
/// Packets of one call of [`Links::transmit`]: the host gets to read in between.
pub const TRANSMIT_PACKETS: usize = 512;
/// Handshake packets that wait for the socket.
pub const OUTBOX_MAX: usize = 64;
/// Of these, so many are kept for what is not an answer to a stranger.
const OUTBOX_OURS: usize = 24;
/// Longest time until the next look at anything.
const TICK_US_MAX: u64 = 1_000_000;
/// When a socket is full, it is tried again after this.
const SOCKET_RETRY_US: u64 = 100;

/// What lives above the links: takes frames in, and is asked for the next one when a link may send.
pub trait Upper {
    /// A link came up.
    fn peer_up(&mut self, peer: PeerId, info: PeerInfo, links: &LinkView, now: NowUs);

    /// A link went down, or its peer was dropped.
    fn peer_down(&mut self, peer: PeerId, now: NowUs);

    /// An authentic frame.
    fn on_frame(
        &mut self,
        peer: PeerId,
        frame: &Frame<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason>;

    /// The priority of what [`Self::next_frame`] would give.
    fn pending(&self, peer: PeerId) -> Option<Priority>;

    /// Writes the next frame for `peer`; `None` when there is none after all.
    fn next_frame(
        &mut self,
        peer: PeerId,
        links: &LinkView,
        now: NowUs,
        frame: &mut FrameBuf,
    ) -> Option<Priority>;
}

/// What does not change while a relay runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinksConfig {
    /// All peers together get no more than this; 0: no limit but theirs.
    pub total_mbit: u32,
    /// What peers are told that we can take; 0: no limit.
    pub receive_mbit: u32,
    /// When sessions are replaced.
    pub rekey: Rekey,
}

/// A handshake packet that waits for the socket.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    to: SocketAddr,
    len: usize,
    bytes: [u8; HELLO_LEN],
}

/// All links.
#[derive(Debug)]
pub struct Links {
    config: LinksConfig,
    keys: Keys,
    incarnation: u64,
    entropy: Entropy,
    cookies: CookieJar,
    gate: HelloGate,
    table: KeyTable,
    links: Vec<Option<Link>>,
    by_public_key: HashMap<[u8; 32], PeerId>,
    calls: HashMap<u32, PeerId>,
    view: LinkView,
    outbox: VecDeque<Waiting>,
    frame: FrameBuf,
    /// A datagram that is made and that the socket did not take.
    stuck: Option<(SocketAddr, usize)>,
    total: Option<TokenBucket>,
    turn: usize,
    drops: Drops,
    quarantines: u64,
}

impl Links {
    /// No link yet; [`Self::set_peers`] makes them.
    pub fn new(config: LinksConfig, keys: Keys, seed: &[u8; 32], now: NowUs) -> Self {
        // The secret is mixed in, so that a host whose seed is weak has strong keys all the same.
        let mut mixed = Entropy::new(seed, keys.secret());
        let mut entropy = Entropy::new(&mixed.draw(), b"links");
        let total = u64::from(config.total_mbit) * 125_000;
        Self {
            incarnation: entropy.word(),
            cookies: CookieJar::new(Entropy::new(&mixed.draw(), b"cookies"), now),
            gate: HelloGate::new(Entropy::new(&mixed.draw(), b"gate")),
            entropy,
            config,
            keys,
            table: KeyTable::default(),
            links: Vec::new(),
            by_public_key: HashMap::new(),
            calls: HashMap::new(),
            view: LinkView::default(),
            outbox: VecDeque::with_capacity(OUTBOX_MAX),
            frame: FrameBuf::default(),
            stuck: None,
            total: (total > 0).then(|| TokenBucket::new(total, now)),
            turn: 0,
            drops: Drops::default(),
            quarantines: 0,
        }
    }

    /// Adds, drops and changes links so that they are these; links that stay are not touched. Peers beyond [`PEERS_MAX`] and
    /// repeated keys are ignored: the host has refused such a list before.
    pub fn set_peers(&mut self, peers: Vec<PeerConfig>, upper: &mut impl Upper, now: NowUs) {
        for at in 0..self.links.len() {
            let gone = self.links[at].as_ref().is_some_and(|link| {
                plants::is(Plant::ReloadCutsOff)
                    || !peers.iter().any(|peer| peer.public_key == link.config.public_key)
            });
            if gone {
                self.close(PeerId(at as u16), upper, now);
                self.drop_link(at);
            }
        }
        for peer in peers {
            if let Some(&known) = self.by_public_key.get(&peer.public_key) {
                if let Some(link) = self.links[known.index()].as_mut() {
                    link.configure(peer, now);
                    self.view.rows[known.index()] = link.view();
                }
                continue;
            }
            let free = self.links.iter().position(Option::is_none);
            let at = free.unwrap_or(self.links.len());
            if at >= PEERS_MAX || peer.public_key == *self.keys.public() {
                continue;
            }
            if at == self.links.len() {
                self.links.push(None);
                self.view.rows.push(PeerView::ABSENT);
            }
            let id = PeerId(at as u16);
            self.by_public_key.insert(peer.public_key, id);
            let calls_first = *self.keys.public() < peer.public_key;
            let link = Link::new(id, peer, self.config.rekey, calls_first, now);
            self.view.rows[at] = link.view();
            self.links[at] = Some(link);
        }
    }

    /// Says goodbye to everybody; for a host that ends.
    pub fn close_all(&mut self, upper: &mut impl Upper, now: NowUs) {
        for at in 0..self.links.len() {
            self.close(PeerId(at as u16), upper, now);
        }
    }

    fn close(&mut self, peer: PeerId, upper: &mut impl Upper, now: NowUs) {
        let Some(link) = self.links[peer.index()].as_mut() else { return };
        let mut frame = FrameBuf::default();
        frame.close();
        if let Some((to, datagram)) = link.seal(&mut frame, now) {
            push(&mut self.outbox, to, datagram, 0);
        }
        if link.end_all(&mut self.table, now) {
            upper.peer_down(peer, now);
        }
        self.view.rows[peer.index()] = link.view();
    }

    fn drop_link(&mut self, at: usize) {
        if let Some(link) = self.links[at].take() {
            self.calls.remove(&link.calls.id);
            self.by_public_key.remove(&link.config.public_key);
        }
        self.view.rows[at] = PeerView::ABSENT;
    }

    /// All links as objects see them.
    pub fn view(&self) -> &LinkView {
        &self.view
    }

    /// The links there are.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().flatten()
    }

    /// What was thrown away.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Sessions and calls that hold a name.
    pub fn sessions(&self) -> usize {
        self.table.used()
    }

    /// Peers put into quarantine so far.
    pub fn quarantines(&self) -> u64 {
        self.quarantines
    }

    /// Takes a datagram in. What is wrong with it is counted and otherwise forgotten.
    pub fn receive(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        upper: &mut impl Upper,
        now: NowUs,
    ) {
        let done = match Packet::parse(datagram) {
            Err(_) => Err(DropReason::Malformed),
            Ok(Packet::Hello(hello)) => self.on_hello(from, &hello, upper, now),
            Ok(Packet::Answer(answer)) => self.on_answer(from, &answer, upper, now),
            Ok(Packet::Sealed(sealed)) => self.on_sealed(&sealed, upper, now),
        };
        if let Err(reason) = done {
            self.drops.count(reason);
        }
    }

    fn on_hello(
        &mut self,
        from: SocketAddr,
        hello: &Hello<'_>,
        upper: &mut impl Upper,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let Some((cookie, message)) = hello.proof else {
            let cookie = self.cookies.cookie(from, hello.id, now);
            let answer = write_cookie(hello.id, &cookie);
            return if push(&mut self.outbox, from, &answer, OUTBOX_OURS) {
                Ok(())
            } else {
                Err(DropReason::HelloFlood)
            };
        };
        if !self.cookies.is_ours(cookie, from, hello.id, now) {
            return Err(DropReason::CookieWrong);
        }
        let configured =
            self.iter().any(|link| link.address().is_some_and(|addr| addr.ip() == from.ip()));
        self.gate.pass(from.ip(), configured, now)?;
        let called = called(&self.keys, message, hello.id, &mut self.entropy)?;
        let peer = *self.by_public_key.get(&called.public_key).ok_or(DropReason::PeerUnknown)?;
        let Some(link) = self.links[peer.index()].as_mut() else {
            return Err(DropReason::PeerUnknown);
        };
        if link.strikes.quarantined(now) {
            return Err(DropReason::Quarantined);
        }
        // A cookie lives for two turns: what is older is refused for its cookie.
        match link.calls.heard(hello.id, 2 * COOKIE_TURN_US, now) {
            Some(false) => {}
            Some(true) => return Err(DropReason::HandshakeReplay),
            None => return Err(DropReason::HelloRate),
        }
        let key_in = self.table.take(peer, &mut self.entropy);
        let theirs = called.greeting;
        let greeting = Greeting {
            key_id: key_in,
            receive_mbit: self.config.receive_mbit,
            incarnation: self.incarnation,
        };
        let (answer, keys) = match called.answer(greeting) {
            Ok(answer) => answer,
            Err(reason) => {
                self.table.free(key_in);
                return Err(reason);
            }
        };
        let session = Session::new(key_in, theirs, keys, from, false, now);
        let turn = link.admit(session, &mut self.table, now);
        push(&mut self.outbox, from, &write_noise_answer(hello.id, &answer), 0);
        self.turned(peer, turn, upper, now);
        Ok(())
    }

    fn on_answer(
        &mut self,
        from: SocketAddr,
        answer: &Answer<'_>,
        upper: &mut impl Upper,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let (Answer::Cookie { id, .. } | Answer::Noise { id, .. }) = *answer;
        let peer = *self.calls.get(&id).ok_or(DropReason::AnswerUnasked)?;
        let Some(link) = self.links[peer.index()].as_mut().filter(|link| link.calls.id == id)
        else {
            return Err(DropReason::AnswerUnasked);
        };
        if link.calls.to != Some(from) {
            return Err(DropReason::AnswerUnasked);
        }
        match (*answer, &mut link.calls.stage) {
            (Answer::Cookie { cookie, .. }, Stage::AskedCookie) => {
                let key_in = self.table.take(peer, &mut self.entropy);
                let greeting = Greeting {
                    key_id: key_in,
                    receive_mbit: self.config.receive_mbit,
                    incarnation: self.incarnation,
                };
                let public_key = &link.config.public_key;
                match call(&self.keys, public_key, id, greeting, &mut self.entropy) {
                    Ok((calling, message)) => {
                        link.calls.sent(calling, key_in, now);
                        let hello = write_hello(id, Some((cookie, &message)));
                        push(&mut self.outbox, from, &hello, 0);
                        Ok(())
                    }
                    Err(reason) => {
                        self.table.free(key_in);
                        Err(reason)
                    }
                }
            }
            (Answer::Noise { message, .. }, Stage::Sent { calling, key_in }) => {
                let (theirs, keys) = calling.answered(message)?;
                let key_in = *key_in;
                link.calls.stage = Stage::Idle;
                self.calls.remove(&id);
                let session = Session::new(key_in, theirs, keys, from, true, now);
                let turn = link.admit(session, &mut self.table, now);
                self.turned(peer, turn, upper, now);
                Ok(())
            }
            _ => Err(DropReason::AnswerUnasked),
        }
    }

    fn on_sealed(
        &mut self,
        sealed: &Sealed<'_>,
        upper: &mut impl Upper,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let peer = self.table.peer(sealed.key_id).ok_or(DropReason::KeyUnknown)?;
        let link = self.links[peer.index()].as_mut().ok_or(DropReason::KeyUnknown)?;
        let turn = link.open(sealed, &mut self.table, now)?;
        self.turned(peer, turn, upper, now);
        let done = match Inside::parse(sealed.authenticated) {
            Err(_) => Err(DropReason::FrameMalformed),
            Ok(Inside::Keep(keep)) => {
                let link = self.links[peer.index()].as_mut().expect("it was there above");
                link.report(&keep, now);
                self.view.rows[peer.index()] = link.view();
                Ok(())
            }
            Ok(Inside::Close) => {
                let link = self.links[peer.index()].as_mut().expect("it was there above");
                if link.end_all(&mut self.table, now) {
                    upper.peer_down(peer, now);
                }
                self.view.rows[peer.index()] = link.view();
                Ok(())
            }
            Ok(Inside::Frame(frame)) => {
                let link = self.links[peer.index()].as_mut().expect("it was there above");
                link.frame_heard();
                upper.on_frame(peer, &frame, &self.view, now)
            }
        };
        done.inspect_err(|&reason| self.strike(peer, reason, upper, now))
    }

    fn strike(&mut self, peer: PeerId, reason: DropReason, upper: &mut impl Upper, now: NowUs) {
        let Some(link) = self.links[peer.index()].as_mut() else { return };
        if link.strike(reason, now) {
            self.quarantines += 1;
            self.close(peer, upper, now);
        }
    }

    fn turned(&mut self, peer: PeerId, turn: Turn, upper: &mut impl Upper, now: NowUs) {
        let Some(link) = self.links[peer.index()].as_ref() else { return };
        if turn == Turn::Same {
            return;
        }
        self.view.rows[peer.index()] = link.view();
        if turn == Turn::Restarted {
            upper.peer_down(peer, now);
        }
        if let Some(info) = link.up() {
            upper.peer_up(peer, info, &self.view, now);
        }
    }

    /// Timers of the links: one look at each.
    pub fn tick(&mut self, upper: &mut impl Upper, now: NowUs) {
        for at in 0..self.links.len() {
            let Some(link) = self.links[at].as_mut() else { continue };
            let before = link.calls.id;
            let ticked = link.tick(&mut self.entropy, &mut self.table, now);
            if let Some((to, id)) = ticked.ask {
                self.calls.remove(&before);
                self.calls.insert(id, link.id);
                push(&mut self.outbox, to, &write_hello(id, None), 0);
            }
            if ticked.down {
                upper.peer_down(link.id, now);
            }
            self.view.rows[at] = link.view();
        }
    }

    /// When [`Self::tick`] or [`Self::transmit`] has something to do.
    pub fn next_due(&self, upper: &impl Upper, now: NowUs) -> NowUs {
        if self.stuck.is_some() {
            return now + SOCKET_RETRY_US;
        }
        if !self.outbox.is_empty() {
            return now;
        }
        let total = self.total.as_ref().map_or(now, |total| total.due(now));
        let mut due = now + TICK_US_MAX;
        for link in self.iter() {
            due = due.min(link.due(now));
            if let Some(priority) = upper.pending(link.id).filter(|_| link.up().is_some()) {
                due = due.min(match priority {
                    Priority::Control => now,
                    Priority::Low if link.is_reduced() => due,
                    _ => link.send_due(now).max(total),
                });
            }
        }
        due.max(now)
    }

    /// Hands datagrams to `out` as long as it takes them and somebody may send; `false` means that the socket is full, and
    /// the datagram is offered again at the next call.
    pub fn transmit(
        &mut self,
        upper: &mut impl Upper,
        now: NowUs,
        out: &mut impl FnMut(SocketAddr, &[u8]) -> bool,
    ) {
        if let Some((to, len)) = self.stuck {
            if !out(to, self.frame.datagram(len)) {
                return;
            }
            self.stuck = None;
        }
        while let Some(waiting) = self.outbox.front() {
            if !out(waiting.to, &waiting.bytes[..waiting.len]) {
                return;
            }
            self.outbox.pop_front();
        }
        for at in 0..self.links.len() {
            let Some(link) = self.links[at].as_mut() else { continue };
            if now < link.keep_due() || link.up().is_none() {
                continue;
            }
            let keep = link.keep(now);
            self.frame.keep(&keep);
            if !self.hand_over(at, now, out) {
                return;
            }
        }
        let mut packets = 0;
        while packets < TRANSMIT_PACKETS {
            let Some((at, priority)) = self.next_link(upper, now) else { return };
            self.turn = at + 1;
            let peer = PeerId(at as u16);
            for _ in 0..RUN_PACKETS {
                if upper.pending(peer) != Some(priority) || !self.may_send(at, priority, now) {
                    break;
                }
                packets += 1;
                if upper.next_frame(peer, &self.view, now, &mut self.frame).is_none() {
                    break;
                }
                if !self.hand_over(at, now, out) {
                    return;
                }
            }
        }
    }

    /// The link whose turn it is among those with the most urgent frame that may go.
    fn next_link(&mut self, upper: &impl Upper, now: NowUs) -> Option<(usize, Priority)> {
        let count = self.links.len();
        let mut best: Option<(usize, Priority)> = None;
        for step in 0..count {
            let at = (self.turn + step) % count;
            let Some(priority) = upper.pending(PeerId(at as u16)) else { continue };
            let is_better = best.is_none_or(|(_, found)| priority < found);
            if is_better && self.may_send(at, priority, now) {
                best = Some((at, priority));
            }
        }
        best
    }

    fn may_send(&mut self, at: usize, priority: Priority, now: NowUs) -> bool {
        let Some(link) = self.links[at].as_mut().filter(|link| link.up().is_some()) else {
            return false;
        };
        match priority {
            // Few and small, and others wait for them.
            Priority::Control => true,
            Priority::Low if link.is_reduced() => false,
            _ => link.may_send(now) && self.total.as_mut().is_none_or(|total| total.ready(now)),
        }
    }

    fn hand_over(
        &mut self,
        at: usize,
        now: NowUs,
        out: &mut impl FnMut(SocketAddr, &[u8]) -> bool,
    ) -> bool {
        let Some(link) = self.links[at].as_mut() else { return true };
        let Some((to, datagram)) = link.seal(&mut self.frame, now) else { return true };
        let len = datagram.len();
        if let Some(total) = &mut self.total {
            total.spend(len);
        }
        if out(to, datagram) {
            return true;
        }
        self.stuck = Some((to, len));
        false
    }
}

/// Queues a handshake packet unless fewer than `keep_free` places would be left.
fn push(outbox: &mut VecDeque<Waiting>, to: SocketAddr, datagram: &[u8], keep_free: usize) -> bool {
    if outbox.len() + keep_free >= OUTBOX_MAX {
        return false;
    }
    let mut bytes = [0; HELLO_LEN];
    bytes[..datagram.len()].copy_from_slice(datagram);
    outbox.push_back(Waiting { to, len: datagram.len(), bytes });
    true
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
