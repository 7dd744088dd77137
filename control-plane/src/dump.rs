//! `metanode dump`: what passes over a link of a running node, as a file that Wireshark and tcpdump read.
//!
//! In: the name of a link (`metanode top --once` lists them) of a node that runs with `--map-links`. Out: a pcap file with nanosecond
//! times, link type USER0 (147), and one header of 24 bytes before each payload: the frag's number, its signature (8 bytes each) and the
//! producer's two stamps (4 bytes each), little-endian. The node neither waits nor notices: a reader that is too slow loses frags, and
//! both losses and frags that lie in an arena (above the link's mtu) are counted, never silent.

use crate::config::{self, Flags};
use crate::datadir::{self, NODE_FILE};
use clap::Args;
use load::evidence::Evidence;
use ring::{Link, LinkError, TapPoll};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// pcap with nanosecond times. Source: the file format of libpcap, `pcap-savefile(5)`.
const MAGIC: u32 = 0xa1b2_3c4d;
/// `LINKTYPE_USER0`: for whoever writes the file to define.
const LINK_TYPE: u32 = 147;
/// Number, signature, two stamps.
const HEADER_BYTES: usize = 24;
/// How long an empty link is left alone.
const REST: Duration = Duration::from_micros(100);
/// How many frags are read before the clock is looked at again.
const BURST: u32 = 64;

