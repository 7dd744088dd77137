//! The chain thread: rebuilds the coins, then does commands one after the other until the node stops.
//!
//! It waits on its channel and on the stop, asleep. A command that fails because the data plane did not do its part ends the node:
//! the coins are in doubt then, and the blocks are on disk.

use super::handle::{ChainError, Command};
use super::state::State;
use crate::engine::Engine;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often a block is tried again that could not be kept.
const AGAIN_EVERY: Duration = Duration::from_millis(250);

/// The chain, ready to run on a thread of its own.
#[derive(Debug)]
pub struct ChainThread<E> {
    pub(super) state: State<E>,
    inbox: mpsc::Receiver<Command>,
}

/// What a finished chain thread gives back.
#[derive(Debug)]
pub struct Ended<E> {
    /// The engine, to be shut down.
    pub engine: E,
    /// Why it ended, if not because it was asked to.
    pub failure: Option<ChainError>,
}

impl<E: Engine> ChainThread<E> {
    pub(crate) fn new(state: State<E>, inbox: mpsc::Receiver<Command>) -> Self {
        Self { state, inbox }
    }

    /// Runs on the caller's thread until the node stops.
    pub fn run(mut self) -> Ended<E> {
        let failure = self.work().err();
        if let Some(error) = &failure {
            tracing::error!("the chain stops, and the node with it: {error}");
            self.state.stop.request();
        }
        if let Err(error) = self.state.files.headers.sync() {
            tracing::error!("{error}");
        }
        Ended { engine: self.state.engine, failure }
    }

    fn work(&mut self) -> Result<(), ChainError> {
        self.rebuild()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|e| ChainError::Engine { what: e.to_string() })?;
        let stop = self.state.stop.clone();
        loop {
            let inbox = &mut self.inbox;
            // What could not be kept when its block came is tried again.
            let is_behind = self.state.is_behind();
            let next = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stop.requested() => None,
                    command = inbox.recv() => command.map(Some),
                    () = tokio::time::sleep(AGAIN_EVERY), if is_behind => Some(None),
                }
            });
            match next {
                None => return Ok(()),
                Some(Some(command)) => self.obey(command)?,
                Some(None) => self.go_on()?,
            }
        }
    }

    /// Connects blocks that are stored and could not be connected, if that can be now.
    fn go_on(&mut self) -> Result<(), ChainError> {
        if self.state.engine.trouble().is_some() {
            return Ok(());
        }
        match self.state.activate(None) {
            Ok(_) | Err(ChainError::NotKept { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Connects everything the files hold.
    pub(super) fn rebuild(&mut self) -> Result<(), ChainError> {
        let began = Instant::now();
        self.state.stand_on_recovered()?;
        self.state.activate(None)?;
        let tip = self.state.view.tip();
        if !self.state.stop.is_requested() {
            self.state.view.set_ready();
            tracing::info!(
                height = tip.height,
                tip = %tip.hash,
                took_ms = began.elapsed().as_millis() as u64,
                "the chain is ready"
            );
        }
        Ok(())
    }

    /// Does one command. An answer nobody waits for is dropped; a failure of the machine is kept.
    fn obey(&mut self, command: Command) -> Result<(), ChainError> {
        let state = &mut self.state;
        // Questions are answered as long as the node runs.
        if let Some(what) = state.engine.trouble().filter(|_| command.changes()) {
            command.refuse(&what);
            return Ok(());
        }
        match command {
            Command::SubmitBlock(raw, answer) => give(answer, state.submit_block(&raw)),
            Command::SubmitHeader(header, answer) => give(answer, state.submit_header(&header)),
            Command::Generate { count, locking_script, tries_max, answer } => {
                let stop = state.stop.clone();
                give(answer, state.generate(count, &locking_script, tries_max, &stop))
            }
            Command::Candidate(want, answer) => give(answer, state.candidate(want)),
            Command::CandidateTxs(id, answer) => give(answer, state.candidate_txs(&id)),
            Command::SubmitSolution(solution, answer) => {
                give(answer, state.submit_solution(&solution))
            }
            Command::Invalidate(hash, answer) => give(answer, state.invalidate(&hash)),
            Command::Reconsider(hash, answer) => give(answer, state.reconsider(&hash)),
            Command::Coin { outpoint, include_pool, answer } => {
                give(answer, state.coin(outpoint, include_pool))
            }
        }
    }
}

impl<E: Engine + Send + 'static> ChainThread<E> {
    /// Runs on a thread of its own, named `chain`.
    pub fn spawn(self) -> std::io::Result<JoinHandle<Ended<E>>> {
        std::thread::Builder::new().name("chain".to_owned()).spawn(move || self.run())
    }
}

/// Answers, and gives back what the thread cannot go on after.
fn give<T>(
    answer: tokio::sync::oneshot::Sender<Result<T, ChainError>>,
    result: Result<T, ChainError>,
) -> Result<(), ChainError> {
    let fatal = match &result {
        Err(ChainError::Engine { what }) => Err(ChainError::Engine { what: what.clone() }),
        Err(ChainError::Files(error)) => Err(ChainError::Engine { what: error.to_string() }),
        Err(ChainError::OwnBlock { reason }) => {
            tracing::error!(reason, "a block of this node's own making was refused");
            Ok(())
        }
        _ => Ok(()),
    };
    // Whoever asked may have gone away.
    let _ = answer.send(result);
    fatal
}
