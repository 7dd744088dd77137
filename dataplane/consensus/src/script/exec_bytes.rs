//! Opcodes on byte strings: joining, cutting, bit logic, bit shifts, conversions between numbers and bytes, equality.
//!
//! Items are immutable spans, so cutting makes new spans and copies nothing; everything else appends its result to the
//! arena. Sizes are tested against the stack memory limit before bytes are made.

use super::error::ScriptError;
use super::exec::{Exec, Stop};
use super::limits::ELEMENT_BYTES_MAX_BEFORE_GENESIS;
use super::number::{self, Minimal};
use super::opcode::*;
use super::sigcheck::SigCheck;
use super::stack::Span;

impl<S: SigCheck> Exec<'_, S> {
    pub fn byte_opcode(&mut self, opcode: u8) -> Result<(), Stop> {
        match opcode {
            OP_CAT => self.cat(),
            OP_SPLIT => self.split(),
            OP_NUM2BIN => self.num_to_bin(),
            OP_BIN2NUM => self.bin_to_num(),
            OP_SIZE => {
                self.stack.need(1)?;
                let size = self.stack.top(1).len() as i128;
                Ok(self.stack.push_bytes(number::Encoded::new(size).bytes())?)
            }
            OP_INVERT => self.invert(),
            OP_AND | OP_OR | OP_XOR => self.bit_logic(opcode),
            OP_EQUAL | OP_EQUALVERIFY => self.equal(opcode == OP_EQUALVERIFY),
            OP_LSHIFT | OP_RSHIFT => self.bit_shift(opcode == OP_LSHIFT),
            OP_SUBSTR => self.substr(),
            OP_LEFT | OP_RIGHT => self.left_or_right(opcode == OP_LEFT),
            _ => Err(ScriptError::BadOpcode.into()),
        }
    }

    fn cat(&mut self) -> Result<(), Stop> {
        self.stack.need(2)?;
        let (a, b) = (self.stack.top(2), self.stack.top(1));
        let len = a.len() + b.len();
        if !self.after_genesis && len > ELEMENT_BYTES_MAX_BEFORE_GENESIS {
            return Err(ScriptError::PushSize.into());
        }
        self.budget.charge_touched(len)?;
        self.stack.room_for(len, 2)?;
        self.stack.pop_many(2);
        let joined = self.stack.concatenated(&self.sources, a, b);
        Ok(self.stack.push(joined)?)
    }

    fn split(&mut self) -> Result<(), Stop> {
        self.stack.need(2)?;
        let at = self.number(self.stack.top(1))?.clamped();
        let whole = self.stack.top(2);
        if at < 0 || at as u64 > whole.len() as u64 {
            return Err(ScriptError::InvalidSplitRange.into());
        }
        let at = at as usize;
        self.stack.pop_many(2);
        self.stack.push(whole.part(0, at))?;
        Ok(self.stack.push(whole.part(at, whole.len() - at))?)
    }

    fn num_to_bin(&mut self) -> Result<(), Stop> {
        self.stack.need(2)?;
        let size = self.number(self.stack.top(1))?.clamped();
        if !(0..=i64::from(i32::MAX)).contains(&size)
            || !self.after_genesis && size > ELEMENT_BYTES_MAX_BEFORE_GENESIS as i64
        {
            return Err(ScriptError::PushSize.into());
        }
        let size = size as usize;
        let item = self.stack.top(2);
        self.budget.charge_touched(item.len().max(size))?;
        let shortest = number::minimal(self.bytes(item));
        if shortest.len > size {
            return Err(ScriptError::ImpossibleEncoding.into());
        }
        if shortest.len == size {
            self.stack.pop_many(2);
            return self.push_minimal(item, shortest);
        }
        self.stack.room_for(size, 2)?;
        self.stack.pop_many(2);
        let made = self.stack.append_zeros(size);
        let (new, old) = self.stack.made_mut(&self.sources, made, item);
        if shortest.len > 0 {
            let body = shortest.len - 1;
            new[..body].copy_from_slice(&old[..body]);
            new[body] = shortest.last & 0x7f;
            new[size - 1] |= shortest.last & 0x80;
        }
        Ok(self.stack.push(made)?)
    }

    fn bin_to_num(&mut self) -> Result<(), Stop> {
        self.stack.need(1)?;
        let item = self.stack.top(1);
        self.budget.charge_touched(item.len())?;
        let shortest = number::minimal(self.bytes(item));
        if shortest.len as u64 > self.limits.number_bytes {
            return Err(ScriptError::InvalidNumberRange.into());
        }
        self.stack.pop();
        self.push_minimal(item, shortest)
    }

    /// Pushes the shortest encoding of `item`, which is on no stack any more.
    pub fn push_minimal(&mut self, item: Span, shortest: Minimal) -> Result<(), Stop> {
        if shortest.len == 0 {
            return Ok(self.stack.push(Span::EMPTY)?);
        }
        let part = item.part(0, shortest.len);
        if self.bytes(part)[shortest.len - 1] == shortest.last {
            return Ok(self.stack.push(part)?);
        }
        let made = self.stack.append_item(&self.sources, part);
        self.stack.made_mut(&self.sources, made, Span::EMPTY).0[shortest.len - 1] = shortest.last;
        Ok(self.stack.push(made)?)
    }

    fn invert(&mut self) -> Result<(), Stop> {
        self.stack.need(1)?;
        let item = self.stack.top(1);
        self.budget.charge_touched(item.len())?;
        self.stack.pop();
        let made = self.stack.append_item(&self.sources, item);
        for byte in self.stack.made_mut(&self.sources, made, Span::EMPTY).0 {
            *byte = !*byte;
        }
        Ok(self.stack.push(made)?)
    }

    fn bit_logic(&mut self, opcode: u8) -> Result<(), Stop> {
        self.stack.need(2)?;
        let (a, b) = (self.stack.top(2), self.stack.top(1));
        if a.len() != b.len() {
            return Err(ScriptError::InvalidOperandSize.into());
        }
        self.budget.charge_touched(2 * a.len())?;
        self.stack.pop_many(2);
        let made = self.stack.append_item(&self.sources, a);
        let (new, other) = self.stack.made_mut(&self.sources, made, b);
        for (left, right) in new.iter_mut().zip(other) {
            match opcode {
                OP_AND => *left &= right,
                OP_OR => *left |= right,
                _ => *left ^= right,
            }
        }
        Ok(self.stack.push(made)?)
    }

    fn equal(&mut self, verify: bool) -> Result<(), Stop> {
        self.stack.need(2)?;
        let (a, b) = (self.stack.top(2), self.stack.top(1));
        self.budget.charge_touched(a.len().min(b.len()))?;
        let equal = self.bytes(a) == self.bytes(b);
        if verify {
            if !equal {
                return Err(ScriptError::EqualVerify.into());
            }
            self.stack.pop_many(2);
            return Ok(());
        }
        self.stack.pop_many(2);
        Ok(self.stack.push_bool(equal)?)
    }

    /// Shifts a byte string as one big-endian string of bits; its length stays.
    fn bit_shift(&mut self, left: bool) -> Result<(), Stop> {
        self.stack.need(2)?;
        let by = self.number(self.stack.top(1))?.clamped();
        if by < 0 {
            return Err(ScriptError::InvalidNumberRange.into());
        }
        let item = self.stack.top(2);
        let len = item.len();
        self.budget.charge_touched(2 * len)?;
        self.stack.pop_many(2);
        let made = self.stack.append_zeros(len);
        if (by as u64) < 8 * len as u64 {
            let (bytes, bits) = ((by / 8) as usize, (by % 8) as u32);
            let (new, old) = self.stack.made_mut(&self.sources, made, item);
            // Two neighbouring bytes as one 16-bit window.
            let pair = |high: usize, low: Option<usize>| {
                u16::from(old[high]) << 8
                    | low.and_then(|low| old.get(low)).map_or(0, |&byte| u16::from(byte))
            };
            if left {
                for (index, out) in new[..len - bytes].iter_mut().enumerate() {
                    *out = (pair(index + bytes, Some(index + bytes + 1)) << bits >> 8) as u8;
                }
            } else {
                for (index, out) in new[bytes..].iter_mut().enumerate() {
                    let high = if index == 0 { 0 } else { u16::from(old[index - 1]) << 8 };
                    *out = ((high | u16::from(old[index])) >> bits) as u8;
                }
            }
        }
        Ok(self.stack.push(made)?)
    }

    fn substr(&mut self) -> Result<(), Stop> {
        self.stack.need(3)?;
        let len = self.range_operand(self.stack.top(1))?;
        let from = self.range_operand(self.stack.top(2))?;
        let item = self.stack.top(3);
        let size = item.len() as i64;
        if from < 0 || from >= size || len < 0 || len > size - from {
            return Err(ScriptError::InvalidNumberRange.into());
        }
        self.stack.pop_many(3);
        Ok(self.stack.push(item.part(from as usize, len as usize))?)
    }

    fn left_or_right(&mut self, left: bool) -> Result<(), Stop> {
        self.stack.need(2)?;
        let len = self.range_operand(self.stack.top(1))?;
        let item = self.stack.top(2);
        if len < 0 || len > item.len() as i64 {
            return Err(ScriptError::InvalidNumberRange.into());
        }
        let len = len as usize;
        self.stack.pop_many(2);
        let from = if left { 0 } else { item.len() - len };
        Ok(self.stack.push(item.part(from, len))?)
    }

    /// An operand of SUBSTR, LEFT or RIGHT; see [`number::int32_operand`] for what long ones become.
    fn range_operand(&mut self, span: Span) -> Result<i64, Stop> {
        self.budget.charge_touched(span.len())?;
        let bytes = self.bytes(span);
        number::check(bytes, self.limits.number_bytes, self.minimal)?;
        Ok(number::int32_operand(bytes))
    }
}
