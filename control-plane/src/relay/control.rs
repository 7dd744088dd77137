//! The control connection: lines of JSON over TCP, on this machine only.
//!
//! In: one object a line: `{"do":"status"}`, `{"do":"reload","auth":…}`, `{"do":"send","auth":…,"class":…,"bytes":N,"wait_ms":…}` followed
//! by N raw bytes, `{"do":"watch","auth":…}`. Out: one object a line; the last line of an answer has `ok`; of a watch there is no last line. What changes something needs the line of the cookie file,
//! which the relay draws at every start and only its user can read. Lines, connections, objects and idle time are bounded.

use super::host::{NEWS_MAX, News, Order, Orders};
use super::watch;
use crate::rpc::auth::Auth;
use crate::service::Stop;
use relay::Class;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Longest request.
const LINE_BYTES_MAX: u64 = 4_096;
/// Connections at one time.
const CONNECTIONS_MAX: usize = 32;
/// Objects being handed over at one time: each may be as large as an object may be.
const UPLOADS_MAX: usize = 2;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(30);
/// How long handing an object over may take.
const UPLOAD: Duration = Duration::from_secs(60);
/// How long the relay's thread may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest wait for deliveries.
const WAIT_MS_MAX: u64 = 600_000;

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Status {},
    Reload {
        auth: String,
    },
    Send {
        auth: String,
        class: String,
        bytes: u64,
        /// Milliseconds to wait for deliveries.
        wait_ms: Option<u64>,
    },
    Watch {
        auth: String,
        /// Only objects of this class.
        class: Option<String>,
        /// Each line is followed by the object.
        #[serde(default)]
        bytes: bool,
    },
}

/// What the control connections have done.
#[derive(Debug, Default)]
pub struct ControlCounts {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections closed at the door: too many.
    pub refused: AtomicU64,
    /// Requests that were no requests.
    pub malformed: AtomicU64,
    /// Requests without the cookie.
    pub strangers: AtomicU64,
}

/// Reads the settings again and tells the relay; says what was done, or every mistake.
pub type Reload = dyn Fn() -> Result<Value, String> + Send + Sync;

/// Everything a connection needs.
pub struct Control {
    /// The relay's thread.
    pub orders: Orders,
    /// Who may change something.
    pub auth: Auth,
    /// What `reload` does.
    pub reload: Box<Reload>,
    /// The largest object.
    pub object_bytes_max: u64,
    /// Counted here.
    pub counts: Arc<ControlCounts>,
    uploads: Semaphore,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Control {
    /// Everything a connection needs.
    pub fn new(orders: Orders, auth: Auth, reload: Box<Reload>, object_bytes_max: u64) -> Self {
        let counts = Arc::new(ControlCounts::default());
        let uploads = Semaphore::new(UPLOADS_MAX);
        Self { orders, auth, reload, object_bytes_max, counts, uploads }
    }

    /// What `relay status` shows.
    pub async fn status(&self) -> Result<Value, String> {
        let (answer, told) = oneshot::channel();
        if !self.orders.give(Order::Status(answer)) {
            return Err("the relay is behind with its orders; try again".into());
        }
        match timeout(ANSWER, told).await {
            Ok(Ok(status)) => Ok(status),
            _ => Err("the relay does not answer".into()),
        }
    }
}

/// Takes connections until the end is asked for.
pub async fn serve(listener: TcpListener, control: Arc<Control>, stop: Stop) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.requested() => return,
        };
        let Ok((stream, from)) = accepted else {
            // Out of descriptors, likely; some may come back.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            control.counts.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        control.counts.connections.fetch_add(1, Ordering::Relaxed);
        let (control, stop) = (control.clone(), stop.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = converse(stream, from, &control) => ended,
                () = stop.requested() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(%from, %error, "control connection ended");
            }
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, from: SocketAddr, control: &Control) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(LINE_BYTES_MAX);
        match timeout(IDLE, bounded.read_until(b'\n', &mut line)).await {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(result) => result?,
        };
        if !line.ends_with(b"\n") {
            control.counts.malformed.fetch_add(1, Ordering::Relaxed);
            let why = format!("a request is a line of at most {LINE_BYTES_MAX} bytes");
            return say(&mut writer, &failed(&why)).await;
        }
        let request = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => request,
            Err(error) => {
                control.counts.malformed.fetch_add(1, Ordering::Relaxed);
                return say(&mut writer, &failed(&format!("no request: {error}"))).await;
            }
        };
        let is_owner = match &request {
            Request::Status {} => true,
            Request::Reload { auth } | Request::Send { auth, .. } | Request::Watch { auth, .. } => {
                control.auth.is_owner(auth)
            }
        };
        if !is_owner {
            control.counts.strangers.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%from, "a control request without this relay's cookie was refused");
            let why = "that is not the cookie of this relay; it is drawn anew at every start";
            return say(&mut writer, &failed(why)).await;
        }
        match request {
            Request::Status {} => {
                let answer = control.status().await;
                say(
                    &mut writer,
                    &answer.map_or_else(|why| failed(&why), |status| done("status", &status)),
                )
                .await?;
            }
            Request::Reload { .. } => {
                let answer = (control.reload)();
                say(
                    &mut writer,
                    &answer.map_or_else(|why| failed(&why), |what| done("reload", &what)),
                )
                .await?;
            }
            Request::Watch { class, bytes, .. } => {
                let class = match class.as_deref().map(super::parse_class).transpose() {
                    Ok(class) => class,
                    Err(why) => return say(&mut writer, &failed(&why)).await,
                };
                return tell(&mut reader, &mut writer, class, bytes, control).await;
            }
            Request::Send { class, bytes, wait_ms, .. } => {
                let object = take_object(&mut reader, &class, bytes, control).await;
                match object {
                    Ok((class, bytes)) => send(&mut writer, class, bytes, wait_ms, control).await?,
                    // What follows on the connection is the object: it is of no use any more.
                    Err(why) => return say(&mut writer, &failed(&why)).await,
                }
            }
        }
    }
}

