//! From a plan to memory: every link is taken at once, and every tile instance gets its ends.
//!
//! In: a checked [`Plan`] and where links shall live (memory of this process, or files that other processes can map). Out:
//! a [`Machine`] that hands out, once each, the [`Wiring`] of every tile instance and the [`ExternalEnds`] of everything
//! that is not a tile. What is not handed out stays with the machine, so a link never loses an end by accident.
//!
//! Everything that sleeps as one has a *seat*: a core with all its tiles, a floating tile, an external thread. A seat has
//! one parker, and whoever publishes to it from another seat holds its waker.

use std::path::PathBuf;

use ring::park::{Parker, Waker};
use ring::{Consumer, Frag, Kind, Link, LinkError, NoCredit, Observer, Producer, Tap};

use super::monitor::LINK_WORDS;
use super::{LinkPlan, Monitor, Place, Plan, TopologyError};
use crate::metrics::{Metrics, MetricsBuilder, TileCells};
use crate::outs::{OutPort, Outs};
use crate::stem::{InPort, Stem};
use crate::tile::{In, Out, Seq, Sig, Stamp, Tile};
use crate::time::Clock;

/// Where and how links are taken.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// A directory for one file a link, best on a `tmpfs`; otherwise links live in this process only.
    pub directory: Option<PathBuf>,
    /// A file for the counters of all tiles and links, for other processes to look at; otherwise they live in this process only.
    pub metrics_file: Option<PathBuf>,
    /// Touch every page now, so that no turn pays for it.
    pub prefault: bool,
    /// Sets housekeeping jitter apart; the simulator's seed, or anything.
    pub seed: u64,
}

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A link could not be taken.
    #[error("building link {link} failed: {source}")]
    Link {
        /// The link.
        link: String,
        /// What the ring said.
        #[source]
        source: LinkError,
    },
    /// An instance that is not there, is not of that kind, or was handed out before.
    #[error("{tile}:{index} cannot be handed out: {why}")]
    Taken {
        /// The tile.
        tile: String,
        /// Its number.
        index: usize,
        /// Why not.
        why: &'static str,
    },
}

fn spec(link: &LinkPlan) -> ring::LinkSpec {
    let consumers = if link.kind == Kind::Tap { 1 } else { link.consumers.len() };
    ring::LinkSpec::new(link.name.as_str(), link.depth.into(), link.mtu as usize, link.kind)
        .consumers(consumers)
        .arena_bytes(link.arena_bytes)
        .burst(link.burst.max(1).into())
}

/// Memory of one link.
pub(super) fn link_bytes(link: &LinkPlan) -> Result<u64, TopologyError> {
    ring::footprint(&spec(link))
        .map_err(|e| TopologyError::Ring { row: link.row, said: e.to_string() })
}

/// One in-link of an instance, before it is given to a stem.
#[derive(Debug)]
enum InKind {
    Consumer(Consumer),
    Tap(Tap),
}

/// One out-link of an instance, before it is given to a stem.
#[derive(Debug)]
struct OutEnd {
    kind: Kind,
    depth: u64,
    producer: Producer,
    wakers: Vec<Waker>,
}

/// The ends of one instance.
#[derive(Debug)]
struct Seat {
    ins: Vec<InKind>,
    outs: Vec<OutEnd>,
}

/// A built machine, to be taken apart into the wirings of its tiles.
#[derive(Debug)]
pub struct Machine {
    plan: Plan,
    metrics: Metrics,
    /// The number of each instance in `metrics`; none for what is external.
    cells: Vec<Option<usize>>,
    observers: Vec<Observer>,
    /// The first word of the links' counters.
    links_first: usize,
    seats: Vec<Option<Seat>>,
    /// One a core, then one for each instance that is not on a core (by its index in the plan).
    core_parkers: Vec<Option<Parker>>,
    own_parkers: Vec<Option<Parker>>,
    seed: u64,
}

