//! The thread of a relay: turns it, carries out orders, tells who waits.
//!
//! In: [`Order`]s from connections, events from the relay. Out: [`News`] to whoever sent an object and waits, files for the inbox, log
//! lines. Orders come over a short queue and wake the thread; nothing here waits for a connection: who does not read its news loses them.

use super::inbox::{Arrived, Inbox};
use super::status;
use super::watch::{Seen, Watcher, Watchers};
use relay::engine::Event;
use relay::node::Relay;
use relay::object::{FailReason, ObjectEvent};
use relay::origin::OriginKeys;
use relay::{Class, ObjectId, PeerConfig, PeerId};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Orders that wait for the thread.
const ORDERS_MAX: usize = 64;
/// Orders carried out between two turns.
const ORDERS_PER_TURN: usize = 16;
/// Senders that wait for their object's deliveries at one time.
const WAITS_MAX: usize = 64;
/// News a sender may leave unread: one a peer, and the last word.
pub const NEWS_MAX: usize = super::settings::PEERS_MAX + 2;

/// What a connection asks of the relay.
#[derive(Debug)]
pub enum Order {
    /// Send an object to all peers.
    Send {
        /// What it is.
        class: Class,
        /// It.
        bytes: Arc<[u8]>,
        /// How long to wait for its deliveries; none: not at all.
        wait: Option<Duration>,
        /// Where news of it go.
        news: mpsc::Sender<News>,
    },
    /// From now on these peers and these origins.
    Configure(Box<Configured>),
    /// Tell of every object that comes.
    Watch(Watcher),
    /// What `relay status` shows.
    Status(oneshot::Sender<Value>),
}

/// What a running relay takes over from its settings.
#[derive(Debug)]
pub struct Configured {
    /// Whom it speaks with.
    pub peers: Vec<PeerConfig>,
    /// Whose proofs count.
    pub origins: OriginKeys,
    /// What they are called.
    pub origin_names: Vec<String>,
}

/// What becomes of an object that was sent. `Refused` and `Done` are last words.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It is on its way.
    Sent {
        /// Its id.
        id: String,
        /// Peers it goes to.
        peers: Vec<String>,
    },
    /// A peer has it whole.
    Delivered {
        /// Who.
        peer: String,
        /// After how long.
        ms: f64,
    },
    /// It is not sent, or nobody waits for it any more.
    Refused {
        /// Why.
        why: String,
    },
    /// Everybody who was waited for has it.
    Done {
        /// After how long.
        ms: f64,
    },
}

/// Sends orders to the thread.
#[derive(Clone, Debug)]
pub struct Orders {
    sender: SyncSender<Order>,
    waker: relay::io::Waker,
}

impl Orders {
    /// Hands one over; false if too many wait.
    pub fn give(&self, order: Order) -> bool {
        let is_given = self.sender.try_send(order).is_ok();
        self.waker.wake();
        is_given
    }

    /// Wakes the thread, so that it sees that it is to stop.
    pub fn wake(&self) {
        self.waker.wake();
    }
}

/// Deliveries that are remembered, for who sends the same object again.
const DELIVERIES_MAX: usize = 4_096;

struct Wait {
    began: Instant,
    until: Instant,
    left: Vec<PeerId>,
    news: mpsc::Sender<News>,
}

/// The relay and what its host keeps beside it.
pub struct Host {
    relay: Relay,
    inbox: Inbox,
    orders: Receiver<Order>,
    waits: HashMap<ObjectId, Vec<Wait>>,
    deliveries: VecDeque<(ObjectId, PeerId)>,
    watchers: Watchers,
    /// Our own key for proofs, and the names of those that count.
    origins: (Option<[u8; 32]>, Vec<String>),
    public_key: String,
    began: Instant,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("relay", &self.relay).finish_non_exhaustive()
    }
}

/// The word for a class.
pub const fn class_name(class: Class) -> &'static str {
    match class {
        Class::Header => "header",
        Class::Block => "block",
        Class::Subtree => "subtree",
        Class::Bundle => "bundle",
        Class::Opaque => "opaque",
    }
}

