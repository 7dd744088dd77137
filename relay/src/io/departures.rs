//! The way from a batch to messages of the kernel, and back from the kernel's answers to the batch.
//!
//! In: a [`TxBatch`] and whether runs may go as one. Out: up to [`MESSAGES_MAX`] messages at a time, oldest first; the backend says how
//! many of them the kernel took and what it said to the next one. Both backends send in order, so a position in the batch is all the
//! state there is, and every packet ends as sent, refused or still there.

use super::IoStats;
use super::batch::{Run, Settled, TxBatch};
use super::sys::{self, MESSAGES_MAX, Message};
use std::io;
use std::os::fd::BorrowedFd;

/// What to do about an error of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnError {
    /// Later.
    Full,
    /// Its packets alone.
    Unroll,
    /// Drop it.
    Refuse,
    /// Give up.
    Fail,
}

/// Errors of `sendmsg(2)` and `udp(7)`, sorted.
pub(super) fn on_error(error: &io::Error, is_run: bool) -> OnError {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => OnError::Full,
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP) if is_run => {
            OnError::Unroll
        }
        Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT) => OnError::Fail,
        // Unreachable, forbidden, wrong family, an ICMP error about an earlier packet.
        _ => OnError::Refuse,
    }
}

/// Where in a batch we are.
#[derive(Clone, Copy, Debug, Default)]
struct At {
    run: usize,
    packet: usize,
}

/// Where messages go: calls once with some, gives how many were taken; an error is about the first.
pub trait Door {
    /// Sends.
    fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        ipv6: bool,
        messages: &[Message<'_>],
    ) -> io::Result<usize>;
}

/// Sends a batch through `door`. Gives whether the socket is full; what is left stays in the batch.
pub(super) fn send(
    batch: &mut TxBatch,
    gso: bool,
    door: &mut impl Door,
    socket: BorrowedFd<'_>,
    ipv6: bool,
    stats: &mut IoStats,
) -> io::Result<bool> {
    let mut at = At::default();
    let mut is_full = false;
    let mut result = Ok(());
    while at.run < batch.runs().len() && !is_full {
        let blank = Message { to: batch.runs()[at.run].to, bytes: &[], segment: None };
        let mut messages = [blank; MESSAGES_MAX];
        let count = fill(batch, gso, at, &mut messages);
        match door.send(socket, ipv6, &messages[..count]) {
            Ok(taken) => {
                for message in &messages[..taken] {
                    at = after(batch, at, message);
                    count_sent(stats, message);
                }
            }
            Err(error) => match on_error(&error, messages[0].segment.is_some()) {
                OnError::Full => is_full = true,
                OnError::Refuse => {
                    let next = after(batch, at, &messages[0]);
                    stats.tx_refused += packets_of(&messages[0]);
                    at = next;
                }
                OnError::Unroll => {
                    let run = batch.runs()[at.run];
                    stats.tx_unrolled += 1;
                    match unroll(batch, &run, socket, ipv6, stats) {
                        Ok((_, false)) => at = At { run: at.run + 1, packet: 0 },
                        Ok((done, true)) => {
                            at.packet = done;
                            is_full = true;
                        }
                        Err(error) => {
                            result = Err(error);
                            break;
                        }
                    }
                }
                OnError::Fail => {
                    result = Err(error);
                    break;
                }
            },
        }
    }
    batch.settle(|i, _| match i {
        i if i < at.run => Settled::Gone,
        i if i == at.run && at.packet > 0 => Settled::Partly(at.packet),
        _ => Settled::Stays,
    });
    stats.tx_full += u64::from(is_full);
    result.map(|()| is_full)
}

/// Messages from `at` on; gives how many.
fn fill<'a>(
    batch: &'a TxBatch,
    gso: bool,
    at: At,
    messages: &mut [Message<'a>; MESSAGES_MAX],
) -> usize {
    let mut count = 0;
    for (place, run) in batch.runs().iter().enumerate().skip(at.run) {
        if count == MESSAGES_MAX {
            break;
        }
        if gso && run.packets() > 1 {
            let segment = Some(run.segment);
            messages[count] = Message { to: run.to, bytes: batch.bytes(run), segment };
            count += 1;
            continue;
        }
        let skip = if place == at.run { at.packet } else { 0 };
        for (message, bytes) in messages[count..].iter_mut().zip(batch.packets(run).skip(skip)) {
            *message = Message { to: run.to, bytes, segment: None };
            count += 1;
        }
    }
    count
}

/// The place behind `message`, which begins at `at`.
fn after(batch: &TxBatch, at: At, message: &Message<'_>) -> At {
    let packet = at.packet + 1;
    if message.segment.is_some() || packet == batch.runs()[at.run].packets() {
        At { run: at.run + 1, packet: 0 }
    } else {
        At { run: at.run, packet }
    }
}

