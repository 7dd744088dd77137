//! Signature digests: what a signature signs.
//!
//! Two digests exist. The *FORKID digest* has BIP143's layout and commits to the coin's value; three of its parts are
//! the same for every input of a transaction. The *original digest* serialises a changed copy of the transaction for
//! every input; Chronicle allows it again beside FORKID (hash type bit 0x20). [`SighashCache`] keeps per transaction what
//! does not depend on the input: the three hashes, and for the original digest the hash state behind all inputs before
//! the one that was asked last. What follows that input has to be hashed each time, so the original digest stays
//! quadratic in the worst case; every digest charges its bytes to the [`Budget`] before they are hashed.
//!
//! In comes a parsed transaction, an input, a hash type and a script code; out comes a digest in wire order.
//!
//! Source: SV Node `script/interpreter.cpp` `SignatureHash`, `CTransactionSignatureSerializer`, `sighashtype.h`; BIP143;
//! consensus rules section 3.

use sha2::{Digest, Sha256};

use crate::script::hash_type;
use crate::script::opcode::{OP_CODESEPARATOR, instruction};
use crate::script::{Budget, BudgetPart};
use crate::tx::TxView;

/// A blanked input: outpoint, empty script, sequence.
const BLANK_INPUT_BYTES: usize = 41;
/// Inputs are gathered in groups of this many before they go into the hash function.
const GROUP: usize = 64;
/// The number one in wire order: the digest of an input index or a SINGLE output that does not exist.
const ONE: [u8; 32] = {
    let mut one = [0; 32];
    one[0] = 1;
    one
};

/// The base type, without the flag bits.
const BASE_MASK: u32 = 0x1f;

/// What the digests of one transaction share. Reset it for the next transaction; it holds no heap memory.
#[derive(Clone, Debug, Default)]
pub struct SighashCache {
    /// Bytes, inputs and outputs of the transaction this belongs to.
    owner: Option<(usize, usize, usize)>,
    prevouts: Option<[u8; 32]>,
    sequences: Option<[u8; 32]>,
    outputs: Option<[u8; 32]>,
    /// Prefix of the original digest with all sequence numbers.
    whole: Prefix,
    /// The same where other inputs' sequence numbers are zero (NONE, SINGLE).
    bare: Prefix,
}

/// Hash state behind version, input count and the first `inputs` blanked inputs.
#[derive(Clone, Debug, Default)]
struct Prefix {
    inputs: usize,
    state: Option<Sha256>,
}

/// Which digest a signature asks for.
///
/// Source: SV Node `SigHashType::hasForkId`, `hasChronicle`; consensus rules section 3.1.
#[inline]
pub const fn uses_fork_id_digest(hash_type: u32, fork_id_enabled: bool) -> bool {
    fork_id_enabled
        && hash_type & hash_type::FORKID as u32 != 0
        && hash_type & hash_type::CHRONICLE as u32 == 0
}

