//! The loop over one script, and every opcode that is neither arithmetic, byte-string work nor a signature check.
//!
//! [`Exec`] borrows everything one script needs for one slice of its run; nothing in it outlives the slice. Opcodes
//! return [`Stop`] to end the run: a script error, an exceeded budget or a full batch of deferred checks.
//!
//! Source: SV Node `script/interpreter.cpp` `EvalScript`; consensus rules 2.5, 2.6.

use super::TxContext;
use super::budget::{Budget, BudgetPart};
use super::check_cache::CheckCache;
use super::conditional::ConditionalTracker;
use super::error::ScriptError;
use super::flags::Flags;
use super::limits::{
    CoinLimits, ELEMENT_BYTES_MAX_BEFORE_GENESIS, LOCKTIME_BYTES_MAX,
    STACK_ITEMS_MAX_BEFORE_GENESIS,
};
use super::number;
use super::opcode::*;
use super::sigcheck::SigCheck;
use super::stack::{Source, Sources, Span, Stack};
use crate::sighash::SighashCache;

/// Lock times below are heights, from here on seconds since 1970.
const LOCKTIME_THRESHOLD: i64 = 500_000_000;
/// Bit 31 of a sequence number: no relative lock.
const SEQUENCE_DISABLED: i64 = 1 << 31;
/// Bit 22: the relative lock counts units of 512 seconds.
const SEQUENCE_IS_TIME: i64 = 1 << 22;
/// The bits of a sequence number that a relative lock compares.
const SEQUENCE_MASK: i64 = SEQUENCE_IS_TIME | 0xffff;

/// Why a run ends before its last opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Error(ScriptError),
    Budget(BudgetPart),
    BatchFull,
}

impl From<ScriptError> for Stop {
    #[inline]
    fn from(error: ScriptError) -> Self {
        Stop::Error(error)
    }
}

impl From<BudgetPart> for Stop {
    #[inline]
    fn from(part: BudgetPart) -> Self {
        Stop::Budget(part)
    }
}

/// How a slice of a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    /// The slice's opcodes are used up.
    More,
    /// The script has ended well.
    Ended,
}

/// What an opcode means for the script.
enum Next {
    Go,
    ScriptEnds,
}

/// Position and counters of one script; survives between slices.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    pub at: usize,
    /// Behind the last executed code separator.
    pub code_start: usize,
    /// Counted operations.
    pub operations: u64,
    /// An OP_RETURN was met inside an IF: nothing runs any more, but the rest must parse and balance.
    pub returned: bool,
}

/// One slice of one script.
pub(super) struct Exec<'r, S> {
    pub script: &'r [u8],
    pub script_source: Source,
    /// What follows the script in its script code (Chronicle: the locking script, while the unlocking one runs).
    pub code_tail: &'r [u8],
    pub sources: Sources<'r>,
    pub stack: &'r mut Stack,
    pub open: &'r mut ConditionalTracker,
    pub frame: &'r mut Frame,
    pub checks: &'r mut CheckCache,
    pub code: &'r mut Vec<u8>,
    pub needle: &'r mut Vec<u8>,
    pub flags: Flags,
    pub limits: CoinLimits,
    /// Chronicle's relaxation for transaction versions above 1.
    pub relaxed: bool,
    /// MINIMALDATA, where not relaxed.
    pub minimal: bool,
    pub after_genesis: bool,
    pub after_chronicle: bool,
    pub tx: &'r TxContext<'r>,
    pub sighash: &'r mut SighashCache,
    pub checker: &'r mut S,
    pub budget: &'r mut Budget,
}

