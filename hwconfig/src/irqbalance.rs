//! The daemon irqbalance: which processors it leaves alone, asked and told over its own socket.
//!
//! In: process ids that call themselves irqbalance. Out: its ban list, or a new one set. The daemon believes a message only
//! with root's credentials on it, and moves interrupts at its next round, about ten seconds later.
//!
//! Source: irqbalance `irqbalance.c`, `sock_handle`.

use crate::cpus::CpuSet;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, UCred,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::time::Duration;

/// Longest answer to `setup`.
const ANSWER_BYTES_MAX: usize = 8_192;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Processors the first daemon that answers leaves alone, as a list.
pub fn banned(pids: &[u32]) -> Option<String> {
    let answer = pids.iter().find_map(|pid| ask(*pid, "setup", true).ok())?;
    ban_list(&answer)
}

/// Bans exactly `list` (empty bans nothing).
pub fn ban(pids: &[u32], list: &str) -> std::io::Result<()> {
    let list = if list.trim().is_empty() { "NULL" } else { list };
    for pid in pids {
        ask(*pid, &format!("settings cpus {list}"), false)?;
    }
    Ok(())
}

/// The word after `BANNED` is a mask.
fn ban_list(answer: &str) -> Option<String> {
    let mut words = answer.split_whitespace().skip_while(|word| *word != "BANNED");
    let mask = words.nth(1).unwrap_or("0");
    Some(CpuSet::parse_mask(mask).ok()?.to_string())
}

fn ask(pid: u32, text: &str, answers: bool) -> std::io::Result<String> {
    let folder = format!("/run/irqbalance/irqbalance{pid}.sock");
    let name = format!("irqbalance{pid}.sock");
    let addresses =
        [SocketAddrUnix::new(folder.as_str()), SocketAddrUnix::new_abstract_name(name.as_bytes())];
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let connected =
        addresses.iter().flatten().any(|address| rustix::net::connect(&socket, address).is_ok());
    if !connected {
        return Err(std::io::Error::other(format!("irqbalance (process {pid}) has no socket")));
    }
    let root = UCred {
        pid: rustix::process::getpid(),
        uid: rustix::process::getuid(),
        gid: rustix::process::getgid(),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmCredentials(root));
    let line = [IoSlice::new(text.as_bytes())];
    rustix::net::sendmsg(&socket, &line, &mut control, SendFlags::NOSIGNAL)?;
    if !answers {
        return Ok(String::new());
    }
    let timeout = rustix::net::sockopt::Timeout::Recv;
    rustix::net::sockopt::set_socket_timeout(&socket, timeout, Some(ANSWER_TIMEOUT))?;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    let (_, length) = rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
    Ok(String::from_utf8_lossy(&buffer[..length.min(ANSWER_BYTES_MAX)]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    #[test]
    fn a_daemon_is_asked_and_told_over_its_socket() {
        let pid = 4_000_000_000 + std::process::id() % 100_000;
        let address =
            SocketAddr::from_abstract_name(format!("irqbalance{pid}.sock")).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("the name is ours");
        let daemon = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for _ in 0..3 {
                let (mut peer, _) = listener.accept().expect("somebody asks");
                let mut buffer = [0; 100];
                let length = peer.read(&mut buffer).expect("somebody says something");
                heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                let _ = peer
                    .write_all(b"SLEEP 10 IRQ 24 LOAD 0 DIFF 0 CLASS 5 BANNED 00000000,0000000e ");
            }
            heard
        });
        assert_eq!(banned(&[pid]).as_deref(), Some("1-3"));
        ban(&[pid], "1-3").expect("the daemon listens");
        ban(&[pid], "").expect("the daemon listens");
        let heard = daemon.join().expect("the daemon lives");
        assert_eq!(heard, ["setup", "settings cpus 1-3", "settings cpus NULL"]);
        assert_eq!(banned(&[1]), None);
    }
}
