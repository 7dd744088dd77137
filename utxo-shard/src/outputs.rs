//! The outputs of raw transaction bytes, one after the other, resumable.
//!
//! Shards get transactions that validators have parsed, so this walk only has to find the outputs; it stops at bytes that are no
//! transaction instead of trusting that. It holds offsets and no borrow, so a walk can go on in a later turn.

/// Where a walk stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputWalk {
    at: usize,
    inputs_left: u64,
    outputs: Option<u32>,
    next: u32,
}

/// One output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output<'a> {
    pub vout: u32,
    pub value_sat: u64,
    pub locking_script: &'a [u8],
}

/// What a step of a walk found.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// An input was passed.
    Input,
    /// An output.
    Output(Output<'a>),
    /// Nothing is left but the lock time.
    End,
    /// Not a transaction.
    Bad,
}

impl OutputWalk {
    /// The start of `raw`.
    pub fn new(raw: &[u8]) -> Option<Self> {
        let mut at = 4;
        let inputs_left = compact(raw, &mut at)?;
        Some(Self { at, inputs_left, outputs: None, next: 0 })
    }

    /// Number of outputs, once every input is passed; `None` before, or where the bytes end.
    pub fn outputs(&mut self, raw: &[u8]) -> Option<u32> {
        if self.inputs_left > 0 {
            return None;
        }
        if self.outputs.is_none() {
            self.outputs = Some(u32::try_from(compact(raw, &mut self.at)?).ok()?);
        }
        self.outputs
    }

    /// Inputs that are not passed yet.
    pub fn inputs_left(&self) -> u64 {
        self.inputs_left
    }

    /// Number of the next output.
    pub fn next_output(&self) -> u32 {
        self.next
    }

    /// Byte offset of the next step.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// One item further.
    pub fn step<'a>(&mut self, raw: &'a [u8]) -> Step<'a> {
        self.try_step(raw).unwrap_or(Step::Bad)
    }

    fn try_step<'a>(&mut self, raw: &'a [u8]) -> Option<Step<'a>> {
        if self.inputs_left > 0 {
            let mut at = self.at + 36;
            let script = compact(raw, &mut at)?;
            let end = at.checked_add(usize::try_from(script).ok()?)?.checked_add(4)?;
            if end > raw.len() {
                return None;
            }
            self.at = end;
            self.inputs_left -= 1;
            return Some(Step::Input);
        }
        if self.next == self.outputs(raw)? {
            return (raw.len() == self.at + 4).then_some(Step::End);
        }
        let value = raw.get(self.at..self.at + 8)?;
        let value_sat = u64::from_le_bytes(value.try_into().ok()?);
        let mut at = self.at + 8;
        let script = usize::try_from(compact(raw, &mut at)?).ok()?;
        let locking_script = raw.get(at..at.checked_add(script)?)?;
        let vout = self.next;
        self.next += 1;
        self.at = at + script;
        Some(Step::Output(Output { vout, value_sat, locking_script }))
    }
}

fn compact(raw: &[u8], at: &mut usize) -> Option<u64> {
    let first = *raw.get(*at)?;
    let take = |n: usize| {
        let mut b = [0; 8];
        b[..n].copy_from_slice(raw.get(*at + 1..*at + 1 + n)?);
        Some((u64::from_le_bytes(b), n + 1))
    };
    let (n, len) = match first {
        0xfd => take(2)?,
        0xfe => take(4)?,
        0xff => take(8)?,
        n => (u64::from(n), 1),
    };
    *at += len;
    Some(n)
}

/// True if no input can ever spend an output with this script, so that no coin is made of it.
///
/// Source: SV Node `script.h` `CScript::IsUnspendable` (reference: consensus.md, coins): from Genesis on `OP_FALSE OP_RETURN`;
/// before it also a bare `OP_RETURN`, and anything above 10,000 bytes.
pub(crate) fn is_unspendable(locking_script: &[u8], genesis: bool) -> bool {
    const SCRIPT_BYTES_MAX_BEFORE_GENESIS: usize = 10_000;
    let data = locking_script.starts_with(&[0x00, 0x6a]);
    data || !genesis
        && (locking_script.first() == Some(&0x6a)
            || locking_script.len() > SCRIPT_BYTES_MAX_BEFORE_GENESIS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::hash::TxId;
    use consensus::tx::{OutPoint, Tx, TxIn, TxOut};

    fn sample(outputs: usize) -> Tx {
        let prev = OutPoint { txid: TxId([7; 32]), vout: 1 };
        let input = TxIn { prev, unlocking_script: vec![1; 300], sequence: 0, coin: None };
        let outputs = (0..outputs)
            .map(|i| TxOut { value_sat: i as i64, locking_script: vec![0x51; i % 260] })
            .collect();
        Tx { version: 1, inputs: vec![input; 3], outputs, lock_time: 9 }
    }

    #[test]
    fn every_output_is_found_in_order() {
        let tx = sample(600);
        let raw = tx.to_bytes();
        let mut walk = OutputWalk::new(&raw).expect("a transaction");
        let mut seen = 0;
        loop {
            match walk.step(&raw) {
                Step::Input => {}
                Step::Output(o) => {
                    assert_eq!(o.vout as usize, seen);
                    assert_eq!(o.value_sat, seen as u64);
                    assert_eq!(o.locking_script, tx.outputs[seen].locking_script);
                    seen += 1;
                }
                Step::End => break,
                Step::Bad => panic!("bad at {}", walk.offset()),
            }
        }
        assert_eq!(seen, 600);
    }

    #[test]
    fn cut_bytes_are_no_transaction() {
        let raw = sample(3).to_bytes();
        for cut in 0..raw.len() {
            let raw = &raw[..cut];
            let bad = OutputWalk::new(raw).is_none_or(|mut walk| {
                loop {
                    match walk.step(raw) {
                        Step::Bad => break true,
                        Step::End => break false,
                        _ => {}
                    }
                }
            });
            assert!(bad, "{cut} bytes passed");
        }
    }

    #[test]
    fn what_can_never_be_spent_depends_on_the_era() {
        assert!(is_unspendable(&[0, 0x6a, 1, 2], true));
        assert!(is_unspendable(&[0, 0x6a], false));
        assert!(!is_unspendable(&[0x6a, 1, 2], true));
        assert!(is_unspendable(&[0x6a, 1, 2], false));
        assert!(is_unspendable(&vec![0x51; 10_001], false));
        assert!(!is_unspendable(&vec![0x51; 10_001], true));
    }
}