impl<S: SigCheck> Exec<'_, S> {
    /// Runs up to `opcodes` opcodes, counts them down.
    pub fn run(&mut self, opcodes: &mut u64) -> Result<Slice, Stop> {
        while self.frame.at < self.script.len() {
            if *opcodes == 0 {
                return Ok(Slice::More);
            }
            *opcodes -= 1;
            self.budget.charge_operations(1)?;
            let step =
                instruction(self.script, self.frame.at).map_err(|_| ScriptError::BadOpcode)?;
            self.frame.at = step.next;
            let opcode = step.opcode;
            let data_len = step.next - step.data_start;
            if data_len > ELEMENT_BYTES_MAX_BEFORE_GENESIS && !self.after_genesis {
                return Err(ScriptError::PushSize.into());
            }
            let executes = self.open.all_true() && (!self.frame.returned || opcode == OP_RETURN);
            if opcode > OP_16 {
                self.frame.operations += 1;
                if self.frame.operations > self.limits.operations {
                    return Err(ScriptError::OpCount.into());
                }
            }
            if matches!(opcode, OP_2MUL | OP_2DIV)
                && !self.after_chronicle
                && (!self.after_genesis || executes)
            {
                return Err(ScriptError::DisabledOpcode.into());
            }
            if opcode <= OP_PUSHDATA4 {
                if executes {
                    let data = Span::new(self.script_source, step.data_start, data_len);
                    if self.minimal
                        && !is_minimal_push(&self.script[step.data_start..step.next], opcode)
                    {
                        return Err(ScriptError::MinimalData.into());
                    }
                    self.stack.push(data)?;
                }
            } else if (executes || matches!(opcode, OP_IF..=OP_ENDIF))
                && let Next::ScriptEnds = self.execute(opcode, executes)?
            {
                return Ok(Slice::Ended);
            }
            if !self.after_genesis && self.stack.total_items() > STACK_ITEMS_MAX_BEFORE_GENESIS {
                return Err(ScriptError::StackSize.into());
            }
            self.stack.compact_if_grown();
        }
        if self.open.is_empty() {
            Ok(Slice::Ended)
        } else {
            Err(ScriptError::UnbalancedConditional.into())
        }
    }

    fn execute(&mut self, opcode: u8, executes: bool) -> Result<Next, Stop> {
        match opcode {
            OP_1NEGATE => self.stack.push_bytes(&[0x81])?,
            OP_1..=OP_16 => self.stack.push_bytes(&[opcode - OP_1 + 1])?,
            OP_NOP => {}
            OP_NOP1 | OP_NOP9 | OP_NOP10 => self.upgradable_nop()?,
            OP_CHECKLOCKTIMEVERIFY => self.check_lock_time()?,
            OP_CHECKSEQUENCEVERIFY => self.check_sequence()?,
            OP_SUBSTR..=OP_RSHIFTNUM if !self.after_chronicle => self.upgradable_nop()?,
            OP_VER => {
                if !self.after_chronicle {
                    return Err(ScriptError::BadOpcode.into());
                }
                self.stack.push_bytes(&self.tx.view.version().to_le_bytes())?;
            }
            OP_IF..=OP_ENDIF => self.conditional(opcode, executes)?,
            OP_RETURN => {
                if !self.after_genesis {
                    return Err(ScriptError::OpReturn.into());
                }
                if self.open.is_empty() {
                    return Ok(Next::ScriptEnds);
                }
                self.frame.returned = true;
            }
            OP_VERIFY => {
                self.stack.need(1)?;
                if !self.truth(self.stack.top(1))? {
                    return Err(ScriptError::Verify.into());
                }
                self.stack.pop();
            }
            OP_TOALTSTACK..=OP_TUCK => self.stack_opcode(opcode)?,
            OP_CAT..=OP_EQUALVERIFY | OP_LSHIFT | OP_RSHIFT | OP_SUBSTR..=OP_RIGHT => {
                self.byte_opcode(opcode)?;
            }
            OP_1ADD..=OP_MOD | OP_BOOLAND..=OP_WITHIN | OP_LSHIFTNUM | OP_RSHIFTNUM => {
                self.number_opcode(opcode)?;
            }
            OP_RIPEMD160..=OP_HASH256 => self.hash_opcode(opcode)?,
            OP_CODESEPARATOR => self.frame.code_start = self.frame.at,
            OP_CHECKSIG | OP_CHECKSIGVERIFY => self.check_sig(opcode == OP_CHECKSIGVERIFY)?,
            OP_CHECKMULTISIG | OP_CHECKMULTISIGVERIFY => {
                self.check_multisig(opcode == OP_CHECKMULTISIGVERIFY)?;
            }
            _ => return Err(ScriptError::BadOpcode.into()),
        }
        Ok(Next::Go)
    }

    /// The bytes of an item.
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.stack.bytes(&self.sources, span)
    }

    /// An item as a condition.
    #[inline]
    pub fn truth(&mut self, span: Span) -> Result<bool, BudgetPart> {
        self.budget.charge_touched(span.len())?;
        Ok(number::is_true(self.bytes(span)))
    }

    fn upgradable_nop(&self) -> Result<(), ScriptError> {
        if self.flags.has(Flags::DISCOURAGE_UPGRADABLE_NOPS) {
            return Err(ScriptError::DiscourageUpgradableNops);
        }
        Ok(())
    }

    fn conditional(&mut self, opcode: u8, executes: bool) -> Result<(), Stop> {
        match opcode {
            OP_ELSE => self
                .open
                .toggle(self.after_genesis)
                .map_err(|()| ScriptError::UnbalancedConditional)?,
            OP_ENDIF => self.open.close().map_err(|()| ScriptError::UnbalancedConditional)?,
            // Not yet Chronicle: an unexecuted VERIF of a Genesis coin is skipped and opens nothing.
            OP_VERIF | OP_VERNOTIF if !self.after_chronicle => {
                if executes || !self.after_genesis {
                    return Err(ScriptError::BadOpcode.into());
                }
            }
            _ => {
                let mut value = false;
                if executes {
                    if self.stack.len() == 0 {
                        return Err(ScriptError::UnbalancedConditional.into());
                    }
                    let top = self.stack.top(1);
                    let by_version = matches!(opcode, OP_VERIF | OP_VERNOTIF);
                    if !by_version
                        && self.flags.has(Flags::MINIMALIF)
                        && !self.relaxed
                        && !matches!(self.bytes(top), [] | [1])
                    {
                        return Err(ScriptError::MinimalIf.into());
                    }
                    // VERIF tests equality with the version's four bytes; the published text says "at least".
                    value = if by_version {
                        self.bytes(top) == self.tx.view.version().to_le_bytes()
                    } else {
                        self.truth(top)?
                    };
                    value ^= matches!(opcode, OP_NOTIF | OP_VERNOTIF);
                    self.stack.pop();
                }
                self.open.open(value);
            }
        }
        Ok(())
    }

    fn stack_opcode(&mut self, opcode: u8) -> Result<(), Stop> {
        let stack = &mut *self.stack;
        match opcode {
            OP_TOALTSTACK => {
                stack.need(1)?;
                stack.move_to_alt();
            }
            OP_FROMALTSTACK => stack.move_from_alt()?,
            OP_2DROP => {
                stack.need(2)?;
                stack.pop_many(2);
            }
            OP_2DUP => {
                stack.need(2)?;
                stack.push(stack.top(2))?;
                stack.push(stack.top(2))?;
            }
            OP_3DUP => {
                stack.need(3)?;
                for _ in 0..3 {
                    stack.push(stack.top(3))?;
                }
            }
            OP_2OVER => {
                stack.need(4)?;
                stack.push(stack.top(4))?;
                stack.push(stack.top(4))?;
            }
            OP_2ROT => {
                stack.need(6)?;
                stack.rotate(6, 2);
            }
            OP_2SWAP => {
                stack.need(4)?;
                stack.rotate(4, 2);
            }
            OP_IFDUP => {
                stack.need(1)?;
                let top = stack.top(1);
                if self.truth(top)? {
                    self.stack.push(top)?;
                }
            }
            OP_DEPTH => {
                let depth = stack.len() as i128;
                stack.push_bytes(number::Encoded::new(depth).bytes())?;
            }
            OP_DROP => {
                stack.need(1)?;
                stack.pop();
            }
            OP_DUP => {
                stack.need(1)?;
                stack.push(stack.top(1))?;
            }
            OP_NIP => {
                stack.need(2)?;
                stack.remove(2);
            }
            OP_OVER => {
                stack.need(2)?;
                stack.push(stack.top(2))?;
            }
            OP_PICK | OP_ROLL => {
                stack.need(2)?;
                let depth = self.number(self.stack.top(1))?.clamped();
                self.stack.pop();
                if depth < 0 || depth as u64 >= self.stack.len() as u64 {
                    return Err(ScriptError::InvalidStackOperation.into());
                }
                let depth = depth as usize + 1;
                if opcode == OP_PICK {
                    self.stack.push(self.stack.top(depth))?;
                } else {
                    // Moving `depth` spans of 16 bytes down is work in proportion to the depth.
                    self.budget.charge_touched(depth.saturating_mul(16))?;
                    let item = self.stack.remove(depth);
                    self.stack.push(item)?;
                }
            }
            OP_ROT => {
                stack.need(3)?;
                stack.rotate(3, 1);
            }
            OP_SWAP => {
                stack.need(2)?;
                stack.swap(1, 2);
            }
            OP_TUCK => {
                stack.need(2)?;
                stack.insert(3, stack.top(1))?;
            }
            _ => return Err(ScriptError::BadOpcode.into()),
        }
        Ok(())
    }

    fn hash_opcode(&mut self, opcode: u8) -> Result<(), Stop> {
        self.stack.need(1)?;
        let item = self.stack.top(1);
        self.budget.charge_hashed(item.len() as u64 + 64)?;
        let bytes = self.stack.bytes(&self.sources, item);
        let mut hash = [0u8; 32];
        let len = match opcode {
            OP_RIPEMD160 => put(&mut hash, &crate::hash::ripemd160(bytes)),
            OP_SHA1 => put(&mut hash, &crate::hash::sha1(bytes)),
            OP_SHA256 => put(&mut hash, &crate::hash::sha256(bytes)),
            OP_HASH160 => put(&mut hash, &crate::hash::hash160(bytes)),
            _ => put(&mut hash, &crate::hash::sha256d(bytes)),
        };
        self.stack.pop();
        self.stack.push_bytes(&hash[..len])?;
        Ok(())
    }

    /// BIP65. The operand stays on the stack.
    fn check_lock_time(&mut self) -> Result<(), Stop> {
        if !self.flags.has(Flags::CHECKLOCKTIMEVERIFY) || self.after_genesis {
            return Ok(self.upgradable_nop()?);
        }
        let operand = self.lock_operand()?;
        let lock_time = i64::from(self.tx.view.lock_time());
        let same_kind = (lock_time < LOCKTIME_THRESHOLD) == (operand < LOCKTIME_THRESHOLD);
        if !same_kind || operand > lock_time || self.sequence() == u32::MAX {
            return Err(ScriptError::UnsatisfiedLocktime.into());
        }
        Ok(())
    }

    /// BIP112. The operand stays on the stack.
    fn check_sequence(&mut self) -> Result<(), Stop> {
        if !self.flags.has(Flags::CHECKSEQUENCEVERIFY) || self.after_genesis {
            return Ok(self.upgradable_nop()?);
        }
        let operand = self.lock_operand()?;
        if operand & SEQUENCE_DISABLED != 0 {
            return Ok(());
        }
        let sequence = i64::from(self.sequence());
        let (have, want) = (sequence & SEQUENCE_MASK, operand & SEQUENCE_MASK);
        let fits = (self.tx.view.version() as u32) >= 2
            && sequence & SEQUENCE_DISABLED == 0
            && (have < SEQUENCE_IS_TIME) == (want < SEQUENCE_IS_TIME)
            && want <= have;
        if fits { Ok(()) } else { Err(ScriptError::UnsatisfiedLocktime.into()) }
    }

    fn lock_operand(&mut self) -> Result<i64, ScriptError> {
        self.stack.need(1)?;
        let bytes = self.bytes(self.stack.top(1));
        number::check(bytes, LOCKTIME_BYTES_MAX, self.minimal)?;
        let operand = number::decode(bytes).clamped();
        if operand < 0 { Err(ScriptError::NegativeLocktime) } else { Ok(operand) }
    }

    fn sequence(&self) -> u32 {
        self.tx.view.input(self.tx.input_index).sequence
    }
}

fn put(out: &mut [u8; 32], hash: &[u8]) -> usize {
    out[..hash.len()].copy_from_slice(hash);
    hash.len()
}

/// Whether `opcode` is the shortest way to push `data`.
///
/// Source: SV Node `CheckMinimalPush`.
fn is_minimal_push(data: &[u8], opcode: u8) -> bool {
    match (data.len(), data) {
        (0, _) => opcode == OP_0,
        (1, &[value @ 1..=16]) => opcode == OP_1 - 1 + value,
        (1, &[0x81]) => opcode == OP_1NEGATE,
        (len @ 1..=75, _) => usize::from(opcode) == len,
        (76..=255, _) => opcode == OP_PUSHDATA1,
        (256..=65_535, _) => opcode == OP_PUSHDATA2,
        _ => true,
    }
}
