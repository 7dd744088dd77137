//! Everything about one peer that is not an object: its sessions, its calls, its path.
//!
//! In: authentic packets, answers, the time. Out: frames with a number and a tag, calls, reports. A link that is up stays up
//! while a new session is negotiated, and an old session is never ended by a packet that does not prove the peer's key: a new
//! one takes over when the first packet under it comes.

use super::calls::{Calls, Stage};
use super::delay::{OneWay, RoundTrip};
use super::entropy::Entropy;
use super::guard::Guard;
use super::key_table::KeyTable;
use super::loss::LossEstimate;
use super::pacer::TokenBucket;
use super::session::{REKEY_PACKETS, REKEY_US, RETIRE_US, Session};
use super::strikes::Strikes;
use crate::drops::DropReason;
use crate::peer::{PeerConfig, PeerId, PeerInfo, PeerView};
use crate::plants::{self, Plant};
use crate::time::NowUs;
use crate::wire::{FrameBuf, Keep, PACKET_MAX, Sealed, tx_time_us};
use std::net::SocketAddr;

/// A link says something at least this often.
pub const KEEPALIVE_US: u64 = 250_000;
/// Until the peer was first heard in a new session, it is told this often that the session is there.
const KEEPALIVE_NEW_US: u64 = 50_000;
/// While frames come, what was measured is reported this often: 100 packets a second beside up to 95,000.
pub const FEEDBACK_US: u64 = 10_000;
/// A peer not heard for so long (three keepalives) may have restarted: it is called, beside the session it has.
pub const SUSPECT_US: u64 = 800_000;
/// A peer not heard for so long is down: at 20 % loss, twelve keepalives in a row are lost once in 2 x 10^8.
pub const DEAD_US: u64 = 3_000_000;
/// Sessions of one link: one to send in, one that is being made, two that still hear.
pub const SESSIONS_MAX: usize = 4;
/// Loss before anything was measured: the average of long-haul paths.
///
/// Source: bitcoinfibre.org ("long-haul loss averages 1 %").
pub const LOSS_UNKNOWN: f32 = 0.01;
/// An echo older than this says nothing.
const RTT_US_MAX: u32 = 60_000_000;

/// When a session is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rekey {
    /// After so many packets.
    pub packets: u32,
    /// After so long.
    pub us: u64,
}

impl Default for Rekey {
    fn default() -> Self {
        Self { packets: REKEY_PACKETS, us: REKEY_US }
    }
}

/// What a packet or an answer did to the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nothing that others need to know.
    Same,
    /// It came up.
    Up,
    /// It was up, and the peer is another process now: it has forgotten everything.
    Restarted,
}

/// A link as status shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LinkState {
    /// No session, and nobody to call.
    Down,
    /// No session; calling.
    Calling,
    /// Carries frames.
    Up,
    /// Carries frames, but nothing was heard lately.
    Suspect,
    /// Not talked to because of strikes.
    Quarantined,
}

/// One peer.
#[derive(Debug)]
pub struct Link {
    /// Which row it is.
    pub id: PeerId,
    /// What the operator says.
    pub config: PeerConfig,
    /// How it gets a session.
    pub calls: Calls,
    /// What the peer did wrong.
    pub strikes: Strikes,
    /// Oldest first; those that the peer has not confirmed before all others, the one to send in last.
    sessions: Vec<Session>,
    up: Option<PeerInfo>,
    heard: NowUs,
    loss: LossEstimate,
    way: OneWay,
    rtt: RoundTrip,
    reported_loss: Option<f32>,
    guard: Guard,
    bucket: TokenBucket,
    echo: Option<(u32, NowUs)>,
    sent_at: NowUs,
    keep_at: NowUs,
    keep_now: bool,
    unreported_frames: u32,
    unreported_bytes: u64,
    rekey: Rekey,
    rekey_slack_us: u64,
}

/// What the time does to a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticked {
    /// It went down.
    pub down: bool,
    /// Ask this address for a cookie, for a call with this id.
    pub ask: Option<(SocketAddr, u32)>,
}

impl Link {
    /// A link without a session. `calls_first`: of two that want to replace a session, this side does it a little earlier.
    pub fn new(
        id: PeerId,
        config: PeerConfig,
        rekey: Rekey,
        calls_first: bool,
        now: NowUs,
    ) -> Self {
        let rate = bytes_s(config.rate_mbit);
        Self {
            id,
            calls: Calls::new(now),
            strikes: Strikes::default(),
            sessions: Vec::with_capacity(SESSIONS_MAX + 1),
            up: None,
            heard: now,
            loss: LossEstimate::default(),
            way: OneWay::default(),
            rtt: RoundTrip::default(),
            reported_loss: None,
            guard: Guard::new(rate, config.dedicated_line, now),
            bucket: TokenBucket::new(rate, now),
            echo: None,
            sent_at: now,
            keep_at: now,
            keep_now: false,
            unreported_frames: 0,
            unreported_bytes: 0,
            rekey,
            rekey_slack_us: if calls_first { 0 } else { rekey.us / 16 },
            config,
        }
    }

