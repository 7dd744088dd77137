//! Tiles on their links, sorted by the core they turn on.

use ring::park::Parker;

use crate::stem::Turnable;
use crate::tile::Tile;
use crate::time::Clock;
use crate::topo::{BuildError, ExternalEnds, Machine, Place, Wiring};

/// Why a crew could not be completed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrewError {
    /// The machine would not hand something out.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A tile of the topology was given no code.
    #[error(
        "{tile}:{index} is in the topology but nobody seated it; seat every tile before the machine is started"
    )]
    Unseated {
        /// The tile.
        tile: &'static str,
        /// Its number.
        index: usize,
    },
}

/// What one thread (or executor) turns.
pub struct Load {
    /// The core of the machine, or `None` for a tile that floats.
    pub core: Option<usize>,
    /// The stems, in the order of the topology.
    pub stems: Vec<Box<dyn Turnable>>,
    /// Where it sleeps.
    pub parker: Parker,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels: Vec<_> = self.stems.iter().map(|s| s.label()).collect();
        f.debug_struct("Load")
            .field("core", &self.core)
            .field("stems", &labels)
            .finish_non_exhaustive()
    }
}

/// A built machine that is being manned.
#[derive(Debug)]
pub struct Crew<C> {
    machine: Machine,
    clock: C,
    cores: Vec<Load>,
    floating: Vec<Load>,
    seated: Vec<(&'static str, usize)>,
}

impl<C: Clock + Clone + Send + 'static> Crew<C> {
    /// Nobody on `machine` yet; all stems will read `clock`.
    pub fn new(mut machine: Machine, clock: C) -> Self {
        let cores = (0..machine.plan().cores)
            .map(|core| Load {
                core: Some(core),
                stems: Vec::new(),
                parker: machine.core_parker(core).unwrap_or_default(),
            })
            .collect();
        Self { machine, clock, cores, floating: Vec::new(), seated: Vec::new() }
    }

    /// The machine: its plan, its metrics.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Seats every instance of tile type `T`, each made from its wiring.
    pub fn seat<T: Tile + Send + 'static>(
        &mut self,
        mut make: impl FnMut(&Wiring) -> T,
    ) -> Result<&mut Self, CrewError> {
        let count = self.machine.plan().tiles.iter().filter(|t| t.name == T::NAME).count();
        for index in 0..count {
            let mut wiring = self.machine.wiring(T::NAME, index)?;
            let parker = wiring.take_parker();
            let place = wiring.place();
            let tile = make(&wiring);
            let stem = Box::new(wiring.stem(tile, self.clock.clone()));
            self.seated.push((T::NAME, index));
            match place {
                Place::Core(core) => self.cores[core].stems.push(stem),
                _ => self.floating.push(Load {
                    core: None,
                    stems: vec![stem],
                    parker: parker.unwrap_or_default(),
                }),
            }
        }
        Ok(self)
    }

    /// The ends of something that is not a tile.
    pub fn external(&mut self, name: &str, index: usize) -> Result<ExternalEnds, CrewError> {
        Ok(self.machine.external(name, index)?)
    }

    /// Everybody is seated: what each core turns (cores without a tile are left out), then what floats.
    pub fn loads(self) -> Result<(Vec<Load>, Machine), CrewError> {
        for tile in &self.machine.plan().tiles {
            let is_tile = tile.place != Place::External;
            if is_tile && !self.seated.contains(&(tile.name, tile.index)) {
                return Err(CrewError::Unseated { tile: tile.name, index: tile.index });
            }
        }
        let mut loads: Vec<_> = self.cores.into_iter().filter(|l| !l.stems.is_empty()).collect();
        loads.extend(self.floating);
        Ok((loads, self.machine))
    }
}