/// Writes what passes over a link of a running node to a pcap file
#[derive(Args, Debug)]
pub struct DumpArgs {
    /// The link, as `metanode top --once` names it: validate_shard:0.0
    #[arg(long)]
    link: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Stop after so many seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Stop after so many frags
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    count: u64,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Why nothing can be dumped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// Nobody is there.
    #[error("no node runs in {0}: there is no {NODE_FILE}; name its --data-dir and --network")]
    NoNode(PathBuf),
    /// Its links are its own.
    #[error("the node in {0} keeps its links to itself; start it with --map-links=true")]
    NotMapped(PathBuf),
    /// No such link.
    #[error("there is no link {link}; there are: {}", known.join(" "))]
    NoSuchLink {
        /// What was asked for.
        link: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The ring said no.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The file.
    #[error("writing {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What was written, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Frags written.
    pub frags: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Times the reader was overrun.
    pub overruns: u64,
    /// Frags lost to that.
    pub lost: u64,
    /// Frags passed over because they lie in the arena.
    pub large: u64,
    /// Frags passed over because their place was outside the link.
    pub malformed: u64,
}

/// The command.
pub fn main(args: &DumpArgs) -> ExitCode {
    let loaded = match config::load_or_exit("dump", &args.flags) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let node = &loaded.config.node;
    let folder = datadir::folder(&node.data_dir, node.network);
    let mut evidence = Evidence::new("metanode-dump/1", 0);
    evidence.set("link", args.link.as_str());
    match dump(&folder, args) {
        Ok(dumped) => {
            for (key, value) in [
                ("frags", dumped.frags),
                ("bytes", dumped.bytes),
                ("overruns", dumped.overruns),
                ("lost", dumped.lost),
                ("large_passed_over", dumped.large),
                ("malformed", dumped.malformed),
            ] {
                evidence.set(key, value);
            }
            evidence.finish(true, args.json)
        }
        Err(error) => {
            eprintln!("dump: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The file of link `name` in `directory`.
fn link_file(directory: &Path, name: &str) -> PathBuf {
    directory.join(dataplane::topo::link_file_name(name))
}

fn dump(folder: &Path, args: &DumpArgs) -> Result<Dumped, DumpError> {
    let text = std::fs::read_to_string(folder.join(NODE_FILE));
    let text = text.map_err(|_| DumpError::NoNode(folder.to_owned()))?;
    let node: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(directory) = node["link_dir"].as_str().map(PathBuf::from) else {
        return Err(DumpError::NotMapped(folder.to_owned()));
    };
    let path = link_file(&directory, &args.link);
    if !path.exists() {
        let known = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut known: Vec<String> = known
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some(name.strip_suffix(".link")?.replacen('-', ":", 1))
            })
            .collect();
        known.sort();
        return Err(DumpError::NoSuchLink { link: args.link.clone(), known });
    }
    let link = Link::open_file(&path)?;
    let fail = |source| DumpError::File { path: args.out.clone(), source };
    let file = File::create(&args.out).map_err(fail)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let dumped = copy(&link, &mut out, Duration::from_secs(args.seconds), args.count)?;
    match dumped.and_then(|dumped| out.flush().map(|()| dumped)) {
        Ok(dumped) => Ok(dumped),
        Err(source) => Err(fail(source)),
    }
}

/// Copies until the time is over, the count is reached, or the producer has left.
fn copy(
    link: &Link,
    out: &mut impl Write,
    at_most: Duration,
    count: u64,
) -> Result<std::io::Result<Dumped>, DumpError> {
    let mut spy = link.spy()?;
    let snap_bytes = (link.spec().mtu_bytes + HEADER_BYTES) as u32;
    let mut write = || -> std::io::Result<Dumped> {
        let mut dumped = Dumped::default();
        for word in [MAGIC, 4 << 16 | 2, 0, 0, snap_bytes, LINK_TYPE] {
            out.write_all(&word.to_le_bytes())?;
        }
        let (began, mut burst) = (Instant::now(), 0);
        while dumped.frags < count {
            burst += 1;
            if burst >= BURST {
                burst = 0;
                if began.elapsed() >= at_most {
                    break;
                }
            }
            let (before, closed) = (spy.next_seq(), spy.is_closed());
            match spy.poll() {
                TapPoll::Frag(frag) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let len = (HEADER_BYTES + frag.bytes.len()) as u32;
                    for word in [now.as_secs() as u32, now.subsec_nanos(), len, len] {
                        out.write_all(&word.to_le_bytes())?;
                    }
                    out.write_all(&frag.seq.to_le_bytes())?;
                    out.write_all(&frag.sig.to_le_bytes())?;
                    out.write_all(&frag.ts_orig.to_le_bytes())?;
                    out.write_all(&frag.ts_pub.to_le_bytes())?;
                    out.write_all(frag.bytes)?;
                    dumped.frags += 1;
                    dumped.bytes += frag.bytes.len() as u64;
                }
                TapPoll::Empty | TapPoll::Overrun { .. } => {}
            }
            if spy.next_seq() == before {
                if closed || began.elapsed() >= at_most {
                    break;
                }
                std::thread::sleep(REST);
            }
        }
        (dumped.overruns, dumped.lost) = (spy.overruns(), spy.lost());
        (dumped.large, dumped.malformed) = (spy.large(), spy.malformed());
        Ok(dumped)
    };
    Ok(write())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::{Kind, LinkSpec};

    #[test]
    fn a_dump_is_a_pcap_file_of_everything_that_passed() {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = LinkSpec::new("a_b:0", 64, 100, Kind::Lossless);
        let link = Link::create_file(folder.path().join("l"), &spec).expect("a link");
        let mut producer = link.producer().expect("the only one");
        let reader = Link::open_file(folder.path().join("l")).expect("the same link");
        let copied = std::thread::spawn(move || {
            let mut out = Vec::new();
            let dumped = copy(&reader, &mut out, Duration::from_secs(20), 40);
            (dumped.expect("a spy").expect("memory"), out)
        });
        std::thread::sleep(Duration::from_millis(100));
        for i in 0..40u64 {
            producer.publish(i + 7, 5, &vec![i as u8; i as usize]).expect("credit for 64");
        }
        let (dumped, out) = copied.join().expect("no panic");
        assert_eq!((dumped.frags, dumped.lost, dumped.bytes), (40, 0, (0..40).sum()));
        let word = |at: usize| u32::from_le_bytes(out[at..at + 4].try_into().expect("four"));
        assert_eq!([word(0), word(4), word(16), word(20)], [MAGIC, 0x0004_0002, 124, 147]);
        let mut at = 24;
        for i in 0..40usize {
            assert_eq!((word(at + 8), word(at + 12)), (24 + i as u32, 24 + i as u32));
            assert_eq!(
                (word(at + 16), word(at + 24)),
                (i as u32, i as u32 + 7),
                "number, signature"
            );
            assert_eq!(out[at + 40..at + 40 + i], vec![i as u8; i]);
            at += 40 + i;
        }
        assert_eq!(at, out.len());
    }
}