    /// Takes over what the operator changed; `config` has the same key.
    pub fn configure(&mut self, config: PeerConfig, now: NowUs) {
        assert_eq!(self.config.public_key, config.public_key, "another key is another peer");
        if config.addr != self.config.addr && self.up.is_none() {
            self.calls.due = now;
        }
        self.guard.configure(bytes_s(config.rate_mbit), config.dedicated_line);
        self.config = config;
        self.apply_rate(now);
    }

    /// What the object layer was told when the link came up; `None` while it is down.
    pub fn up(&self) -> Option<PeerInfo> {
        self.up
    }

    /// The state for status.
    pub fn state(&self, now: NowUs) -> LinkState {
        if self.strikes.quarantined(now) {
            LinkState::Quarantined
        } else if self.up.is_some() {
            if now.since(self.heard) >= SUSPECT_US { LinkState::Suspect } else { LinkState::Up }
        } else if self.address().is_some() {
            LinkState::Calling
        } else {
            LinkState::Down
        }
    }

    /// Where the peer is, as far as anybody knows.
    pub fn address(&self) -> Option<SocketAddr> {
        self.sending().map(|session| session.addr).or(self.config.addr)
    }

    /// The row that objects see.
    pub fn view(&self) -> PeerView {
        PeerView {
            up: self.up.is_some(),
            trusted: self.config.trusted,
            rtt_us: self.rtt.us(),
            rtt_var_us: self.rtt.deviation_us(),
            loss: self.reported_loss.unwrap_or(LOSS_UNKNOWN),
            rate_bytes_s: self.bucket.rate_bytes_s(),
            heard: self.heard,
        }
    }

    /// Whether the guard holds the rate below the configured one.
    pub fn is_reduced(&self) -> bool {
        self.guard.is_reduced()
    }

    /// How often the guard cut the rate.
    pub fn cuts(&self) -> u64 {
        self.guard.cuts()
    }

    /// Takes a session out of a handshake.
    pub fn admit(&mut self, session: Session, keys: &mut KeyTable, now: NowUs) -> Turn {
        if session.confirmed {
            self.heard = now;
            self.sessions.push(session);
            let turn = self.confirmed(keys, now);
            self.evict(keys);
            return turn;
        }
        // The peer takes the answer to its latest call only, so one that nobody confirmed is enough.
        self.end(keys, |other| !other.confirmed);
        self.sessions.insert(0, session);
        self.evict(keys);
        Turn::Same
    }

    /// Lets a packet in. What is `Ok` is authentic and new.
    pub fn open(
        &mut self,
        sealed: &Sealed<'_>,
        keys: &mut KeyTable,
        now: NowUs,
    ) -> Result<Turn, DropReason> {
        let at = self.sessions.iter().position(|session| session.key_in == sealed.key_id);
        let at = at.ok_or(DropReason::KeyUnknown)?;
        let session = &mut self.sessions[at];
        session.open(sealed, now)?;
        session.judge(&mut self.loss);
        let sent = tx_time_us(sealed.authenticated);
        self.way.add(sent, now);
        self.echo = Some((sent, now));
        self.heard = now;
        self.unreported_bytes += sealed.authenticated.len() as u64;
        if self.sessions[at].confirmed {
            return Ok(Turn::Same);
        }
        let mut session = self.sessions.remove(at);
        session.confirmed = true;
        self.sessions.push(session);
        Ok(self.confirmed(keys, now))
    }

    /// Counts a frame, so that the peer gets a report soon.
    pub fn frame_heard(&mut self) {
        self.unreported_frames += 1;
    }

    /// Takes the peer's report.
    pub fn report(&mut self, keep: &Keep, now: NowUs) {
        if keep.echo_held_us != u32::MAX {
            let round_trip = now.low().wrapping_sub(keep.echo_time_us);
            let round_trip = round_trip.wrapping_sub(keep.echo_held_us);
            if round_trip <= RTT_US_MAX {
                self.rtt.add(round_trip);
            }
        }
        let budget = self.reported_loss.unwrap_or(LOSS_UNKNOWN);
        if self.guard.report(keep, budget, self.rtt.us(), now) {
            self.apply_rate(now);
        }
        if keep.windows > 0 {
            self.reported_loss = Some(keep.loss_ppm as f32 / 1e6);
        }
    }

