//! What is handed over: bytes in sending order, and what each of them is.

use consensus::hash::TxId;

/// What an offered transaction is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Accepted, unless its double spend wins.
    Honest,
    /// Spends a coin that the transaction at this place spends too; one of the two is accepted.
    DoubleSpend {
        /// Place of the other.
        of: u32,
    },
    /// Comes after its child.
    LateParent,
    /// Comes before its parent; both are accepted.
    Orphan,
    /// Its parent never comes.
    LostParent,
    /// A flipped bit in its signature.
    BadSignature,
    /// Cut short.
    Malformed,
    /// The same bytes as the transaction at this place.
    Duplicate {
        /// Place of the first.
        of: u32,
    },
    /// Read from a file: any verdict may be right.
    Unknown,
}

/// One transaction to send.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// Its place, which the replayer uses as its token.
    pub place: u32,
    /// What it is there for.
    pub kind: Kind,
    /// Its id (of the uncut bytes for a malformed one).
    pub txid: TxId,
    /// What to send.
    pub bytes: &'a [u8],
}

/// A signed workload, in one piece of memory.
#[derive(Debug, Default)]
pub struct Offer {
    bytes: Vec<u8>,
    ends: Vec<u64>,
    kinds: Vec<Kind>,
    txids: Vec<TxId>,
}

impl Offer {
    pub(crate) fn push(&mut self, kind: Kind, txid: TxId, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u64);
        self.kinds.push(kind);
        self.txids.push(txid);
    }

    /// An offer of honest transactions that were made elsewhere.
    pub fn honest(txs: &[Vec<u8>]) -> Self {
        let mut offer = Self::default();
        for tx in txs {
            offer.push(Kind::Honest, TxId::of(tx), tx);
        }
        offer
    }

    /// An offer of transactions that were signed before, of which nothing is known but their bytes.
    pub fn presigned(txs: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut offer = Self::default();
        for tx in txs {
            offer.push(Kind::Unknown, TxId::of(&tx), &tx);
        }
        offer
    }

    /// Number of transactions.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without transactions.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Total bytes.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The transaction at `place`; panics past the end.
    #[inline]
    pub fn get(&self, place: usize) -> Offered<'_> {
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        Offered {
            place: place as u32,
            kind: self.kinds[place],
            txid: self.txids[place],
            bytes: &self.bytes[start..self.ends[place] as usize],
        }
    }

    /// All in sending order.
    pub fn iter(&self) -> impl Iterator<Item = Offered<'_>> {
        (0..self.len()).map(|i| self.get(i))
    }
}
