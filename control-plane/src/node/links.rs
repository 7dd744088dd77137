//! The ends of links that are not tiles', and who turns the tiles while their holder waits.

use super::{ANSWER_TIMEOUT, NodeError};
use crate::topology::{Ingest, Shape};
use dataplane::driver::{Crew, Running};
use dataplane::metrics::Metrics;
use dataplane::msg::{IngestHeader, VerdictFrag};
use dataplane::partition::Partition;
use dataplane::stem::Turnable;
use dataplane::tile::Stamp;
use dataplane::time::HostClock;
use dataplane::topo::{ExternalIn, ExternalOut};
use ring::park::Parker;
use std::time::{Duration, Instant};

/// The ends of the control plane's own links.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) control_validate: Vec<ExternalOut>,
    pub(crate) block_validate: Vec<ExternalOut>,
    pub(crate) validate_block: Vec<ExternalIn>,
    pub(crate) submit: Option<SubmitEnds>,
    pub(super) epoch: Option<EpochEnds>,
    pub(super) relay: Option<RelayEnds>,
    pub(super) control_shard: Vec<ExternalOut>,
    pub(super) shard_control: Vec<ExternalIn>,
    pub(super) control_pack: Vec<ExternalOut>,
    pub(super) pack_control: Vec<ExternalIn>,
}

/// The ends of whoever closes epochs.
#[derive(Debug)]
pub(crate) struct EpochEnds {
    pub(crate) epoch_shard: Vec<ExternalOut>,
    pub(crate) shard_epoch: Vec<ExternalIn>,
    pub(crate) epoch_pack: Vec<ExternalOut>,
    pub(crate) parker: Parker,
}

/// The ends of whoever stands between the relay and the chain. What passes over them is a [`relay::tile::Note`] and an object.
#[derive(Debug)]
pub struct RelayEnds {
    /// Objects for peers.
    pub chain_bfr: ExternalOut,
    /// Objects of peers.
    pub bfr_chain: ExternalIn,
    /// Where to sleep until there are some.
    pub parker: Parker,
}

/// The ends of whoever submits transactions from outside: one link to each validator, one from each.
///
/// They are taken once ([`super::Node::take_submit`]) by the one thread that sends. For every frag that was sent one verdict comes
/// back, with its token, on the link of the validator it was sent to. A link holds [`crate::topology::VERDICTS`] verdicts; a
/// validator that finds no room for one keeps it and takes no more transactions, so read as you send.
#[derive(Debug)]
pub struct SubmitEnds {
    /// To each validator.
    pub submit_validate: Vec<ExternalOut>,
    /// From each validator.
    pub validate_submit: Vec<ExternalIn>,
    /// Where the sender may sleep until a verdict comes.
    pub parker: Parker,
    /// Which validator a transaction falls to ([`Partition::validator_of_bytes`]), by its first outpoint.
    pub partition: Partition,
}

impl SubmitEnds {
    /// Sends one transaction (raw or extended) to its validator and wakes it; false if there is no room now (nothing was sent).
    ///
    /// `frag` is scratch: it is emptied and filled with what travels.
    pub fn send(&mut self, header: &IngestHeader, tx: &[u8], frag: &mut Vec<u8>) -> bool {
        frag.clear();
        frag.resize(IngestHeader::LEN, 0);
        header.write(frag);
        frag.extend_from_slice(tx);
        let out = &mut self.submit_validate[usize::from(self.partition.validator_of_bytes(tx))];
        let producer = out.producer();
        producer.refresh();
        let source = u64::from(header.source);
        let sent = producer.publish_any(source, Stamp::default().0, frag, source).is_ok();
        if sent {
            out.wake();
        }
        sent
    }

    /// Hands on every verdict that has come; gives how many.
    pub fn verdicts(&mut self, mut each: impl FnMut(&VerdictFrag)) -> usize {
        let mut count = 0;
        for input in &mut self.validate_submit {
            while let Some(frag) = input.poll() {
                let verdict = VerdictFrag::decode(frag.bytes);
                each(&verdict.expect("validate_submit carries verdicts"));
                count += 1;
            }
            input.return_credit();
        }
        count
    }
}

/// Who turns the tiles.
#[allow(clippy::large_enum_variant)] // there is one of it
pub(super) enum Drive {
    /// Threads of their own.
    Threads(Running),
    /// Whoever waits for them.
    Waiter { stems: Vec<Box<dyn Turnable>>, metrics: Metrics },
    /// Nobody any more.
    Stopped,
}

