//! Log lines on stderr: text for people or one JSON object a line, a level for each module, changeable while the node runs.
//!
//! In: `log.level` and `log.format`. Out: lines. Only threads of the control plane log; hot tiles count instead. A line that cannot be
//! written (a full disk, a closed pipe) is lost, never waited for longer than the write.

use crate::config::value::{Levels, LogFormat};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// The switch of a running log.
#[derive(Clone, Debug)]
pub struct Logs {
    switch: reload::Handle<Targets, Registry>,
}

impl Logs {
    /// Starts logging; one log a process.
    ///
    /// # Errors
    /// If this process logs already.
    pub fn start(levels: &Levels, format: LogFormat) -> Result<Self, String> {
        let (filter, switch) = reload::Layer::new(levels.filter().clone());
        let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
        let lines = match format {
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
            LogFormat::Text => lines.with_ansi(false).compact().boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init()
            .map_err(|error| error.to_string())?;
        Ok(Self { switch })
    }

    /// From now on these levels.
    pub fn set(&self, levels: &Levels) -> Result<(), String> {
        self.switch.reload(levels.filter().clone()).map_err(|error| error.to_string())
    }
}
