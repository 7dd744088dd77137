//! The listeners of a node: ports taken before anything else starts, served once there is something to serve.
//!
//! In: the settings of `submit`, `rpc` and `ops`, then a [`Service`]. Out: three listeners that answer until the node stops. A port that
//! is taken by somebody else is an error before memory is touched, and names the flag that chooses another one.

use crate::config::Config;
use crate::config::settings::RpcSettings;
use crate::config::value::Size;
use crate::http::ops::{self, Ops, Process, Readiness, Source};
use crate::http::submit::{self, StatedPolicy, SubmitHttpCounters};
use crate::http::{self, HttpCounters, Limits};
use crate::memory::Division;
use crate::rpc::{ListenError, RpcListener};
use crate::service::Service;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What requests that are being worked on get when the node stops: all of it must end within two seconds.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// The port.
    #[error("listening on {address} for {what}: {source}; choose another with --{what}-listen")]
    Bind {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The RPC's.
    #[error(transparent)]
    Rpc(#[from] ListenError),
}

/// Ports that are ours, and nobody answers yet.
#[derive(Debug)]
pub struct Bound {
    submit: TcpListener,
    ops: TcpListener,
}

/// Listeners that answer.
#[derive(Debug)]
pub struct Serving {
    /// Where: `submit`, `rpc`, `ops`, and `bfr` of a node that relays.
    pub addresses: Value,
    /// The RPC's cookie, unless a user is configured.
    pub cookie_file: Option<PathBuf>,
    tasks: JoinSet<()>,
}

fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, InterfaceError> {
    http::bind(address).map_err(|source| InterfaceError::Bind { what, address, source })
}

impl Bound {
    /// Takes the ports. Must be called inside a tokio runtime.
    pub fn take(config: &Config) -> Result<Self, InterfaceError> {
        let (submit, ops) =
            (bind("submit", config.submit.listen)?, bind("ops", config.ops.listen)?);
        // RPC takes its port when it has a node to speak for; whether it can is known now.
        drop(bind("rpc", config.rpc.listen)?);
        Ok(Self { submit, ops })
    }

    /// Answers on all of them until the node stops.
    pub fn serve(
        self,
        config: &Config,
        division: &Division,
        cookie_file: &std::path::Path,
        policy: StatedPolicy,
        service: &Service,
        readiness: Readiness,
    ) -> Result<Serving, InterfaceError> {
        let share = division.bodies_bytes as usize;
        let settings = RpcSettings {
            // The listener holds two bodies of the largest size.
            body_bytes_max: Size(config.rpc.body_bytes_max.0.min(share as u64 / 4)),
            ..config.rpc.clone()
        };
        let rpc = RpcListener::bind(&settings, cookie_file, service.clone())?;
        let address = |listener: &TcpListener| listener.local_addr().map(|a| a.to_string()).ok();
        let addresses = json!({
            "submit": address(&self.submit), "rpc": rpc.address().to_string(), "ops": address(&self.ops),
            "bfr": service.relay.as_ref().map(|relay| relay.listen().to_string()),
        });
        let cookie_file = rpc.cookie_file();

        let submit_http = Arc::new(HttpCounters::new("submit"));
        let ops_http = Arc::new(HttpCounters::new("ops"));
        let submit_counters = Arc::new(SubmitHttpCounters::default());
        let mut sources: Vec<Box<dyn Source>> = vec![
            Box::new(Process::default()),
            Box::new(service.clone()),
            Box::new(service.counters.clone()),
            Box::new(Arc::clone(&submit_http)),
            Box::new(rpc.http_counters()),
            Box::new(Arc::clone(&ops_http)),
            Box::new(service.submit.clone()),
            Box::new(Arc::clone(&submit_counters)),
            Box::new(rpc.rpc()),
        ];
        if let Some(relay) = &service.relay {
            sources.push(Box::new(relay.clone()));
        }
        let ops = Ops {
            sources,
            tiles: service.counters.clone(),
            readiness,
            stop: service.stop.clone(),
            relay: service.relay.clone(),
        };
        let submit_routes = submit::router(
            service.submit.clone(),
            service.clone(),
            policy,
            config.submit.txs_max,
            submit_counters,
        );
        let s = &config.submit;
        let submit_limits = Limits {
            connections_max: s.connections_max,
            head_deadline: s.header_timeout,
            head_bytes_max: s.header_bytes_max.0 as usize,
            idle_max: s.idle_timeout,
            write_deadline: s.write_timeout,
            body_deadline: s.body_timeout,
            body_bytes_max: (s.body_bytes_max.0 as usize).min(share / 4),
            bodies_bytes_max: share / 2,
            stop_grace: STOP_GRACE,
            ..Limits::default()
        };
        let o = &config.ops;
        let ops_limits = Limits {
            connections_max: o.connections_max,
            head_deadline: o.header_timeout,
            head_bytes_max: o.header_bytes_max.0 as usize,
            idle_max: o.idle_timeout,
            write_deadline: o.write_timeout,
            body_deadline: o.body_timeout,
            body_bytes_max: o.body_bytes_max.0 as usize,
            bodies_bytes_max: o.body_bytes_max.0 as usize * 8,
            stop_grace: STOP_GRACE,
            ..Limits::default()
        };
        let mut tasks = JoinSet::new();
        let stop = || {
            let stop = service.stop.clone();
            async move { stop.requested().await }
        };
        tasks.spawn(http::serve(self.submit, submit_limits, submit_http, submit_routes, stop()));
        tasks.spawn(http::serve(self.ops, ops_limits, ops_http, ops::router(ops), stop()));
        tasks.spawn(rpc.serve());
        Ok(Serving { addresses, cookie_file, tasks })
    }
}

impl Serving {
    /// Returns when every connection is closed, after the node was asked to stop.
    pub async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
