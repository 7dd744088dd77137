//! The RPC listener, from settings to its last answer.
//!
//! In: the operator's settings, where the cookie goes, the node's handles. Out: a bound port at once (a mistake is told before the
//! node is ready), then answers until the node stops. The cookie lives as long as the listener.

use super::auth::{Auth, AuthError};
use super::server::router;
use super::state::{Bounds, Rpc};
use crate::config::secret;
use crate::config::settings::RpcSettings;
use crate::http::{self, HttpCounters, Limits};
use crate::service::Service;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Why RPC cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The port.
    #[error(
        "listening on {address} for RPC: {error}; is another node running there? try --rpc-listen"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The cookie.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The password.
    #[error("the password of rpc.password_file: {0}")]
    Password(String),
    /// One without the other.
    #[error("rpc.user and rpc.password_file belong together; set both, or none for a cookie")]
    HalfAUser,
}

/// A bound listener.
#[derive(Debug)]
pub struct RpcListener {
    rpc: Arc<Rpc>,
    auth: Arc<Auth>,
    http: Arc<HttpCounters>,
    limits: Limits,
    listener: TcpListener,
    address: SocketAddr,
}

impl RpcListener {
    /// Binds the port and writes the cookie. Must be called inside a tokio runtime.
    pub fn bind(
        settings: &RpcSettings,
        cookie_file: &Path,
        service: Service,
    ) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Bind { address: settings.listen, error };
        let listener = http::bind(settings.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let auth = match (&settings.user, &settings.password_file) {
            (None, None) => Auth::with_cookie(cookie_file)?,
            (Some(user), Some(path)) => {
                Auth::with_password(user, &secret::read(path).map_err(ListenError::Password)?)
            }
            _ => return Err(ListenError::HalfAUser),
        };
        let limits = Limits {
            connections_max: settings.connections_max,
            head_deadline: settings.header_timeout,
            head_bytes_max: settings.header_bytes_max.0 as usize,
            idle_max: settings.idle_timeout,
            write_deadline: settings.write_timeout,
            body_deadline: settings.body_timeout,
            body_bytes_max: settings.body_bytes_max.0 as usize,
            bodies_bytes_max: (settings.body_bytes_max.0 as usize).saturating_mul(2),
            ..Limits::default()
        };
        let bounds = Bounds { batch_max: settings.batch_max, calls_max: settings.calls_max };
        Ok(Self {
            rpc: Arc::new(Rpc::new(service, bounds)),
            auth: Arc::new(auth),
            http: Arc::new(HttpCounters::new("rpc")),
            limits,
            listener,
            address,
        })
    }

    /// Where it listens: the real port if any was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cookie file, unless a user is configured.
    pub fn cookie_file(&self) -> Option<PathBuf> {
        self.auth.cookie_file().map(Path::to_owned)
    }

    /// What the listener counts.
    pub fn http_counters(&self) -> Arc<HttpCounters> {
        Arc::clone(&self.http)
    }

    /// What calls share; its counters are those of RPC.
    pub fn rpc(&self) -> Arc<Rpc> {
        Arc::clone(&self.rpc)
    }

    /// Answers until the node stops.
    pub async fn serve(self) {
        let Self { rpc, auth, http, limits, listener, .. } = self;
        let stop = rpc.service.stop.clone();
        let routes = router(rpc, Arc::clone(&auth));
        http::serve(listener, limits, http, routes, async move { stop.requested().await }).await;
        drop(auth);
    }
}