impl Plan {
    /// Takes all links and lays out all counters.
    pub fn build(&self, options: &BuildOptions) -> Result<Machine, BuildError> {
        let core_parkers: Vec<_> = (0..self.cores).map(|_| Some(Parker::new())).collect();
        let own_parkers: Vec<_> = self
            .tiles
            .iter()
            .map(|t| (!matches!(t.place, Place::Core(_))).then(Parker::new))
            .collect();
        let waker_of = |tile: usize| match self.tiles[tile].place {
            Place::Core(core) => core_parkers[core].as_ref().map(Parker::waker),
            _ => own_parkers[tile].as_ref().map(Parker::waker),
        };
        let mut seats: Vec<Seat> =
            self.tiles.iter().map(|_| Seat { ins: Vec::new(), outs: Vec::new() }).collect();
        let mut observers = Vec::new();
        for plan in &self.links {
            let fail = |source| BuildError::Link { link: plan.name.clone(), source };
            let spec = spec(plan);
            let link = match &options.directory {
                None => Link::anonymous(&spec),
                Some(directory) => {
                    Link::create_file(directory.join(link_file_name(&plan.name)), &spec)
                }
            };
            let link = link.map_err(fail)?;
            if options.prefault {
                link.prefault().map_err(fail)?;
            }
            let mut wakers: Vec<(Place, usize, Waker)> = Vec::new();
            let from = &self.tiles[plan.producer.tile];
            for (c, peer) in plan.consumers.iter().enumerate() {
                let consumer = if plan.kind == Kind::Tap {
                    InKind::Tap(link.tap().map_err(fail)?)
                } else {
                    InKind::Consumer(link.consumer(c).map_err(fail)?)
                };
                // Ports were numbered in this very order.
                seats[peer.tile].ins.push(consumer);
                let to = &self.tiles[peer.tile];
                let same_core = matches!(to.place, Place::Core(_)) && to.place == from.place;
                let known = |w: &(Place, usize, Waker)| match to.place {
                    Place::Core(_) => w.0 == to.place,
                    _ => w.1 == peer.tile,
                };
                if !same_core && !wakers.iter().any(known) {
                    wakers.extend(waker_of(peer.tile).map(|w| (to.place, peer.tile, w)));
                }
            }
            let producer = link.producer().map_err(fail)?;
            let wakers = wakers.into_iter().map(|(_, _, w)| w).collect();
            seats[plan.producer.tile].outs.push(OutEnd {
                kind: plan.kind,
                depth: plan.depth.into(),
                producer,
                wakers,
            });
            observers.push(link.observer());
        }
        let mut metrics = MetricsBuilder::new();
        let names = |links: &[usize]| links.iter().map(|&l| self.links[l].name.clone()).collect();
        let cells = self.tiles.iter().map(|tile| {
            let core = match tile.place {
                Place::External => return None,
                Place::Core(core) => Some(core),
                Place::Floating | Place::Nowhere => None,
            };
            let (ins, outs) = (names(&tile.ins), names(&tile.outs));
            Some(metrics.tile(tile.name, tile.index, core, ins, outs, tile.counters))
        });
        let cells = cells.collect();
        let links_first = metrics.extra(self.links.len() * LINK_WORDS);
        let fail = |source| BuildError::Link { link: "(the counters)".into(), source };
        Ok(Machine {
            plan: self.clone(),
            metrics: metrics.build(options.metrics_file.as_deref()).map_err(fail)?,
            cells,
            observers,
            links_first,
            seats: seats.into_iter().map(Some).collect(),
            core_parkers,
            own_parkers,
            seed: options.seed,
        })
    }
}

/// The name of a link's file in [`BuildOptions::directory`].
pub fn link_file_name(link: &str) -> String {
    format!("{}.link", link.replace(':', "-"))
}

impl Machine {
    /// What was built.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The counters of all tiles.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The counters that each link keeps in its own memory, in the order of [`Plan::links`].
    pub fn observers(&self) -> &[Observer] {
        &self.observers
    }