impl SighashCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the transaction.
    pub fn reset(&mut self) {
        self.owner = None;
        self.prevouts = None;
        self.sequences = None;
        self.outputs = None;
        self.whole.state = None;
        self.bare.state = None;
    }

    /// The digest that a signature of `hash_type` for input `input_index` signs, in wire order.
    ///
    /// `hash_type` is the signature's last byte, zero-extended (test vectors use all 32 bits). The bytes to hash are
    /// charged first; on `Err` nothing was hashed.
    ///
    /// # Panics
    /// If the cache still belongs to another transaction, or if the FORKID digest is asked for an input that does not
    /// exist (the original digest answers the number one, as the reference does).
    pub fn digest(
        &mut self,
        view: &TxView<'_>,
        input_index: usize,
        hash_type: u32,
        value_sat: u64,
        script_code: &[u8],
        fork_id_enabled: bool,
        budget: &mut Budget,
    ) -> Result<[u8; 32], BudgetPart> {
        let owner = (view.bytes().len(), view.input_count(), view.output_count());
        assert!(
            *self.owner.get_or_insert(owner) == owner,
            "a digest cache of transaction {:?} (bytes, inputs, outputs) is used for {owner:?} without a reset",
            self.owner
        );
        if uses_fork_id_digest(hash_type, fork_id_enabled) {
            self.fork_id_digest(view, input_index, hash_type, value_sat, script_code, budget)
        } else {
            self.original_digest(view, input_index, hash_type, script_code, budget)
        }
    }

    fn fork_id_digest(
        &mut self,
        view: &TxView<'_>,
        input_index: usize,
        hash_type: u32,
        value_sat: u64,
        script_code: &[u8],
        budget: &mut Budget,
    ) -> Result<[u8; 32], BudgetPart> {
        let base = hash_type & BASE_MASK;
        let anyone = hash_type & hash_type::ANYONECANPAY as u32 != 0;
        let single_or_none =
            base == u32::from(hash_type::NONE) || base == u32::from(hash_type::SINGLE);
        budget.charge_hashed(script_code.len() as u64 + 192)?;

        let prevouts = if anyone { [0; 32] } else { self.hash_prevouts(view, budget)? };
        let sequences =
            if anyone || single_or_none { [0; 32] } else { self.hash_sequences(view, budget)? };
        let outputs = if !single_or_none {
            self.hash_outputs(view, budget)?
        } else if base == u32::from(hash_type::SINGLE) && input_index < view.output_count() {
            let output = view.output_bytes(input_index);
            budget.charge_hashed(output.len() as u64)?;
            sha256d(&[output])
        } else {
            [0; 32]
        };

        let input = view.input_bytes(input_index);
        let mut head = [0u8; 4 + 32 + 32 + 36 + 9];
        head[..4].copy_from_slice(&view.version().to_le_bytes());
        head[4..36].copy_from_slice(&prevouts);
        head[36..68].copy_from_slice(&sequences);
        head[68..104].copy_from_slice(&input[..36]);
        let head_len = 104 + put_compact_size(&mut head[104..], script_code.len() as u64);
        let mut tail = [0u8; 8 + 4 + 32 + 4 + 4];
        tail[..8].copy_from_slice(&value_sat.to_le_bytes());
        tail[8..12].copy_from_slice(&input[input.len() - 4..]);
        tail[12..44].copy_from_slice(&outputs);
        tail[44..48].copy_from_slice(&view.lock_time().to_le_bytes());
        tail[48..].copy_from_slice(&hash_type.to_le_bytes());
        Ok(sha256d(&[&head[..head_len], script_code, &tail]))
    }

    fn hash_prevouts(
        &mut self,
        view: &TxView<'_>,
        budget: &mut Budget,
    ) -> Result<[u8; 32], BudgetPart> {
        let inputs = view.input_count();
        once(&mut self.prevouts, 36 * inputs as u64, budget, || {
            gather::<36>(inputs, |i, out| out.copy_from_slice(&view.input_bytes(i)[..36]))
        })
    }

    fn hash_sequences(
        &mut self,
        view: &TxView<'_>,
        budget: &mut Budget,
    ) -> Result<[u8; 32], BudgetPart> {
        let inputs = view.input_count();
        once(&mut self.sequences, 4 * inputs as u64, budget, || {
            gather::<4>(inputs, |i, out| {
                let input = view.input_bytes(i);
                out.copy_from_slice(&input[input.len() - 4..]);
            })
        })
    }

    fn hash_outputs(
        &mut self,
        view: &TxView<'_>,
        budget: &mut Budget,
    ) -> Result<[u8; 32], BudgetPart> {
        let bytes = view.outputs_bytes();
        once(&mut self.outputs, bytes.len() as u64, budget, || sha256d(&[bytes]))
    }

    fn original_digest(
        &mut self,
        view: &TxView<'_>,
        input_index: usize,
        hash_type: u32,
        script_code: &[u8],
        budget: &mut Budget,
    ) -> Result<[u8; 32], BudgetPart> {
        let base = hash_type & BASE_MASK;
        let single = base == u32::from(hash_type::SINGLE);
        let none = base == u32::from(hash_type::NONE);
        let inputs = view.input_count();
        if input_index >= inputs || single && input_index >= view.output_count() {
            return Ok(ONE);
        }
        let anyone = hash_type & hash_type::ANYONECANPAY as u32 != 0;
        let prefix = if single || none { &mut self.bare } else { &mut self.whole };

        // Walking the script code for separators costs more than hashing it.
        let mut bytes = 3 * script_code.len() as u64 + 128;
        if !anyone {
            let known = prefix.reusable_inputs(input_index);
            bytes += (BLANK_INPUT_BYTES * (inputs - 1 - known)) as u64;
        }
        bytes += if none {
            0
        } else if single {
            9 * input_index as u64 + view.output_bytes(input_index).len() as u64
        } else {
            view.outputs_bytes().len() as u64
        };
        budget.charge_hashed(bytes)?;

        let mut state = if anyone {
            let mut state = Sha256::new();
            state.update(view.version().to_le_bytes());
            state.update([1]);
            state
        } else {
            prefix.behind(view, input_index, single || none)
        };
        let input = view.input_bytes(input_index);
        state.update(&input[..36]);
        write_original_script_code(&mut state, script_code);
        state.update(&input[input.len() - 4..]);
        if !anyone {
            write_blank_inputs(&mut state, view, input_index + 1..inputs, single || none);
        }
        let mut size = [0; 9];
        if none {
            state.update([0]);
        } else if single {
            let len = put_compact_size(&mut size, input_index as u64 + 1);
            state.update(&size[..len]);
            write_blank_outputs(&mut state, input_index);
            state.update(view.output_bytes(input_index));
        } else {
            let len = put_compact_size(&mut size, view.output_count() as u64);
            state.update(&size[..len]);
            state.update(view.outputs_bytes());
        }
        let mut tail = [0; 8];
        tail[..4].copy_from_slice(&view.lock_time().to_le_bytes());
        tail[4..].copy_from_slice(&hash_type.to_le_bytes());
        state.update(tail);
        Ok(Sha256::digest(state.finalize()).into())
    }
}

