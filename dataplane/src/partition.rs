//! Who owns what: keyed hashes from ids to shards and validators.
//!
//! One secret per data directory, three keys drawn from it, so that nobody outside can aim load at one shard, at one validator,
//! or at one bucket of an index. All outputs of a transaction have one owner; all copies of a transaction have one coordinator.

use consensus::hash::TxId;
use consensus::tx::OutPoint;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The keys and the numbers of owners.
#[derive(Clone, Debug)]
pub struct Partition {
    shard_key: (u64, u64),
    validator_key: (u64, u64),
    script_key: (u64, u64),
    shards: u16,
    validators: u16,
}

impl Partition {
    /// From 16 secret bytes (drawn once per data directory, never shown) and the numbers of shards and validators.
    pub fn new(secret: [u8; 16], shards: u16, validators: u16) -> Self {
        assert!(shards > 0, "a node has at least one shard");
        assert!(validators > 0, "a node has at least one validator");
        let (low, high) = secret.split_at(8);
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes"));
        let key = |domain: u64| {
            let half = |n: u64| {
                let mut h = SipHasher13::new_with_keys(word(low), word(high));
                h.write_u64(domain << 1 | n);
                h.finish()
            };
            (half(0), half(1))
        };
        Self { shard_key: key(1), validator_key: key(2), script_key: key(3), shards, validators }
    }

    /// Number of shards.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Number of validators.
    pub fn validators(&self) -> u16 {
        self.validators
    }

    /// The owner of every output of `txid`, and its home.
    #[inline]
    pub fn shard(&self, txid: &TxId) -> u16 {
        if self.shards == 1 {
            return 0;
        }
        reduce(sip(self.shard_key, &txid.0), self.shards)
    }

    /// The coordinator of every transaction whose first input spends `first`.
    #[inline]
    pub fn validator(&self, first: &OutPoint) -> u16 {
        if self.validators == 1 {
            return 0;
        }
        let mut h = SipHasher13::new_with_keys(self.validator_key.0, self.validator_key.1);
        h.write(&first.txid.0);
        h.write_u32(first.vout);
        reduce(h.finish(), self.validators)
    }

    /// The coordinator for transaction bytes, raw or extended, without parsing them: the first outpoint stands right behind the
    /// input count, whose length its first byte tells. Bytes that are no transaction go to validator 0, which says so.
    #[inline]
    pub fn validator_of_bytes(&self, tx: &[u8]) -> u16 {
        if self.validators == 1 {
            return 0;
        }
        first_outpoint(tx).map_or(0, |o| self.validator(&o))
    }

    /// What an owner compares instead of a whole locking script. Keyed, so that no second script can be made to fit.
    #[inline]
    pub fn script_tag(&self, locking_script: &[u8]) -> u64 {
        sip(self.script_key, locking_script)
    }
}

/// The first outpoint of transaction bytes, raw or extended; `None` if they are too short.
pub fn first_outpoint(tx: &[u8]) -> Option<OutPoint> {
    const EXTENDED_MARK: [u8; 6] = [0, 0, 0, 0, 0, 0xef];
    let mut at = 4;
    if tx.get(at..at + 6)? == EXTENDED_MARK {
        at += 6;
    }
    at += match tx.get(at)? {
        0xfd => 3,
        0xfe => 5,
        0xff => 9,
        _ => 1,
    };
    let txid = TxId(tx.get(at..at + 32)?.try_into().ok()?);
    let vout = u32::from_le_bytes(tx.get(at + 32..at + 36)?.try_into().ok()?);
    Some(OutPoint { txid, vout })
}

fn sip(key: (u64, u64), bytes: &[u8]) -> u64 {
    let mut h = SipHasher13::new_with_keys(key.0, key.1);
    h.write(bytes);
    h.finish()
}

fn reduce(hash: u64, n: u16) -> u16 {
    ((u128::from(hash) * u128::from(n)) >> 64) as u16
}