    /// What shows this machine to other processes.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(&self.plan, &self.metrics, &self.observers, self.links_first)
    }

    /// The ends of tile instance `tile`:`index`. Once.
    pub fn wiring(&mut self, tile: &str, index: usize) -> Result<Wiring, BuildError> {
        let (at, seat) = self.take(tile, index, false)?;
        let cells = self.cells[at].expect("`take` gives tiles only, and each has cells");
        let place = self.plan.tiles[at].place;
        let parker = self.own_parkers[at].take();
        Ok(Wiring {
            names: self.names(at),
            cells: self.metrics.writer(cells),
            seed: self.seed ^ ((at as u64 + 1) << 32),
            place,
            parker,
            seat,
        })
    }

    /// The ends of external instance `name`:`index`. Once.
    pub fn external(&mut self, name: &str, index: usize) -> Result<ExternalEnds, BuildError> {
        let (at, seat) = self.take(name, index, true)?;
        let names = self.names(at);
        let parker = self.own_parkers[at].take().unwrap_or_default();
        let ins = seat.ins.into_iter().zip(&names.ins).map(|(end, (name, _, peer))| ExternalIn {
            name: name.clone(),
            peer: *peer,
            end,
        });
        let ins = ins.collect();
        let outs =
            seat.outs.into_iter().zip(&names.outs).map(|(end, (name, _, peer))| ExternalOut {
                name: name.clone(),
                peer: *peer,
                producer: end.producer,
                wakers: end.wakers,
            });
        Ok(ExternalEnds { ins, outs: outs.collect(), parker })
    }

    /// The parker of `core`. Once; for its driver.
    pub fn core_parker(&mut self, core: usize) -> Option<Parker> {
        self.core_parkers.get_mut(core).and_then(Option::take)
    }

    fn take(
        &mut self,
        tile: &str,
        index: usize,
        external: bool,
    ) -> Result<(usize, Seat), BuildError> {
        let fail = |why| BuildError::Taken { tile: tile.into(), index, why };
        let found = self.plan.tiles.iter().position(|t| t.name == tile && t.index == index);
        let at = found.ok_or_else(|| fail("the topology has no such instance"))?;
        if (self.plan.tiles[at].place == Place::External) != external {
            return Err(fail(if external { "it is a tile" } else { "it is external, not a tile" }));
        }
        let seat = self.seats[at].take().ok_or_else(|| fail("it was handed out before"))?;
        Ok((at, seat))
    }

    fn names(&self, at: usize) -> Names {
        let tile = &self.plan.tiles[at];
        let ins = tile.ins.iter().map(|&l| {
            let link = &self.plan.links[l];
            (link.name.clone(), link.row, self.plan.tiles[link.producer.tile].index)
        });
        let outs = tile.outs.iter().map(|&l| {
            let link = &self.plan.links[l];
            let peer = link.consumers.first().map_or(0, |c| self.plan.tiles[c.tile].index);
            (link.name.clone(), link.row, peer)
        });
        Names {
            tile: tile.name,
            index: tile.index,
            label: tile.label(),
            ins: ins.collect(),
            outs: outs.collect(),
        }
    }
}

/// Link name, row, and the number of the instance at the other end.
type End = (String, &'static str, usize);

#[derive(Clone, Debug)]
struct Names {
    tile: &'static str,
    index: usize,
    label: String,
    ins: Vec<End>,
    outs: Vec<End>,
}

/// What one tile instance is wired to. The tile asks it for its handles, then it becomes the tile's stem.
#[derive(Debug)]
pub struct Wiring {
    names: Names,
    cells: TileCells,
    seed: u64,
    place: Place,
    parker: Option<Parker>,
    seat: Seat,
}

impl Wiring {
    /// The tile's name.
    pub fn tile(&self) -> &'static str {
        self.names.tile
    }

    /// Its number among those of that name.
    pub fn index(&self) -> usize {
        self.names.index
    }

    /// Where it turns.
    pub fn place(&self) -> Place {
        self.place
    }

    /// A seed of its own for whatever the tile does at random.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Its in-links of `row`, in the order of the instances at the other end; empty if the topology has none.
    pub fn inputs(&self, row: &str) -> Vec<In> {
        let all = self.names.ins.iter().enumerate();
        all.filter(|(_, end)| end.1 == row).map(|(i, _)| In(i as u16)).collect()
    }

    /// Its out-links of `row`, in the order of the instances at the other end; empty if the topology has none.
    pub fn outputs(&self, row: &str) -> Vec<Out> {
        let all = self.names.outs.iter().enumerate();
        all.filter(|(_, end)| end.1 == row).map(|(i, _)| Out(i as u16)).collect()
    }

    /// Its only in-link of `row`, if the topology has the row.
    ///
    /// # Panics
    /// If there are several: the tile was written for one.
    pub fn input(&self, row: &str) -> Option<In> {
        let found = self.inputs(row);
        assert!(
            found.len() < 2,
            "{} has {} in-links {row}, expected one",
            self.names.label,
            found.len()
        );
        found.first().copied()
    }

    /// Its only out-link of `row`, if the topology has the row.
    ///
    /// # Panics
    /// If there are several: the tile was written for one.
    pub fn output(&self, row: &str) -> Option<Out> {
        let found = self.outputs(row);
        assert!(
            found.len() < 2,
            "{} has {} out-links {row}, expected one",
            self.names.label,
            found.len()
        );
        found.first().copied()
    }

    /// The row of each in-link, by handle: for tiles that choose what to do by it.
    pub fn input_rows(&self) -> Vec<&'static str> {
        self.names.ins.iter().map(|end| end.1).collect()
    }

    /// The row of each out-link, by handle.
    pub fn output_rows(&self) -> Vec<&'static str> {
        self.names.outs.iter().map(|end| end.1).collect()
    }

    /// The number of the instance that feeds in-link `input`.
    pub fn producer_of(&self, input: In) -> usize {
        self.names.ins[input.index()].2
    }

    /// The parker of a tile that floats; cores have theirs from [`Machine::core_parker`].
    pub(crate) fn take_parker(&mut self) -> Option<Parker> {
        self.parker.take()
    }

    /// Puts `tile` on these links.
    ///
    /// # Panics
    /// If the tile is not of the kind that the topology put here.
    pub fn stem<T: Tile, C: Clock>(self, tile: T, clock: C) -> Stem<T, C> {
        assert_eq!(
            T::NAME,
            self.names.tile,
            "the wiring of {} was given to another tile",
            self.names.label
        );
        let ins = self.seat.ins.into_iter().map(|end| match end {
            InKind::Consumer(consumer) => InPort { consumer },
            InKind::Tap(_) => unreachable!("the plan refuses a tap that feeds a tile"),
        });
        let outs = self
            .seat
            .outs
            .into_iter()
            .map(|end| OutPort::new(end.producer, end.wakers, end.kind, end.depth, T::BURST));
        let outs = Outs::new(outs.collect(), self.cells);
        Stem::new(tile, self.names.label, ins.collect(), outs, clock, self.seed)
    }
}