/// Tells of objects until the other end says anything, or goes.
async fn tell(
    reader: &mut (impl AsyncReadExt + Unpin),
    writer: &mut (impl AsyncWriteExt + Unpin),
    class: Option<Class>,
    with_bytes: bool,
    control: &Control,
) -> io::Result<()> {
    let (watcher, mut watch) = watch::pair(class, with_bytes);
    if !control.orders.give(Order::Watch(watcher)) {
        return say(writer, &failed("the relay is behind with its orders; try again")).await;
    }
    say(writer, &json!({ "watching": true })).await?;
    let mut said = [0; 1];
    loop {
        let told = tokio::select! {
            told = watch.next() => told,
            _ = reader.read(&mut said) => return Ok(()),
        };
        let Some(told) = told else {
            let max = watch::WATCHERS_MAX;
            let why = format!("the relay stops, or {max} others watch already");
            return say(writer, &failed(&why)).await;
        };
        if told.lost > 0 {
            say(writer, &json!({ "lost": told.lost })).await?;
        }
        say(writer, &told.line).await?;
        if let Some(bytes) = told.bytes {
            writer.write_all(&bytes).await?;
        }
    }
}

async fn take_object(
    reader: &mut (impl AsyncReadExt + Unpin),
    class: &str,
    bytes: u64,
    control: &Control,
) -> Result<(Class, Arc<[u8]>), String> {
    let class = super::parse_class(class)?;
    if bytes == 0 || bytes > control.object_bytes_max {
        let max = control.object_bytes_max;
        return Err(format!("an object of {bytes} bytes, expected 1 to {max} (object_bytes_max)"));
    }
    let place = timeout(UPLOAD, control.uploads.acquire()).await;
    let Ok(Ok(_place)) = place else { return Err("too many objects are being handed over".into()) };
    // It grows with what comes, not with what was claimed.
    let mut object = Vec::new();
    let read = timeout(UPLOAD, reader.take(bytes).read_to_end(&mut object)).await;
    match read {
        Ok(Ok(got)) if got as u64 == bytes => Ok((class, object.into())),
        Ok(Ok(got)) => Err(format!("{bytes} bytes were announced and {got} came")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the object did not come within {} s", UPLOAD.as_secs())),
    }
}

async fn send(
    writer: &mut (impl AsyncWriteExt + Unpin),
    class: Class,
    bytes: Arc<[u8]>,
    wait_ms: Option<u64>,
    control: &Control,
) -> io::Result<()> {
    let (news, mut told) = mpsc::channel(NEWS_MAX);
    let wait = wait_ms.map(|ms| Duration::from_millis(ms.min(WAIT_MS_MAX)));
    if !control.orders.give(Order::Send { class, bytes, wait, news }) {
        return say(writer, &failed("the relay is behind with its orders; try again")).await;
    }
    let patience = ANSWER + wait.unwrap_or_default();
    loop {
        let Ok(Some(item)) = timeout(patience, told.recv()).await else {
            return say(writer, &failed("the relay does not answer")).await;
        };
        let is_last = match &item {
            News::Refused { why } => return say(writer, &failed(why)).await,
            News::Sent { .. } => wait.is_none(),
            News::Delivered { .. } => false,
            News::Done { .. } => true,
        };
        let mut line = json!(item);
        if is_last {
            line["ok"] = true.into();
        }
        say(writer, &line).await?;
        if is_last {
            return Ok(());
        }
    }
}

fn done(what: &str, value: &Value) -> Value {
    json!({ "ok": true, what: value })
}

fn failed(why: &str) -> Value {
    json!({ "ok": false, "error": why })
}

async fn say(writer: &mut (impl AsyncWriteExt + Unpin), line: &Value) -> io::Result<()> {
    writer.write_all(format!("{line}\n").as_bytes()).await
}
