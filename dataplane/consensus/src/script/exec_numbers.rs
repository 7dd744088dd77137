//! Arithmetic opcodes.
//!
//! Operands of at most 63 bits are added, multiplied and divided in `i128` without allocation. Longer ones are compared
//! bytewise, and go through the big-number library only for real arithmetic, after its predicted cost was charged.

use core::cmp::Ordering;
use dashu_int::IBig;

use super::error::ScriptError;
use super::exec::{Exec, Stop};
use super::number::{self, Encoded, Number};
use super::opcode::*;
use super::sigcheck::SigCheck;
use super::stack::Span;

impl<S: SigCheck> Exec<'_, S> {
    /// Decodes an item under the coin's number limit.
    #[inline]
    pub fn number(&mut self, span: Span) -> Result<Number<'_>, Stop> {
        self.budget.charge_touched(span.len())?;
        let bytes = self.stack.bytes(&self.sources, span);
        number::check(bytes, self.limits.number_bytes, self.minimal)?;
        Ok(number::decode(bytes))
    }

    /// Decodes an item that was decoded before.
    #[inline]
    fn again(&self, span: Span) -> Number<'_> {
        number::decode(self.stack.bytes(&self.sources, span))
    }

    pub fn number_opcode(&mut self, opcode: u8) -> Result<(), Stop> {
        match opcode {
            OP_1ADD..=OP_0NOTEQUAL => self.unary(opcode),
            OP_WITHIN => self.within(),
            OP_LSHIFTNUM | OP_RSHIFTNUM => self.shift_number(opcode == OP_LSHIFTNUM),
            _ => self.binary(opcode),
        }
    }

    fn unary(&mut self, opcode: u8) -> Result<(), Stop> {
        self.stack.need(1)?;
        let item = self.stack.top(1);
        let bounded = matches!(opcode, OP_1ADD | OP_1SUB | OP_2MUL);
        match self.number(item)? {
            Number::Small(value) => {
                let value = i128::from(value);
                let result = match opcode {
                    OP_1ADD => value + 1,
                    OP_1SUB => value - 1,
                    OP_2MUL => value * 2,
                    OP_2DIV => value / 2,
                    OP_NEGATE => -value,
                    OP_ABS => value.abs(),
                    OP_NOT => i128::from(value == 0),
                    _ => i128::from(value != 0),
                };
                self.replace_small(1, result, bounded)
            }
            big @ Number::Big(_) => {
                let negative = big.is_negative();
                match opcode {
                    OP_NOT | OP_0NOTEQUAL => {
                        self.replace_small(1, i128::from(opcode == OP_0NOTEQUAL), false)
                    }
                    OP_NEGATE | OP_ABS => {
                        let mut shortest = number::minimal(self.bytes(item));
                        if opcode == OP_NEGATE {
                            shortest.last ^= 0x80;
                        } else if negative {
                            shortest.last &= 0x7f;
                        }
                        self.budget.charge_touched(item.len())?;
                        self.stack.pop();
                        self.push_minimal(item, shortest)
                    }
                    _ => {
                        self.budget.charge_bignum(number::linear_cost(item.len()))?;
                        let value = self.again(item).to_big();
                        let result = match opcode {
                            OP_1ADD => value + IBig::ONE,
                            OP_1SUB => value - IBig::ONE,
                            OP_2MUL => value << 1,
                            _ => value / IBig::from(2),
                        };
                        self.replace_big(1, result, bounded)
                    }
                }
            }
        }
    }

    fn binary(&mut self, opcode: u8) -> Result<(), Stop> {
        self.stack.need(2)?;
        let (a_item, b_item) = (self.stack.top(2), self.stack.top(1));
        self.number(a_item)?;
        self.number(b_item)?;
        let (a, b) = (self.again(a_item), self.again(b_item));
        if b.is_zero() {
            match opcode {
                OP_DIV => return Err(ScriptError::DivByZero.into()),
                OP_MOD => return Err(ScriptError::ModByZero.into()),
                _ => {}
            }
        }
        let truth = match opcode {
            OP_ADD | OP_SUB | OP_MUL | OP_DIV | OP_MOD => {
                return self.arithmetic(opcode, a_item, b_item);
            }
            OP_MIN | OP_MAX => {
                // The reference takes b where the comparison does not hold; equal numbers encode equally.
                let take_a = a.compare(b)
                    == if opcode == OP_MIN { Ordering::Less } else { Ordering::Greater };
                let item = if take_a { a_item } else { b_item };
                let shortest = number::minimal(self.bytes(item));
                self.budget.charge_touched(item.len())?;
                self.stack.pop_many(2);
                return self.push_minimal(item, shortest);
            }
            OP_BOOLAND => !a.is_zero() && !b.is_zero(),
            OP_BOOLOR => !a.is_zero() || !b.is_zero(),
            OP_NUMEQUAL | OP_NUMEQUALVERIFY => a.compare(b).is_eq(),
            OP_NUMNOTEQUAL => a.compare(b).is_ne(),
            OP_LESSTHAN => a.compare(b).is_lt(),
            OP_GREATERTHAN => a.compare(b).is_gt(),
            OP_LESSTHANOREQUAL => a.compare(b).is_le(),
            OP_GREATERTHANOREQUAL => a.compare(b).is_ge(),
            _ => return Err(ScriptError::BadOpcode.into()),
        };
        if opcode == OP_NUMEQUALVERIFY {
            if !truth {
                return Err(ScriptError::NumEqualVerify.into());
            }
            self.stack.pop_many(2);
            return Ok(());
        }
        self.stack.pop_many(2);
        Ok(self.stack.push_bool(truth)?)
    }

    fn arithmetic(&mut self, opcode: u8, a_item: Span, b_item: Span) -> Result<(), Stop> {
        let bounded = matches!(opcode, OP_ADD | OP_SUB | OP_MUL);
        let (a, b) = (self.again(a_item), self.again(b_item));
        if let (Number::Small(a), Number::Small(b)) = (a, b) {
            let (a, b) = (i128::from(a), i128::from(b));
            let result = match opcode {
                OP_ADD => a + b,
                OP_SUB => a - b,
                OP_MUL => a * b,
                // Both truncate toward zero; the remainder has the sign of the dividend.
                OP_DIV => a / b,
                _ => a % b,
            };
            return self.replace_small(2, result, bounded);
        }
        let (a_len, b_len) = (a_item.len(), b_item.len());
        self.budget.charge_bignum(match opcode {
            OP_ADD | OP_SUB => number::linear_cost(a_len + b_len),
            OP_MUL => number::multiply_cost(a_len, b_len),
            _ => number::divide_cost(a_len, b_len),
        })?;
        let (a, b) = (self.again(a_item).to_big(), self.again(b_item).to_big());
        let result = match opcode {
            OP_ADD => a + b,
            OP_SUB => a - b,
            OP_MUL => a * b,
            OP_DIV => a / b,
            _ => a % b,
        };
        self.replace_big(2, result, bounded)
    }

    fn within(&mut self) -> Result<(), Stop> {
        self.stack.need(3)?;
        let (x, low, high) = (self.stack.top(3), self.stack.top(2), self.stack.top(1));
        for item in [x, low, high] {
            self.number(item)?;
        }
        let inside = self.again(low).compare(self.again(x)).is_le()
            && self.again(x).compare(self.again(high)).is_lt();
        self.stack.pop_many(3);
        Ok(self.stack.push_bool(inside)?)
    }

    /// LSHIFTNUM multiplies by a power of two, RSHIFTNUM divides by one and truncates toward zero.
    fn shift_number(&mut self, left: bool) -> Result<(), Stop> {
        self.stack.need(2)?;
        let by = self.number(self.stack.top(1))?.clamped();
        if by < 0 {
            return Err(ScriptError::InvalidNumberRange.into());
        }
        let item = self.stack.top(2);
        let value = self.number(item)?;
        let encoded_len = value.encoded_len() as u64;
        let small = match value {
            Number::Small(value) => Some(value),
            Number::Big(_) => None,
        };
        if left {
            // The size test comes before the shift, so shifting zero too far fails although zero would be the result.
            let size = encoded_len.saturating_add(by as u64 / 8);
            if size > self.limits.number_bytes {
                return Err(ScriptError::ScriptNumOverflow.into());
            }
            if let Some(value) = small
                && (value == 0 || by < 63)
            {
                let value = i128::from(value);
                return self.replace_small(2, if value == 0 { 0 } else { value << by }, true);
            }
            self.budget
                .charge_bignum(number::linear_cost(item.len().saturating_add((by / 8) as usize)))?;
            let result = self.again(item).to_big() << by as usize;
            return self.replace_big(2, result, true);
        }
        // SV Node hands the count to a function of an int and throws above its range.
        if by > i64::from(i32::MAX) {
            return Err(ScriptError::BigInt.into());
        }
        if let Some(value) = small {
            let magnitude = u32::try_from(by)
                .ok()
                .and_then(|by| value.unsigned_abs().checked_shr(by))
                .unwrap_or(0);
            let magnitude = i128::from(magnitude);
            return self.replace_small(2, if value < 0 { -magnitude } else { magnitude }, false);
        }
        self.budget.charge_bignum(number::linear_cost(item.len()))?;
        let (sign, magnitude) = self.again(item).to_big().into_parts();
        self.replace_big(2, IBig::from_parts(sign, magnitude >> by as usize), false)
    }

    /// Replaces `popped` operands by a result. `bounded`: from Genesis on its size is tested.
    fn replace_small(&mut self, popped: usize, result: i128, bounded: bool) -> Result<(), Stop> {
        let encoded = Encoded::new(result);
        self.test_result(encoded.bytes().len(), bounded)?;
        self.stack.pop_many(popped);
        Ok(self.stack.push_bytes(encoded.bytes())?)
    }

    fn replace_big(&mut self, popped: usize, result: IBig, bounded: bool) -> Result<(), Stop> {
        let encoded = number::encode_big(result);
        self.test_result(encoded.len(), bounded)?;
        self.stack.room_for(encoded.len(), popped)?;
        self.stack.pop_many(popped);
        Ok(self.stack.push_bytes(&encoded)?)
    }

    fn test_result(&self, len: usize, bounded: bool) -> Result<(), ScriptError> {
        if bounded && self.after_genesis && len as u64 > self.limits.number_bytes {
            return Err(ScriptError::ScriptNumOverflow);
        }
        Ok(())
    }
}