    /// Ends every session: the peer closed, was dropped, or is silent. `true` when the link was up.
    pub fn end_all(&mut self, keys: &mut KeyTable, now: NowUs) -> bool {
        self.end(keys, |_| true);
        self.hang_up(keys);
        self.calls.due = self.calls.due.max(now + super::calls::CALL_US);
        self.up.take().is_some()
    }

    /// Counts what an authentic frame did wrong; `true` when that put the peer into quarantine.
    pub fn strike(&mut self, reason: DropReason, now: NowUs) -> bool {
        self.strikes.add(reason.strikes(), now)
    }

    /// What is due: calls, silence, sessions that are over.
    pub fn tick(&mut self, entropy: &mut Entropy, keys: &mut KeyTable, now: NowUs) -> Ticked {
        let mut ticked = Ticked::default();
        if self.up.is_some() && now.since(self.heard) >= DEAD_US {
            ticked.down = self.end_all(keys, now);
            self.calls.due = now;
        }
        let sending = self.sending().map(|session| session.key_in);
        let end_us = self.rekey.us.saturating_mul(2);
        self.end(keys, |session| {
            let over = now.since(session.heard) >= RETIRE_US && Some(session.key_in) != sending;
            over || now.since(session.made) >= end_us
        });
        if self.up.is_some() && self.sending().is_none() {
            ticked.down = self.end_all(keys, now);
            self.calls.due = now;
        }
        if now < self.calls.due {
            return ticked;
        }
        self.hang_up(keys);
        if let Some(to) = self.address().filter(|_| self.wants_call(now)) {
            self.calls.start(to, entropy, now);
            ticked.ask = Some((to, self.calls.id));
        }
        ticked
    }

    /// When [`Self::tick`] or a `KEEP` is due.
    pub fn due(&self, now: NowUs) -> NowUs {
        let mut due = NowUs::NEVER;
        let idle = matches!(self.calls.stage, Stage::Idle);
        if !idle || self.address().is_some() && self.up.is_none() {
            let quarantine = if idle { self.strikes.until() } else { NowUs(0) };
            due = due.min(self.calls.due.max(quarantine));
        }
        if self.up.is_some() {
            due = due.min(self.heard + DEAD_US).min(self.keep_due());
            due = due.min(self.calls.due.max(self.suspect_or_old_at()));
        }
        let retires = |session: &Session| session.heard + RETIRE_US;
        let old = self.sessions.len().saturating_sub(usize::from(self.up.is_some()));
        self.sessions[..old].iter().map(retires).fold(due, NowUs::min).max(now)
    }

    /// When a `KEEP` is due.
    pub fn keep_due(&self) -> NowUs {
        let Some(session) = self.sending() else { return NowUs::NEVER };
        if self.keep_now {
            return NowUs(0);
        }
        let every = if session.heard_count == 0 { KEEPALIVE_NEW_US } else { KEEPALIVE_US };
        let idle = self.sent_at + every;
        if self.unreported_frames > 0 { idle.min(self.keep_at + FEEDBACK_US) } else { idle }
    }

    /// The report that is due now.
    pub fn keep(&mut self, now: NowUs) -> Keep {
        let since = now.since(self.keep_at);
        // A rate over less than half a report's time, or over a pause, says nothing about the path.
        let is_rate = (FEEDBACK_US / 2..=5 * FEEDBACK_US).contains(&since);
        let delivered = self.unreported_bytes * 8_000 / since.max(1);
        self.keep_at = now;
        self.keep_now = false;
        self.unreported_frames = 0;
        self.unreported_bytes = 0;
        let (echo_time_us, held) =
            self.echo.map_or((0, u64::MAX), |(at, when)| (at, now.since(when)));
        let session = self.sending();
        Keep {
            echo_time_us,
            echo_held_us: u32::try_from(held).unwrap_or(u32::MAX),
            heard_max: session.map_or(0, |session| session.window().end().saturating_sub(1) as u32),
            heard_count: session.map_or(0, |session| session.heard_count),
            loss_ppm: ppm(self.loss.estimate().unwrap_or(0.0)),
            delay_rise_us: self.way.rise_us(),
            delivered_kbit: if is_rate { u32::try_from(delivered).unwrap_or(u32::MAX) } else { 0 },
            burst_ppm: ppm(self.loss.last_window()),
            windows: self.loss.windows(),
        }
    }