impl Prefix {
    /// How many blanked inputs before `input_index` need no hashing any more.
    fn reusable_inputs(&self, input_index: usize) -> usize {
        if self.state.is_some() && self.inputs <= input_index { self.inputs } else { 0 }
    }

    /// The hash state behind the inputs before `input_index`; remembered for the next input.
    fn behind(&mut self, view: &TxView<'_>, input_index: usize, zero_sequences: bool) -> Sha256 {
        let state = match &mut self.state {
            Some(state) if self.inputs <= input_index => state,
            other => {
                let mut state = Sha256::new();
                state.update(view.version().to_le_bytes());
                let mut size = [0; 9];
                let len = put_compact_size(&mut size, view.input_count() as u64);
                state.update(&size[..len]);
                self.inputs = 0;
                other.insert(state)
            }
        };
        write_blank_inputs(state, view, self.inputs..input_index, zero_sequences);
        self.inputs = input_index;
        state.clone()
    }
}

/// A hash that every input of a transaction shares: charged for and made by the first that asks.
fn once(
    known: &mut Option<[u8; 32]>,
    bytes: u64,
    budget: &mut Budget,
    make: impl FnOnce() -> [u8; 32],
) -> Result<[u8; 32], BudgetPart> {
    if let Some(hash) = *known {
        return Ok(hash);
    }
    budget.charge_hashed(bytes)?;
    Ok(*known.insert(make()))
}

/// Hashes `count` items of `N` bytes in groups, twice.
fn gather<const N: usize>(count: usize, fill: impl Fn(usize, &mut [u8])) -> [u8; 32] {
    let mut state = Sha256::new();
    let mut group = [[0u8; N]; GROUP];
    let mut at = 0;
    while at < count {
        let many = GROUP.min(count - at);
        for (offset, item) in group[..many].iter_mut().enumerate() {
            fill(at + offset, item);
        }
        state.update(group[..many].as_flattened());
        at += many;
    }
    Sha256::digest(state.finalize()).into()
}