impl std::fmt::Debug for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Threads(_) => "Threads",
            Self::Waiter { .. } => "Waiter",
            Self::Stopped => "Stopped",
        })
    }
}

impl Drive {
    /// Lets the tiles get on with it.
    pub(super) fn rest(&mut self) {
        match self {
            Self::Waiter { stems, .. } => {
                for stem in stems {
                    stem.turn();
                }
            }
            Self::Threads(_) | Self::Stopped => std::thread::sleep(Duration::from_micros(50)),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        match self {
            Self::Threads(running) => running.machine().metrics(),
            Self::Waiter { metrics, .. } => metrics,
            Self::Stopped => unreachable!("a node is not used after its shutdown"),
        }
    }
}

pub(super) fn take_ends(
    crew: &mut Crew<HostClock>,
    shape: Shape,
    partition: &Partition,
) -> Result<Ends, NodeError> {
    let control = crew.external("control", 0)?;
    let block = crew.external("block", 0)?;
    let (mut outs, mut ins) = (control.outs, control.ins);
    outs.extend(block.outs);
    ins.extend(block.ins);
    let mut parker = None;
    if shape.ingest == Ingest::Control {
        let submit = crew.external("submit", 0)?;
        outs.extend(submit.outs);
        ins.extend(submit.ins);
        parker = Some(submit.parker);
    }
    let mut epoch_parker = None;
    if shape.durable {
        let epoch = crew.external("epoch", 0)?;
        outs.extend(epoch.outs);
        ins.extend(epoch.ins);
        epoch_parker = Some(epoch.parker);
    }
    let mut relay_parker = None;
    if shape.relay {
        let relay = crew.external("chain", 0)?;
        outs.extend(relay.outs);
        ins.extend(relay.ins);
        relay_parker = Some(relay.parker);
    }
    let is_of = |name: &str, row: &str| name.split(':').next() == Some(row);
    let mut out = |row: &str| outs.extract_if(.., |o| is_of(&o.name, row)).collect::<Vec<_>>();
    let mut input = |row: &str| ins.extract_if(.., |i| is_of(&i.name, row)).collect::<Vec<_>>();
    let submit = parker.map(|parker| SubmitEnds {
        submit_validate: out("submit_validate"),
        validate_submit: input("validate_submit"),
        parker,
        partition: partition.clone(),
    });
    let epoch = epoch_parker.map(|parker| EpochEnds {
        epoch_shard: out("epoch_shard"),
        shard_epoch: input("shard_epoch"),
        epoch_pack: out("epoch_pack"),
        parker,
    });
    let relay = relay_parker.and_then(|parker| {
        let (chain_bfr, bfr_chain) = (out("chain_bfr").pop()?, input("bfr_chain").pop()?);
        Some(RelayEnds { chain_bfr, bfr_chain, parker })
    });
    Ok(Ends {
        epoch,
        relay,
        control_validate: out("control_validate"),
        block_validate: out("block_validate"),
        validate_block: input("validate_block"),
        submit,
        control_shard: out("control_shard"),
        shard_control: input("shard_control"),
        control_pack: out("control_pack"),
        pack_control: input("pack_control"),
    })
}

/// Publishes in line or through the arena, if there is room now.
pub(crate) fn publish_now(out: &mut ExternalOut, sig: u64, bytes: &[u8]) -> bool {
    let producer = out.producer();
    producer.refresh();
    let sent = producer.publish_any(sig, Stamp::default().0, bytes, 0).is_ok();
    if sent {
        out.wake();
    }
    sent
}

/// Publishes in line or through the arena, waiting for room.
pub(super) fn publish(
    drive: &mut Drive,
    out: &mut ExternalOut,
    sig: u64,
    bytes: &[u8],
) -> Result<(), NodeError> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        if publish_now(out, sig, bytes) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(NodeError::NoAnswer { asked: format!("the reader of {}", out.name) });
        }
        drive.rest();
    }
}

/// Reads frags until `take` accepts one; `None` after the timeout.
pub(super) fn wait_for<T>(
    drive: &mut Drive,
    input: &mut ExternalIn,
    mut take: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        while let Some(frag) = input.poll() {
            let taken = take(frag.bytes);
            if taken.is_some() {
                input.return_credit();
                return taken;
            }
        }
        input.return_credit();
        if Instant::now() > deadline {
            return None;
        }
        drive.rest();
    }
}
