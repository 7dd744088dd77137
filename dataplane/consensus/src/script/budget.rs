//! The budget of a run: how much work the caller is willing to pay for.
//!
//! Consensus knows no limit on processor time, so a node must bring its own. Every opcode charges what it is going to
//! cost *before* it works: one operation and one more for each started [`BYTES_PER_OPERATION`] bytes it touches, the
//! bytes it hashes, and the predicted cost of big-number arithmetic. Running out is not a verdict on the script: it is
//! [`Outcome::BudgetExceeded`](super::Outcome), and the caller decides who runs the script again with more.
//!
//! A run can grow neither stack by more than three items an operation nor its byte arena by more than
//! [`BYTES_PER_OPERATION`] bytes an operation, so a [`Scratch`](super::Scratch) sized for a budget never allocates.

/// Touching this many bytes costs one operation more.
pub const BYTES_PER_OPERATION: u64 = 64;

/// What one signature check that is really made costs, in operations (a check takes some 40 us, an opcode some 20 ns).
pub const SIGNATURE_CHECK_OPERATIONS: u64 = 2_000;

/// What is left of the work a run may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Opcodes, bytes touched in units of [`BYTES_PER_OPERATION`], and signature checks.
    pub operations: u64,
    /// Bytes that go into a hash function, by opcodes and for signature digests.
    pub hashed_bytes: u64,
    /// Predicted cost of arithmetic on numbers above eight bytes. One unit is about a nanosecond: products were measured
    /// between a quarter and a bit over twice of it, from 9 bytes to 32 MB. 0 keeps a run from allocating for numbers.
    pub bignum_cost: u64,
}

/// Which part of the budget was too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BudgetPart {
    /// `Budget::operations`.
    Operations = 1,
    /// `Budget::hashed_bytes`.
    HashedBytes = 2,
    /// `Budget::bignum_cost`.
    BignumCost = 3,
}

impl Budget {
    /// No bound at all: for tests and for callers that stop between opcodes instead.
    pub const UNLIMITED: Budget =
        Budget { operations: u64::MAX, hashed_bytes: u64::MAX, bignum_cost: u64::MAX };

    /// Charges `amount` operations.
    #[inline]
    pub fn charge_operations(&mut self, amount: u64) -> Result<(), BudgetPart> {
        match self.operations.checked_sub(amount) {
            Some(rest) => {
                self.operations = rest;
                Ok(())
            }
            None => Err(BudgetPart::Operations),
        }
    }

    /// Charges for touching `bytes` bytes.
    #[inline]
    pub fn charge_touched(&mut self, bytes: usize) -> Result<(), BudgetPart> {
        self.charge_operations(bytes as u64 / BYTES_PER_OPERATION)
    }

    /// Charges for hashing `bytes` bytes.
    #[inline]
    pub fn charge_hashed(&mut self, bytes: u64) -> Result<(), BudgetPart> {
        match self.hashed_bytes.checked_sub(bytes) {
            Some(rest) => {
                self.hashed_bytes = rest;
                Ok(())
            }
            None => Err(BudgetPart::HashedBytes),
        }
    }

    /// Charges for big-number arithmetic.
    #[inline]
    pub fn charge_bignum(&mut self, cost: u64) -> Result<(), BudgetPart> {
        match self.bignum_cost.checked_sub(cost) {
            Some(rest) => {
                self.bignum_cost = rest;
                Ok(())
            }
            None => Err(BudgetPart::BignumCost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_above_the_rest_takes_nothing() {
        let mut budget = Budget { operations: 5, hashed_bytes: 5, bignum_cost: 5 };
        assert_eq!(budget.charge_operations(6), Err(BudgetPart::Operations));
        assert_eq!(budget.charge_hashed(6), Err(BudgetPart::HashedBytes));
        assert_eq!(budget.charge_bignum(6), Err(BudgetPart::BignumCost));
        assert_eq!(budget, Budget { operations: 5, hashed_bytes: 5, bignum_cost: 5 });
        assert_eq!(budget.charge_operations(5), Ok(()));
        assert_eq!(budget.operations, 0);
    }
}