fn write_blank_inputs(
    state: &mut Sha256,
    view: &TxView<'_>,
    range: core::ops::Range<usize>,
    zero_sequences: bool,
) {
    let mut group = [[0u8; BLANK_INPUT_BYTES]; GROUP];
    let mut at = range.start;
    while at < range.end {
        let many = GROUP.min(range.end - at);
        for (offset, blank) in group[..many].iter_mut().enumerate() {
            let input = view.input_bytes(at + offset);
            blank[..36].copy_from_slice(&input[..36]);
            if !zero_sequences {
                blank[37..].copy_from_slice(&input[input.len() - 4..]);
            }
        }
        state.update(group[..many].as_flattened());
        at += many;
    }
}

/// Outputs before the one that SINGLE signs: value -1, empty script.
fn write_blank_outputs(state: &mut Sha256, count: usize) {
    const BLANK: [u8; 9] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
    let group = [BLANK; GROUP];
    let mut left = count;
    while left > 0 {
        let many = GROUP.min(left);
        state.update(group[..many].as_flattened());
        left -= many;
    }
}

/// Writes a script code as the original digest does: without its code separators.
///
/// The length prefix counts the whole script code less the separators found. If an instruction does not parse, the
/// reference stops writing at the position where parsing failed (the failing opcode and its length bytes are written,
/// the rest is not) but leaves the prefix as it is. Prefix and bytes then disagree; signatures over scripts with garbage
/// behind an OP_RETURN depend on it. Pinned by `sighash_cases` and `signature_cases` ("return-truncated").
fn write_original_script_code(state: &mut Sha256, script_code: &[u8]) {
    let mut separators = 0u64;
    let mut at = 0;
    let stop = loop {
        match instruction(script_code, at) {
            Ok(step) => {
                separators += u64::from(step.opcode == OP_CODESEPARATOR);
                at = step.next;
            }
            Err(stop) => break stop.at,
        }
    };
    let mut size = [0; 9];
    let len = put_compact_size(&mut size, script_code.len() as u64 - separators);
    state.update(&size[..len]);

    let (mut start, mut at) = (0, 0);
    while separators > 0
        && let Ok(step) = instruction(script_code, at)
    {
        if step.opcode == OP_CODESEPARATOR {
            state.update(&script_code[start..step.next - 1]);
            start = step.next;
            separators -= 1;
        }
        at = step.next;
    }
    state.update(&script_code[start..stop]);
}

fn put_compact_size(out: &mut [u8], value: u64) -> usize {
    let bytes = value.to_le_bytes();
    let (mark, width) = match value {
        0..=0xfc => {
            out[0] = bytes[0];
            return 1;
        }
        0xfd..=0xffff => (0xfd, 2),
        0x1_0000..=0xffff_ffff => (0xfe, 4),
        _ => (0xff, 8),
    };
    out[0] = mark;
    out[1..=width].copy_from_slice(&bytes[..width]);
    1 + width
}

