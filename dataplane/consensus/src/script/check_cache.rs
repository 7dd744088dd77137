//! Checks and digests that were already made in this run.
//!
//! A script may check one signature a quarter of a million times over half a megabyte of script code; the reference
//! survives that with its signature cache, we with this one. It lives for one run, so its key needs no transaction: the
//! script, where its code starts, the signature and the key say everything. It is direct-mapped and never grows; an
//! entry that was pushed out is simply computed, and paid for, again.

/// Slots for checks; a power of two.
const CHECK_SLOTS: usize = 64;
/// Digests remembered at once, oldest replaced.
const DIGEST_SLOTS: usize = 8;
/// Longer signatures exist only under lax rules; they are not remembered.
const SIGNATURE_BYTES_MAX: usize = 80;
const PUBKEY_BYTES_MAX: usize = 65;

/// Which script code a signature is checked against: the script, its code start, and whether the signature itself was
/// removed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct CodeId {
    pub source: u8,
    pub own_removed: bool,
    pub start: usize,
}

#[derive(Clone, Copy, Debug)]
struct CheckEntry {
    /// The run this entry belongs to.
    run: u32,
    code: CodeId,
    signature_len: u8,
    pubkey_len: u8,
    good: bool,
    signature: [u8; SIGNATURE_BYTES_MAX],
    pubkey: [u8; PUBKEY_BYTES_MAX],
}

impl CheckEntry {
    const EMPTY: CheckEntry = CheckEntry {
        run: 0,
        code: CodeId { source: 0, own_removed: false, start: 0 },
        signature_len: 0,
        pubkey_len: 0,
        good: false,
        signature: [0; SIGNATURE_BYTES_MAX],
        pubkey: [0; PUBKEY_BYTES_MAX],
    };
}

#[derive(Debug)]
pub(super) struct CheckCache {
    run: u32,
    checks: Box<[CheckEntry; CHECK_SLOTS]>,
    digests: [(CodeId, u8, [u8; 32]); DIGEST_SLOTS],
    digest_count: usize,
}

impl CheckCache {
    pub fn new() -> Self {
        Self {
            run: 0,
            checks: Box::new([CheckEntry::EMPTY; CHECK_SLOTS]),
            digests: [(CodeId::default(), 0, [0; 32]); DIGEST_SLOTS],
            digest_count: 0,
        }
    }

    /// Forgets everything, in constant time.
    #[inline]
    pub fn start_run(&mut self) {
        self.digest_count = 0;
        self.run = self.run.wrapping_add(1);
        if self.run == 0 {
            // Four thousand million runs later entries of the first could look fresh.
            self.checks.fill(CheckEntry::EMPTY);
            self.run = 1;
        }
    }

    /// The slot of a check, or `None` when it is too long to be remembered.
    #[inline]
    fn slot(code: CodeId, signature: &[u8], pubkey: &[u8]) -> Option<usize> {
        if signature.len() > SIGNATURE_BYTES_MAX || pubkey.len() > PUBKEY_BYTES_MAX {
            return None;
        }
        let word = |bytes: &[u8]| {
            bytes.last_chunk::<9>().map_or(0, |chunk| {
                u64::from_le_bytes([
                    chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7],
                ])
            })
        };
        let mix = word(signature)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            .wrapping_add(word(pubkey))
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
            .wrapping_add(code.start as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some((mix >> 58) as usize % CHECK_SLOTS)
    }

    /// What this very check came to before in this run.
    #[inline]
    pub fn check(&self, code: CodeId, signature: &[u8], pubkey: &[u8]) -> Option<bool> {
        let entry = &self.checks[Self::slot(code, signature, pubkey)?];
        let same = entry.run == self.run
            && entry.code == code
            && &entry.signature[..usize::from(entry.signature_len)] == signature
            && &entry.pubkey[..usize::from(entry.pubkey_len)] == pubkey;
        same.then_some(entry.good)
    }

    #[inline]
    pub fn remember_check(&mut self, code: CodeId, signature: &[u8], pubkey: &[u8], good: bool) {
        let Some(slot) = Self::slot(code, signature, pubkey) else {
            return;
        };
        let entry = &mut self.checks[slot];
        entry.run = self.run;
        entry.code = code;
        entry.good = good;
        entry.signature_len = signature.len() as u8;
        entry.pubkey_len = pubkey.len() as u8;
        entry.signature[..signature.len()].copy_from_slice(signature);
        entry.pubkey[..pubkey.len()].copy_from_slice(pubkey);
    }

    /// The digest of an unchanged script code under a hash type.
    #[inline]
    pub fn digest(&self, code: CodeId, hash_type: u8) -> Option<[u8; 32]> {
        self.digests[..self.digest_count.min(DIGEST_SLOTS)]
            .iter()
            .find(|(known, known_type, _)| *known == code && *known_type == hash_type)
            .map(|(_, _, digest)| *digest)
    }

    #[inline]
    pub fn remember_digest(&mut self, code: CodeId, hash_type: u8, digest: [u8; 32]) {
        self.digests[self.digest_count % DIGEST_SLOTS] = (code, hash_type, digest);
        // Above DIGEST_SLOTS the count only says where the next one goes.
        self.digest_count = if self.digest_count + 1 == 2 * DIGEST_SLOTS {
            DIGEST_SLOTS
        } else {
            self.digest_count + 1
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_found_in_its_run_only_and_by_all_of_its_parts() {
        let mut cache = CheckCache::new();
        cache.start_run();
        let code = CodeId { source: 2, own_removed: false, start: 7 };
        cache.remember_check(code, &[1; 71], &[2; 33], true);
        assert_eq!(cache.check(code, &[1; 71], &[2; 33]), Some(true));
        assert_eq!(cache.check(CodeId { start: 8, ..code }, &[1; 71], &[2; 33]), None);
        assert_eq!(cache.check(code, &[1; 70], &[2; 33]), None);
        assert_eq!(cache.check(code, &[1; 71], &[3; 33]), None);
        assert_eq!(cache.check(code, &[1; 100], &[2; 33]), None);
        cache.start_run();
        assert_eq!(cache.check(code, &[1; 71], &[2; 33]), None);
    }

    #[test]
    fn the_last_digests_are_remembered() {
        let mut cache = CheckCache::new();
        cache.start_run();
        for start in 0..100 {
            let code = CodeId { source: 2, own_removed: false, start };
            assert_eq!(cache.digest(code, 1), None);
            cache.remember_digest(code, 1, [start as u8; 32]);
            for known in (start + 1).saturating_sub(DIGEST_SLOTS)..=start {
                let code = CodeId { source: 2, own_removed: false, start: known };
                assert_eq!(cache.digest(code, 1), Some([known as u8; 32]));
                assert_eq!(cache.digest(code, 2), None);
            }
        }
    }
}