fn packets_of(message: &Message<'_>) -> u64 {
    message.segment.map_or(1, |segment| message.bytes.len().div_ceil(usize::from(segment)) as u64)
}

fn count_sent(stats: &mut IoStats, message: &Message<'_>) {
    stats.tx_packets += packets_of(message);
    stats.tx_bytes += message.bytes.len() as u64;
    stats.tx_runs += u64::from(message.segment.is_some());
}

/// Sends the packets of one run alone. Gives how many are dealt with, and whether the socket is full.
fn unroll(
    batch: &TxBatch,
    run: &Run,
    socket: BorrowedFd<'_>,
    ipv6: bool,
    stats: &mut IoStats,
) -> io::Result<(usize, bool)> {
    for (done, bytes) in batch.packets(run).enumerate() {
        let message = Message { to: run.to, bytes, segment: None };
        match sys::send(socket, ipv6, &[message]) {
            Ok(_) => count_sent(stats, &message),
            Err(error) => match on_error(&error, false) {
                OnError::Full => return Ok((done, true)),
                OnError::Fail => return Err(error),
                OnError::Refuse | OnError::Unroll => stats.tx_refused += 1,
            },
        }
    }
    Ok((run.packets(), false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::os::fd::AsFd;

    /// Takes so many messages a call, then says what it is told to.
    struct Scripted {
        answers: Vec<io::Result<usize>>,
        seen: Vec<usize>,
    }

    impl Door for Scripted {
        fn send(
            &mut self,
            _socket: BorrowedFd<'_>,
            _ipv6: bool,
            messages: &[Message<'_>],
        ) -> io::Result<usize> {
            let answer =
                if self.answers.is_empty() { Ok(usize::MAX) } else { self.answers.remove(0) };
            let taken = answer?.min(messages.len());
            self.seen.extend(messages[..taken].iter().map(|m| m.bytes.len()));
            Ok(taken)
        }
    }

    fn run(
        gso: bool,
        lens: &[usize],
        answers: Vec<io::Result<usize>>,
    ) -> (Vec<usize>, usize, IoStats, bool) {
        let to: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        let mut batch = TxBatch::new();
        for len in lens {
            batch.push(to, &vec![0; *len]).expect("room");
        }
        let mut door = Scripted { answers, seen: Vec::new() };
        let mut stats = IoStats::default();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let full =
            send(&mut batch, gso, &mut door, socket.as_fd(), false, &mut stats).expect("sends");
        (door.seen, batch.len(), stats, full)
    }

    fn errno(code: i32) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(code))
    }

    #[test]
    fn a_batch_leaves_in_order_as_runs_or_singly() {
        let lens = [100, 100, 50, 70, 70];
        assert_eq!(run(true, &lens, vec![]).0, [250, 140]);
        let (seen, left, stats, full) = run(false, &lens, vec![Ok(2)]);
        assert_eq!((seen.as_slice(), left, full), (&lens[..], 0, false));
        assert_eq!((stats.tx_packets, stats.tx_bytes, stats.tx_runs), (5, 390, 0));
    }

    #[test]
    fn a_full_socket_leaves_the_rest_in_the_batch() {
        for gso in [true, false] {
            let (_, left, stats, full) =
                run(gso, &[100, 100, 70, 80], vec![Ok(1), errno(libc::EAGAIN)]);
            assert!(full);
            assert_eq!(stats.tx_packets + left as u64, 4, "gso {gso}");
            assert_eq!(stats.tx_full, 1);
        }
    }

    #[test]
    fn what_goes_nowhere_is_dropped_and_counted_and_the_next_goes_on() {
        let answers = vec![errno(libc::ENETUNREACH), Ok(9)];
        let (seen, left, stats, _) = run(true, &[100, 100, 80, 90], answers);
        assert_eq!((seen.as_slice(), left, stats.tx_refused), (&[90][..], 0, 3));
    }

    #[test]
    fn a_run_the_path_cannot_take_goes_as_single_packets() {
        let (seen, left, stats, _) = run(true, &[100, 100, 100, 200], vec![errno(libc::EIO)]);
        assert_eq!((seen.as_slice(), left), (&[200][..], 0));
        assert_eq!((stats.tx_unrolled, stats.tx_packets, stats.tx_runs), (1, 4, 0));
    }

    #[test]
    fn a_broken_socket_is_an_error() {
        let to: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        let mut batch = TxBatch::new();
        batch.push(to, &[1]).expect("room");
        let mut door = Scripted { answers: vec![errno(libc::EBADF)], seen: Vec::new() };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut stats = IoStats::default();
        let result = send(&mut batch, true, &mut door, socket.as_fd(), false, &mut stats);
        assert_eq!(result.map_err(|e| e.raw_os_error()), Err(Some(libc::EBADF)));
        assert_eq!(batch.len(), 1);
    }
}