/// Double SHA-256 of parts, one after the other.
fn sha256d(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Sha256::new();
    for part in parts {
        state.update(part);
    }
    Sha256::digest(state.finalize()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::TxId;
    use crate::tx::{self, OutPoint, Tx, TxIn, TxLayout, TxOut};

    fn transaction(inputs: usize, script_bytes: usize) -> Vec<u8> {
        Tx {
            version: 2,
            inputs: (0..inputs)
                .map(|i| TxIn {
                    prev: OutPoint { txid: TxId([i as u8; 32]), vout: i as u32 },
                    unlocking_script: vec![0x51; script_bytes],
                    sequence: i as u32,
                    coin: None,
                })
                .collect(),
            outputs: vec![TxOut { value_sat: 1, locking_script: vec![0x51; 25] }; 3],
            lock_time: 9,
        }
        .to_bytes()
    }

    fn charged(body: impl FnOnce(&mut Budget)) -> u64 {
        let mut budget = Budget::UNLIMITED;
        body(&mut budget);
        u64::MAX - budget.hashed_bytes
    }

    #[test]
    fn sixty_thousand_inputs_of_ten_megabytes_hash_blanked_inputs_once_in_front() {
        // Naively 60,000 digests of 10 MB are 600 GB. Scripts of other inputs are blank, and what stands in front of an
        // input was hashed for the one before; what stands behind has to be hashed each time: 41 bytes an input.
        let inputs = 60_000;
        let bytes = transaction(inputs, 126);
        assert!(bytes.len() > 10_000_000);
        let mut layout = TxLayout::new();
        let view = tx::parse(&bytes, &mut layout).expect("a transaction");
        let mut cache = SighashCache::new();
        let mut digest = |input: usize| {
            charged(|budget| {
                cache.digest(&view, input, 1, 0, &[0x51; 25], false, budget).expect("no bound");
            })
        };
        for (input, blanks) in
            [(0, inputs - 1), (1, inputs - 1), (2, inputs - 2), (59_000, inputs - 3), (59_001, 999)]
        {
            let cost = digest(input);
            assert!(cost.abs_diff(blanks as u64 * 41) < 600, "input {input}: {cost}");
        }
        assert!(digest(59_999) < 60_000);
        let all = (0..inputs as u64).map(|i| (inputs as u64 - i) * 41 + 400).sum::<u64>();
        assert!(all < 75_000_000_000);
    }

    #[test]
    fn the_parts_all_inputs_share_are_hashed_once() {
        let bytes = transaction(100, 10);
        let mut layout = TxLayout::new();
        let view = tx::parse(&bytes, &mut layout).expect("a transaction");
        let mut cache = SighashCache::new();
        let mut digest = |input: usize, hash_type: u32| {
            charged(|budget| {
                cache
                    .digest(&view, input, hash_type, 5, &[0x51; 25], true, budget)
                    .expect("no bound");
            })
        };
        assert!(digest(0, 0x41) > 4_000);
        assert!(digest(1, 0x41) < 256);
        assert!(digest(99, 0xc3) < 256);
    }

    #[test]
    fn a_digest_above_the_budget_is_not_made() {
        let bytes = transaction(100, 10);
        let mut layout = TxLayout::new();
        let view = tx::parse(&bytes, &mut layout).expect("a transaction");
        let mut budget = Budget { hashed_bytes: 3_000, ..Budget::UNLIMITED };
        for fork_id in [false, true] {
            let got = SighashCache::new().digest(&view, 0, 0x41, 0, &[], fork_id, &mut budget);
            assert_eq!(got, Err(BudgetPart::HashedBytes));
        }
    }

    #[test]
    fn single_without_its_output_signs_one_in_the_original_digest_and_zeros_in_the_other() {
        let bytes = transaction(5, 1);
        let mut layout = TxLayout::new();
        let view = tx::parse(&bytes, &mut layout).expect("a transaction");
        let mut cache = SighashCache::new();
        let mut digest = |hash_type: u32, fork_id: bool| {
            cache
                .digest(&view, 4, hash_type, 0, &[], fork_id, &mut Budget::UNLIMITED.clone())
                .expect("no bound")
        };
        assert_eq!(digest(0x03, false), ONE);
        assert_eq!(digest(0x63, true), ONE, "Chronicle's opt-in is the original digest");
        assert_ne!(digest(0x43, true), ONE);
    }

    #[test]
    #[should_panic(expected = "without a reset")]
    fn a_cache_is_not_used_for_two_transactions() {
        let mut cache = SighashCache::new();
        for inputs in [1, 2] {
            let bytes = transaction(inputs, 1);
            let mut layout = TxLayout::new();
            let view = tx::parse(&bytes, &mut layout).expect("a transaction");
            cache
                .digest(&view, 0, 1, 0, &[], false, &mut Budget::UNLIMITED.clone())
                .expect("no bound");
        }
    }
}