/// The ends of something that is not a tile: a thread of the control plane, a test.
#[derive(Debug)]
pub struct ExternalEnds {
    /// What it reads.
    pub ins: Vec<ExternalIn>,
    /// Where it publishes.
    pub outs: Vec<ExternalOut>,
    /// Where it may sleep until something is published to it.
    pub parker: Parker,
}

/// One link that is read by something that is not a tile.
#[derive(Debug)]
pub struct ExternalIn {
    /// `row:producer` or `row:producer.consumer`.
    pub name: String,
    /// The number of the instance that publishes.
    pub peer: usize,
    end: InKind,
}

impl ExternalIn {
    /// The next frag; on a `Tap` a copy of it, with what was overrun passed over (the tap counts it).
    pub fn poll(&mut self) -> Option<Frag<'_>> {
        match &mut self.end {
            InKind::Consumer(consumer) => consumer.poll(),
            InKind::Tap(tap) => match tap.poll() {
                ring::TapPoll::Frag(frag) => Some(frag),
                ring::TapPoll::Empty | ring::TapPoll::Overrun { .. } => None,
            },
        }
    }

    /// Gives credit back at once; `poll` does it only now and then.
    pub fn return_credit(&mut self) {
        if let InKind::Consumer(consumer) = &mut self.end {
            consumer.return_credit();
        }
    }

    /// The tap, if the link is one.
    pub fn tap(&mut self) -> Option<&mut Tap> {
        match &mut self.end {
            InKind::Tap(tap) => Some(tap),
            InKind::Consumer(_) => None,
        }
    }

    /// Whether a frag waits (always false on a tap: poll it).
    pub fn has_next(&self) -> bool {
        match &self.end {
            InKind::Consumer(consumer) => consumer.peek().is_some(),
            InKind::Tap(_) => false,
        }
    }
}

/// One link that is published to by something that is not a tile.
#[derive(Debug)]
pub struct ExternalOut {
    /// `row:producer` or `row:producer.consumer`.
    pub name: String,
    /// The number of the (first) instance that reads.
    pub peer: usize,
    producer: Producer,
    wakers: Vec<Waker>,
}

impl ExternalOut {
    /// Publishes a frag and wakes its reader if that sleeps.
    pub fn publish(&mut self, sig: Sig, born: Stamp, bytes: &[u8]) -> Result<Seq, NoCredit> {
        let seq = self.producer.publish(sig, born.0, bytes)?;
        self.wake();
        Ok(seq)
    }

    /// The producer itself: for large frags, and to publish many before one [`wake`](Self::wake).
    pub fn producer(&mut self) -> &mut Producer {
        &mut self.producer
    }

    /// Wakes the reader if it sleeps. Call it after publishing through [`producer`](Self::producer).
    pub fn wake(&self) {
        for waker in &self.wakers {
            waker.wake_if_parked();
        }
    }
}