    /// Whether a longest packet may go now.
    pub fn may_send(&mut self, now: NowUs) -> bool {
        self.bucket.ready(now)
    }

    /// When a longest packet may go.
    pub fn send_due(&self, now: NowUs) -> NowUs {
        self.bucket.due(now)
    }

    /// Makes a datagram of what `frame` holds, in the newest session.
    pub fn seal<'a>(
        &mut self,
        frame: &'a mut FrameBuf,
        now: NowUs,
    ) -> Option<(SocketAddr, &'a [u8])> {
        let session = self.sessions.last_mut().filter(|session| session.confirmed)?;
        let addr = session.addr;
        let datagram = session.seal(frame, now)?;
        debug_assert!(datagram.len() <= PACKET_MAX);
        self.bucket.spend(datagram.len());
        self.guard.sent(datagram.len());
        self.sent_at = now;
        Some((addr, datagram))
    }

    fn sending(&self) -> Option<&Session> {
        self.sessions.last().filter(|session| session.confirmed)
    }

    /// The last session was just confirmed.
    fn confirmed(&mut self, keys: &mut KeyTable, now: NowUs) -> Turn {
        let session = self.sending().expect("the caller has confirmed it");
        let (incarnation, receive_mbit) = (session.theirs.incarnation, session.theirs.receive_mbit);
        self.keep_now = true;
        self.hang_up(keys);
        self.calls.succeeded();
        self.calls.due = now;
        let info = PeerInfo { incarnation };
        let before = self.up.replace(info);
        if plants::is(Plant::RekeyCutsOff) {
            let newest = self.sending().map(|session| session.key_in);
            self.end(keys, |other| Some(other.key_in) != newest);
        }
        if before.is_some_and(|before| before.incarnation == incarnation) {
            return Turn::Same;
        }
        // Another process: what the old one sealed is not wanted any more, and its clock was another one.
        self.end(keys, |other| other.theirs.incarnation != incarnation);
        self.way = OneWay::default();
        self.echo = None;
        self.apply_limit(receive_mbit, now);
        if before.is_some() { Turn::Restarted } else { Turn::Up }
    }

    fn apply_rate(&mut self, now: NowUs) {
        let limit = self.sending().map_or(0, |session| session.theirs.receive_mbit);
        self.apply_limit(limit, now);
    }

    fn apply_limit(&mut self, receive_mbit: u32, now: NowUs) {
        let limit = if receive_mbit == 0 { u64::MAX } else { bytes_s(receive_mbit) };
        self.bucket.set_rate(self.guard.rate_bytes_s().min(limit), now);
    }

    fn wants_call(&self, now: NowUs) -> bool {
        if self.strikes.quarantined(now) {
            return false;
        }
        self.up.is_none() || now >= self.suspect_or_old_at() || self.is_worn()
    }

    /// When the silence is suspicious, or the session is old.
    fn suspect_or_old_at(&self) -> NowUs {
        let Some(session) = self.sending() else { return NowUs(0) };
        if self.is_worn() {
            return NowUs(0);
        }
        (self.heard + SUSPECT_US).min(session.made + self.rekey.us + self.rekey_slack_us)
    }

    fn is_worn(&self) -> bool {
        self.sending().is_some_and(|session| session.sent() >= self.rekey.packets)
    }

    /// Gives up the current call.
    fn hang_up(&mut self, keys: &mut KeyTable) {
        let stage = std::mem::replace(&mut self.calls.stage, Stage::Idle);
        if let Stage::Sent { key_in, .. } = stage {
            keys.free(key_in);
        }
    }

    fn end(&mut self, keys: &mut KeyTable, over: impl Fn(&Session) -> bool) {
        self.sessions.retain(|session| {
            let over = over(session);
            if over {
                keys.free(session.key_in);
            }
            !over
        });
    }

    /// Of too many sessions the one goes that was not heard for longest; never the one to send in.
    fn evict(&mut self, keys: &mut KeyTable) {
        while self.sessions.len() > SESSIONS_MAX {
            let candidates = &self.sessions[..self.sessions.len() - 1];
            let oldest = candidates.iter().filter(|session| session.confirmed);
            let oldest = oldest.min_by_key(|session| session.heard).map(|session| session.key_in);
            let oldest = oldest.expect("at most one session is not confirmed");
            self.end(keys, |session| session.key_in == oldest);
        }
    }
}

fn bytes_s(mbit: u32) -> u64 {
    u64::from(mbit) * 125_000
}

fn ppm(share: f32) -> u32 {
    (share.clamp(0.0, 1.0) * 1e6) as u32
}
