//! Progress: once a second a line that says how far the race is and how long it still takes.
//!
//! In: what each row is expected to take ([`Cell::expected_s`](super::cell::Cell::expected_s)), and which run of which row is under
//! way. Out: lines on stderr. What is left is the expectation of what is left, times how far this machine was from it so far.

use std::io::{IsTerminal, Write, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);
/// Before so much was expected to be over, expectations are all there is.
const LEARNT_S: f64 = 10.0;

/// Where the race is.
#[derive(Debug, Default)]
struct State {
    rows: usize,
    rows_done: usize,
    all_s: f64,
    done_s: f64,
    row: String,
    row_s: f64,
    runs: u32,
    runs_done: u32,
}

impl State {
    /// Seconds left after `elapsed_s`.
    fn left_s(&self, elapsed_s: f64) -> f64 {
        let in_row = self.row_s * f64::from(self.runs_done) / f64::from(self.runs.max(1));
        let done_s = self.done_s + in_row;
        let pace = if done_s < LEARNT_S { 1.0 } else { elapsed_s / done_s };
        (self.all_s - done_s).max(0.0) * pace
    }

    fn line(&self, elapsed: Duration) -> String {
        let elapsed_s = elapsed.as_secs_f64();
        format!(
            "relay: {} of {} rows; {}, run {} of {}; {} gone, about {} left",
            self.rows_done,
            self.rows,
            self.row,
            (self.runs_done + 1).min(self.runs),
            self.runs,
            shown(elapsed_s),
            shown(self.left_s(elapsed_s)),
        )
    }
}

/// Minutes and seconds.
fn shown(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The line and the thread that writes it. Dropping it ends both.
pub struct Progress {
    state: Arc<Mutex<State>>,
    is_terminal: bool,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts; so many rows will take so long.
    pub fn start(rows: usize, all_s: f64) -> Self {
        let state = Arc::new(Mutex::new(State { rows, all_s, ..State::default() }));
        let (began, is_terminal) = (Instant::now(), stderr().is_terminal());
        let (end, ended) = channel();
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let line = locked(&shared).line(began.elapsed());
                // On a terminal a line takes the place of the one before. Who does not read it misses nothing else.
                let (clear, newline) = if is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
                let _ = write!(stderr().lock(), "{clear}{line}{newline}");
            }
        });
        Self { state, is_terminal, end: Some(end), thread: Some(thread) }
    }

    /// A row begins.
    pub fn row(&self, name: String, runs: u32, expected_s: f64) {
        let mut state = locked(&self.state);
        state.row = name;
        (state.row_s, state.runs, state.runs_done) = (expected_s, runs, 0);
    }

    /// A run of it is over.
    pub fn run_done(&self) {
        locked(&self.state).runs_done += 1;
    }

    /// The row is over.
    pub fn row_done(&self) {
        let mut state = locked(&self.state);
        state.rows_done += 1;
        state.done_s += state.row_s;
        (state.row_s, state.runs_done) = (0.0, 0);
    }

    /// Writes something that stays.
    pub fn say(&self, line: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(stderr().lock(), "{clear}{line}");
    }

    /// Rows that are over, and all.
    pub fn rows(&self) -> (usize, usize) {
        let state = locked(&self.state);
        (state.rows_done, state.rows)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_was_expected_at_the_pace_so_far() {
        let mut state = State { rows: 4, all_s: 400.0, ..State::default() };
        state.row = "bfr block 1 hop 5%".into();
        (state.row_s, state.runs) = (100.0, 10);
        assert!((state.left_s(3.0) - 400.0).abs() < 1e-9, "nothing is known yet");
        state.runs_done = 5;
        assert!((state.left_s(100.0) - 700.0).abs() < 1e-9, "twice as slow as expected");
        (state.done_s, state.row_s, state.runs_done) = (400.0, 0.0, 0);
        assert!(state.left_s(500.0) < 1e-9);
        state.runs_done = 2;
        let line = state.line(Duration::from_secs(61));
        assert!(line.contains("0 of 4 rows; bfr block 1 hop 5%, run 3 of 10; 1:01 gone"), "{line}");
    }
}