fn shown(id: ObjectId) -> String {
    format!("{:016x}", id.0)
}

fn ms(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

impl Host {
    /// Around a relay that is ready to turn.
    pub fn new(relay: Relay, inbox: Inbox, public_key: String) -> (Self, Orders) {
        let (sender, orders) = sync_channel(ORDERS_MAX);
        let waker = relay.waker();
        let host = Self {
            relay,
            inbox,
            orders,
            waits: HashMap::new(),
            deliveries: VecDeque::with_capacity(DELIVERIES_MAX),
            watchers: Watchers::default(),
            origins: (None, Vec::new()),
            public_key,
            began: Instant::now(),
        };
        (host, Orders { sender, waker })
    }

    /// Turns until told to stop.
    pub fn run(mut self, stop: &AtomicBool) -> std::io::Result<()> {
        while !stop.load(Ordering::Acquire) {
            for _ in 0..ORDERS_PER_TURN {
                let Ok(order) = self.orders.try_recv() else { break };
                self.carry_out(order);
            }
            let is_busy = self.relay.turn()?;
            while let Some(event) = self.relay.event() {
                self.tell(event);
            }
            self.give_up();
            if !is_busy {
                self.relay.wait()?;
            }
        }
        self.relay.close()
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Send { class, bytes, wait, news } => self.send(class, bytes, wait, news),
            Order::Configure(configured) => {
                let Configured { peers, origins, origin_names } = *configured;
                self.relay.set_peers(peers);
                self.origins = (origins.public(), origin_names);
                self.relay.set_origins(origins);
            }
            Order::Watch(watcher) => self.watchers.add(watcher),
            Order::Status(answer) => {
                // Who asked may have gone.
                let _ = answer.send(self.status());
            }
        }
    }

    fn send(
        &mut self,
        class: Class,
        bytes: Arc<[u8]>,
        wait: Option<Duration>,
        news: mpsc::Sender<News>,
    ) {
        let refuse = |why: String| {
            let _ = news.try_send(News::Refused { why });
        };
        self.waits.retain(|_, waits| {
            waits.retain(|wait| !wait.news.is_closed());
            !waits.is_empty()
        });
        if self.waits.len() == WAITS_MAX {
            return refuse(format!("{WAITS_MAX} objects are waited for already"));
        }
        let up = self.peers_up();
        if up.is_empty() {
            return refuse("no peer is up; see `metanode relay status`".into());
        }
        let began = Instant::now();
        match self.relay.send(class, bytes, None) {
            Ok(id) => {
                let peers = up.iter().map(|(_, name)| name.clone()).collect();
                // The queue is as long as there can be news, and this is the first.
                let _ = news.try_send(News::Sent { id: shown(id), peers });
                if let Some(patience) = wait {
                    let left = up.into_iter().map(|(peer, _)| peer).collect();
                    let wait = Wait { began, until: began + patience, left, news };
                    self.waits.entry(id).or_default().push(wait);
                    // An object that was sent before is not sent again: who has it has said so then.
                    let before = self.deliveries.iter().filter(|(of, _)| *of == id);
                    for peer in before.map(|(_, peer)| *peer).collect::<Vec<_>>() {
                        self.delivered(id, peer);
                    }
                }
            }
            Err(error) => refuse(error.to_string()),
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::PeerUp { peer } => {
                tracing::info!(peer = self.name(peer), "peer is up");
            }
            Event::PeerDown { peer } => {
                tracing::info!(peer = self.name(peer), "peer is down");
                self.left(peer);
            }
            Event::Object(ObjectEvent::Received { id, class, bytes, from, took_us }) => {
                let (id, class, from) = (shown(id), class_name(class), self.name(from));
                let name = format!("{id}.{class}");
                tracing::info!(id, class, bytes = bytes.len(), from, took_us, "object");
                self.watchers.tell(&Seen { id, class, bytes: bytes.clone(), from, took_us });
                self.inbox.put(Arrived { name, bytes });
            }
            Event::Object(ObjectEvent::Delivered { id, peer, .. }) => {
                if self.deliveries.len() == DELIVERIES_MAX {
                    self.deliveries.pop_front();
                }
                self.deliveries.push_back((id, peer));
                self.delivered(id, peer);
            }
            Event::Object(ObjectEvent::Failed { id, class, peer, why }) => {
                self.failed(id, class, peer, why);
            }
        }
    }

    fn failed(&mut self, id: ObjectId, class: Class, peer: Option<PeerId>, why: FailReason) {
        let who = peer.map(|peer| self.name(peer)).unwrap_or_default();
        tracing::warn!(
            id = shown(id),
            class = class_name(class),
            peer = who,
            ?why,
            "object failed"
        );
        let is_of = |wait: &Wait| peer.is_none_or(|peer| wait.left.contains(&peer));
        let (ended, stay): (Vec<_>, Vec<_>) =
            self.waits.remove(&id).unwrap_or_default().into_iter().partition(is_of);
        if !stay.is_empty() {
            self.waits.insert(id, stay);
        }
        for wait in ended {
            let _ = wait.news.try_send(News::Refused {
                why: format!("it did not get through to {who}: {why:?}"),
            });
        }
    }

    /// The name of a peer; of one that is not configured any more its number.
    fn name(&self, peer: PeerId) -> String {
        self.relay.peer_name(peer).map_or_else(|| format!("#{}", peer.0), ToOwned::to_owned)
    }

    /// Peers that an object sent now goes to.
    fn peers_up(&self) -> Vec<(PeerId, String)> {
        self.relay.peers_up().map(|peer| (peer, self.name(peer))).collect()
    }

    fn delivered(&mut self, id: ObjectId, peer: PeerId) {
        let name = self.name(peer);
        let Some(waits) = self.waits.get_mut(&id) else { return };
        waits.retain_mut(|wait| {
            let before = wait.left.len();
            wait.left.retain(|left| *left != peer);
            if wait.left.len() < before {
                let _ =
                    wait.news.try_send(News::Delivered { peer: name.clone(), ms: ms(wait.began) });
            }
            if wait.left.is_empty() {
                let _ = wait.news.try_send(News::Done { ms: ms(wait.began) });
            }
            !wait.left.is_empty()
        });
        if waits.is_empty() {
            self.waits.remove(&id);
        }
    }

    /// Who waits for a peer that went is told so.
    fn left(&mut self, peer: PeerId) {
        let why = format!("{} went down before it had the object", self.name(peer));
        self.end_waits(&why, |wait| wait.left.contains(&peer));
    }

    /// Who has waited as long as it wanted to is told who is missing.
    fn give_up(&mut self) {
        if self.waits.is_empty() {
            return;
        }
        let now = Instant::now();
        self.end_waits("not every peer had it in time", |wait| wait.until <= now);
    }

    fn end_waits(&mut self, why: &str, is_over: impl Fn(&Wait) -> bool) {
        let names: HashMap<PeerId, String> = self.peers_up().into_iter().collect();
        self.waits.retain(|_, waits| {
            waits.retain(|wait| {
                let over = is_over(wait);
                if over {
                    let name =
                        |p: &PeerId| names.get(p).cloned().unwrap_or_else(|| format!("#{}", p.0));
                    let missing: Vec<_> = wait.left.iter().map(name).collect();
                    let why = format!("{why}; missing: {}", missing.join(", "));
                    let _ = wait.news.try_send(News::Refused { why });
                }
                !over
            });
            !waits.is_empty()
        });
    }

    fn status(&self) -> Value {
        let of = status::Socket {
            caps: self.relay.caps(),
            listen: self.relay.local_addr().ok(),
            public_key: &self.public_key,
            began: self.began,
        };
        let mut shown = status::shown(&of, &self.relay.status(), &self.relay.io_stats());
        shown["inbox"] = self.inbox.counts().shown();
        shown["watchers"] = self.watchers.shown();
        shown["origins"] =
            json!({ "own": self.origins.0.map(hex::encode), "known": self.origins.1 });
        shown
    }
}
