//! Why a datagram or frame was thrown away: every reason has a name and a counter, none has an allocation.
//!
//! In: reasons, one for each thing dropped. Out: counts by name, and how much each reason counts against the peer that
//! proved to be its sender ([`DropReason::strikes`]).

/// Reasons; exhaustive. Those after the MAC was checked count against the peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum DropReason {
    /// Too short, too long, of another version, or of no known type.
    Malformed,
    /// A `HELLO` beyond what one proved address may send.
    HelloRate,
    /// A `HELLO` beyond what all addresses together may send.
    HelloFlood,
    /// A cookie that we did not make, or made too long ago.
    CookieWrong,
    /// A handshake message that does not decrypt.
    HandshakeWrong,
    /// A handshake by a key that is not configured.
    PeerUnknown,
    /// A handshake that was seen before.
    HandshakeReplay,
    /// An answer to a handshake that we did not start or that is over.
    AnswerUnasked,
    /// A handshake of a peer in quarantine.
    Quarantined,
    /// A session that does not exist (any more).
    KeyUnknown,
    /// The tag does not match.
    MacWrong,
    /// A packet number that was seen before.
    Replay,
    /// A packet number older than the replay window.
    TooOld,
    /// Authentic, but its fields contradict each other.
    FrameMalformed,
    /// The object is larger than this relay takes.
    ObjectTooLarge,
    /// Code, group size, symbol number or payload size do not fit the object.
    ShapeWrong,
    /// Another shape than the object's earlier symbols had.
    ShapeDiffers,
    /// More incomplete objects than this peer may have.
    ObjectsInFlight,
    /// More memory than this peer, or all peers, may use.
    MemoryFull,
    /// A block's proof of work does not meet its target.
    ProofOfWork,
    /// A block whose parent is unknown.
    ParentUnknown,
    /// A block's symbol before the symbol that carries its header.
    HeaderNotYet,
    /// A symbol that is already there; normal.
    SymbolKnown,
    /// A symbol of an object that is already complete; normal.
    ObjectDone,
    /// A frame about an object that is not known here.
    ObjectUnknown,
    /// The object's bytes do not have its hash.
    HashWrong,
    /// A symbol without the origin's proof, or with a wrong one.
    OriginWrong,
    /// More repair requests than the object allows.
    NackQuota,
}

impl DropReason {
    /// Every reason, in order.
    pub const ALL: [Self; 28] = [
        Self::Malformed,
        Self::HelloRate,
        Self::HelloFlood,
        Self::CookieWrong,
        Self::HandshakeWrong,
        Self::PeerUnknown,
        Self::HandshakeReplay,
        Self::AnswerUnasked,
        Self::Quarantined,
        Self::KeyUnknown,
        Self::MacWrong,
        Self::Replay,
        Self::TooOld,
        Self::FrameMalformed,
        Self::ObjectTooLarge,
        Self::ShapeWrong,
        Self::ShapeDiffers,
        Self::ObjectsInFlight,
        Self::MemoryFull,
        Self::ProofOfWork,
        Self::ParentUnknown,
        Self::HeaderNotYet,
        Self::SymbolKnown,
        Self::ObjectDone,
        Self::ObjectUnknown,
        Self::HashWrong,
        Self::OriginWrong,
        Self::NackQuota,
    ];

    /// Name in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HelloRate => "hello_rate",
            Self::HelloFlood => "hello_flood",
            Self::CookieWrong => "cookie_wrong",
            Self::HandshakeWrong => "handshake_wrong",
            Self::PeerUnknown => "peer_unknown",
            Self::HandshakeReplay => "handshake_replay",
            Self::AnswerUnasked => "answer_unasked",
            Self::Quarantined => "quarantined",
            Self::KeyUnknown => "key_unknown",
            Self::MacWrong => "mac_wrong",
            Self::Replay => "replay",
            Self::TooOld => "too_old",
            Self::FrameMalformed => "frame_malformed",
            Self::ObjectTooLarge => "object_too_large",
            Self::ShapeWrong => "shape_wrong",
            Self::ShapeDiffers => "shape_differs",
            Self::ObjectsInFlight => "objects_in_flight",
            Self::MemoryFull => "memory_full",
            Self::ProofOfWork => "proof_of_work",
            Self::ParentUnknown => "parent_unknown",
            Self::HeaderNotYet => "header_not_yet",
            Self::SymbolKnown => "symbol_known",
            Self::ObjectDone => "object_done",
            Self::ObjectUnknown => "object_unknown",
            Self::HashWrong => "hash_wrong",
            Self::OriginWrong => "origin_wrong",
            Self::NackQuota => "nack_quota",
        }
    }

    /// How much it counts against its sender, whose key was proved: 0 for what honest peers do, too.
    ///
    /// [`crate::link::STRIKES_MAX`] within a minute are a quarantine.
    pub fn strikes(self) -> u32 {
        match self {
            // No honest encoder makes these, whatever the network did to its packets.
            Self::FrameMalformed | Self::ShapeWrong | Self::HashWrong | Self::ProofOfWork => 25,
            Self::OriginWrong | Self::ShapeDiffers | Self::ObjectTooLarge => 10,
            Self::NackQuota => 1,
            _ => 0,
        }
    }
}

/// A counter for every reason.
#[derive(Clone, Debug)]
pub struct Drops {
    counts: [u64; DropReason::ALL.len()],
}

impl Default for Drops {
    fn default() -> Self {
        Self { counts: [0; DropReason::ALL.len()] }
    }
}

impl Drops {
    /// Counts one.
    pub fn count(&mut self, reason: DropReason) {
        self.counts[reason as usize] += 1;
    }

    /// How often it happened.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.counts[reason as usize]
    }

    /// Everything together.
    pub fn sum(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Reasons that happened, by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DropReason::ALL.iter().map(|&at| (at.name(), self.of(at))).filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_and_a_name_of_its_own() {
        let mut drops = Drops::default();
        for (at, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{reason:?}");
            assert!(DropReason::ALL[..at].iter().all(|other| other.name() != reason.name()));
            drops.count(reason);
        }
        assert_eq!(drops.sum(), DropReason::ALL.len() as u64);
        assert_eq!(drops.named().count(), DropReason::ALL.len());
    }
}
