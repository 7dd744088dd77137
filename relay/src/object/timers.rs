//! Timers and memory: repair that is due, peers that fell silent, objects that are over, room for new ones.

use super::flight::{Flight, Key, QUIET_US_MIN};
use super::transfer::Transfer;
use super::{
    Control, FailReason, GATHER_TIMEOUT_US, LINGER_US, ObjectEvent, Objects, PROBES_MAX, WANTS_MAX,
    wake,
};
use crate::peer::LinkView;
use crate::plants::{self, Plant};
use crate::time::NowUs;

impl Objects {
    /// When [`Self::tick`] has something to do.
    pub fn next_due(&self) -> Option<NowUs> {
        (self.due < NowUs::NEVER).then_some(self.due)
    }

    /// Timers: requests for repair, questions to silent peers, objects that are over. Bounded by the objects in flight.
    pub fn tick(&mut self, links: &LinkView, now: NowUs) {
        if now < self.due {
            return;
        }
        self.due = NowUs::NEVER;
        if let Some((at, salt)) = self.warm {
            if now >= at {
                self.lookups.txs.resolve(salt, &[], &mut |_, _, _| {});
                self.warm = None;
            } else {
                self.due = at;
            }
        }
        let trip_us = |peer| u64::from(links.get(peer).rtt_us);
        let (asks, next) = self.gate.overdue(now, QUIET_US_MIN, trip_us);
        self.due = self.due.min(next);
        for (peer, id) in asks {
            self.push_control(peer, Control::Header { id });
        }
        let keys: Vec<Key> = self.flights.keys().copied().collect();
        for key in keys {
            let due = self.tick_one(key, links, now);
            self.due = self.due.min(due);
        }
    }

    /// Timers of one object; when it needs the next look.
    fn tick_one(&mut self, key: Key, links: &LinkView, now: NowUs) -> NowUs {
        let Some(flight) = self.flights.get_mut(&key) else { return NowUs::NEVER };
        let (id, class) = (key.id, key.class);
        if !flight.is_whole() {
            let end = flight.last + GATHER_TIMEOUT_US;
            if now >= end {
                let peer = flight.first_from;
                self.remove(key);
                self.counts.failed += 1;
                let why = FailReason::TimedOut;
                self.push_event(ObjectEvent::Failed { id, class, peer, why });
                return NowUs::NEVER;
            }
            let mut due = flight.nack_due(links);
            if due.is_some_and(|due| now >= due) {
                let target = flight.nack_target().expect("a request that is due has a target");
                flight.nacks += 1;
                flight.nacked = now;
                due = flight.nack_due(links);
                if !plants::is(Plant::NacksUnsent) {
                    self.push_control(target, Control::Nack { key });
                }
            }
            return due.unwrap_or(NowUs::NEVER).min(end);
        }
        let mut next = NowUs::NEVER;
        let spare = flight.spare();
        let mut failed = Vec::new();
        for transfer in flight.transfers.iter_mut().filter(|transfer| !transfer.is_stopped()) {
            if transfer.probe <= now && !transfer.has_work() {
                if transfer.probes == PROBES_MAX {
                    transfer.stop();
                    failed.push(transfer.peer());
                    continue;
                }
                transfer.ask(&flight.shape, spare);
                transfer.probe = NowUs::NEVER;
                wake(&mut self.peers, key, flight.urgency, transfer);
            }
            next = next.min(transfer.probe);
        }
        let mut unresolved = false;
        if let Some(want) = &mut flight.want {
            if now >= want.next && want.tries < WANTS_MAX {
                let sources = &flight.sources;
                if let Some(source) = sources.get(usize::from(want.tries) % sources.len().max(1)) {
                    let peer = source.peer;
                    want.next = now + Flight::probe_after_us(links.get(peer), want.tries);
                    want.tries += 1;
                    let control = Control::Plain { id };
                    if let Some(at) = self.peers.get_mut(peer.index()).and_then(Option::as_mut) {
                        at.control.push_back(control);
                    }
                } else {
                    want.tries = WANTS_MAX;
                }
            }
            unresolved = now >= want.next && want.tries == WANTS_MAX;
            next = next.min(want.next);
        }
        if unresolved {
            flight.want = None;
        }
        let idle = flight.want.is_none() && flight.transfers.iter().all(Transfer::is_stopped);
        let end = flight.last + LINGER_US;
        let over = idle && now >= end;
        let reports = flight.reports;
        if unresolved {
            let why = FailReason::Unresolved;
            self.counts.failed += 1;
            self.push_event(ObjectEvent::Failed { id, class, peer: None, why });
        }
        for (peer, id) in failed.into_iter().filter_map(|peer| Some((peer, reports?))) {
            let why = FailReason::Unanswered;
            self.counts.failed += 1;
            self.push_event(ObjectEvent::Failed { id, class, peer: Some(peer), why });
        }
        if over {
            self.remove(key);
            return NowUs::NEVER;
        }
        if idle { next.min(end) } else { next }
    }

    /// Forgets an object and gives its memory back.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(flight) = self.flights.remove(&key) else { return };
        if !plants::is(Plant::MemoryKept) {
            self.counts.bytes -= flight.cost_bytes;
        }
        self.release(&flight);
    }

    /// Takes an object that is gathered off the account of the peer that began it.
    pub(super) fn release(&mut self, flight: &Flight) {
        if let Some(payer) = flight.payer
            && let Some(peer) = self.peer(payer)
        {
            peer.bytes -= flight.cost_bytes;
            peer.incomplete -= 1;
        }
    }

    /// Makes room for one more object of this size, at the cost of whole ones that nobody waits for, then of whole ones,
    /// then of ones that have been silent; oldest first. False when that is not enough.
    pub(super) fn make_room(&mut self, bytes: usize, now: NowUs) -> bool {
        /// An object in the making is safe for this long after its last symbol.
        const SAFE_US: u64 = 5_000_000;
        while !plants::is(Plant::RoomUnchecked)
            && (self.counts.bytes + bytes > self.config.bytes_max
                || self.flights.len() >= self.config.objects_max)
        {
            let rank = |flight: &Flight| match flight.is_whole() {
                true => u8::from(!flight.transfers.iter().all(Transfer::is_stopped)),
                false => 2,
            };
            let victim = self
                .flights
                .iter()
                .filter(|(_, flight)| flight.is_whole() || now.since(flight.last) >= SAFE_US)
                .min_by_key(|(key, flight)| (rank(flight), flight.last, **key))
                .map(|(key, flight)| (*key, rank(flight)));
            let Some((key, rank)) = victim else { return false };
            self.remove(key);
            if rank > 0 {
                self.counts.evicted += 1;
                let (id, class, why) = (key.id, key.class, FailReason::Evicted);
                self.push_event(ObjectEvent::Failed { id, class, peer: None, why });
            }
        }
        true
    }
}
