//! Named network namespaces that are always taken away again.
//!
//! In: names. Out: namespaces below `/run/netns`, which `ip netns` shows, and a janitor: a small process that learns each name
//! *before* the namespace is made, and removes them all (with whatever still runs inside) once the pipe to it closes. The pipe
//! closes when [`Namespaces`] is dropped and when this process ends in any way: a panic, an abort, `kill -KILL`. A Ctrl-C does
//! not reach the janitor, which has a process group of its own and ignores it.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where `ip netns` keeps the names.
const FOLDER: &str = "/run/netns";

/// Reads names until the end of its input, then removes them. What runs inside a namespace would keep it alive unnamed.
const JANITOR: &str = r#"
trap '' INT TERM HUP QUIT
names=
while read -r name; do names="$names $name"; done
for name in $names; do
    for pid in $(ip netns pids "$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
done
for name in $names; do ip netns del "$name" 2>/dev/null; done
exit 0
"#;

/// Why links between namespaces cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// The numbers make no sense.
    #[error("no link can behave like that: {0}")]
    Impairment(String),
    /// The system said no.
    #[error("{tried}: {why}; links between namespaces need Linux, root and iproute2's `ip`")]
    System {
        /// What was tried.
        tried: String,
        /// What came back.
        why: String,
    },
}

impl EmulatorError {
    pub(crate) fn io(tried: &str, why: impl fmt::Display) -> Self {
        Self::System { tried: tried.to_owned(), why: why.to_string() }
    }
}

/// Says why links cannot be emulated here, if they cannot: tests are then skipped, with this reason.
pub fn available() -> Result<(), EmulatorError> {
    // Tests of one process ask at the same time: one name for all would make all but the first skip.
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let probe = PROBES.fetch_add(1, Ordering::Relaxed);
    let name = format!("mnprobe{}x{probe}", std::process::id());
    let mut namespaces = Namespaces::open()?;
    namespaces.add(&name)?;
    within(&name, || crate::sys::PacketSocket::open("lo").map(drop))?
        .map_err(|error| EmulatorError::io("a packet socket in a namespace", error))
}

/// Network namespaces of one owner.
#[derive(Debug)]
pub struct Namespaces {
    janitor: Child,
}

impl Namespaces {
    /// Starts the janitor; there are no namespaces yet.
    pub fn open() -> Result<Self, EmulatorError> {
        let janitor = Command::new("sh")
            .args(["-c", JANITOR])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| EmulatorError::io("starting the janitor of namespaces", error))?;
        Ok(Self { janitor })
    }

    /// From now on the janitor takes this one away at the end.
    fn tell(&mut self, name: &str) -> Result<(), EmulatorError> {
        let pipe = self.janitor.stdin.as_mut();
        let told = pipe.map(|pipe| pipe.write_all(format!("{name}\n").as_bytes()));
        if matches!(told, Some(Ok(()))) {
            return Ok(());
        }
        let tried = format!("telling the janitor about {name}");
        Err(EmulatorError::io(&tried, format!("{told:?}")))
    }

    /// Makes a namespace, with its loopback device up.
    pub fn add(&mut self, name: &str) -> Result<(), EmulatorError> {
        self.tell(name)?;
        ip(&["netns", "add", name])?;
        ip(&["-n", name, "link", "set", "lo", "up"])
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

/// Takes away namespaces named `PREFIX`, a process's number and anything, whose process is no more: its janitor was killed, too. A
/// number may come round again, so our own is taken for another's: call it before the first [`Namespaces`]. Gives back their names.
pub fn remove_stale(prefix: &str) -> Result<Vec<String>, EmulatorError> {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return Ok(Vec::new()) };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_stale = |name: &String| {
        let Some(rest) = name.strip_prefix(prefix) else { return false };
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let pid = &rest[..digits];
        !pid.is_empty()
            && (pid == std::process::id().to_string() || !Path::new("/proc").join(pid).exists())
    };
    let stale: Vec<String> = names.filter(is_stale).collect();
    if !stale.is_empty() {
        // The janitor's own way: what runs inside goes first.
        let mut janitor = Namespaces::open()?;
        stale.iter().try_for_each(|name| janitor.tell(name))?;
    }
    Ok(stale)
}

/// Whether a namespace of this name is there.
pub fn exists(name: &str) -> bool {
    Path::new(FOLDER).join(name).exists()
}

/// Runs `ip` with these words.
pub fn ip(words: &[&str]) -> Result<(), EmulatorError> {
    let tried = || format!("ip {}", words.join(" "));
    let out = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let out = out.map_err(|error| EmulatorError::io(&tried(), error))?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    Err(EmulatorError::io(&tried(), text.trim()))
}

/// Moves the calling thread into a namespace, for good.
pub fn enter(name: &str) -> Result<(), EmulatorError> {
    let tried = || format!("entering the network namespace {name}");
    let file = File::open(Path::new(FOLDER).join(name));
    let file = file.map_err(|error| EmulatorError::io(&tried(), error))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| EmulatorError::io(&tried(), error))
}

/// Runs `f` on a thread inside a namespace: what it opens there stays there.
pub fn within<T: Send>(name: &str, f: impl FnOnce() -> T + Send) -> Result<T, EmulatorError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| enter(name).map(|()| f()));
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
