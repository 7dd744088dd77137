//! What became of the rows of one file.
//!
//! A row passes, fails with what was wanted and got, or is skipped with a reason that is counted.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

/// A row that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub row: String,
    pub want: String,
    pub got: String,
}

/// What was wanted and what was got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differs {
    pub want: String,
    pub got: String,
}

/// The result of one check inside a row.
pub type Held = Result<(), Differs>;

/// Holds when both are equal.
pub fn same<T: PartialEq + Debug>(want: &T, got: &T) -> Held {
    if want == got {
        Ok(())
    } else {
        Err(Differs { want: format!("{want:?}"), got: format!("{got:?}") })
    }
}

/// As [`same`], with the name of what is compared.
pub fn same_as<T: PartialEq + Debug>(what: &str, want: &T, got: &T) -> Held {
    same(want, got)
        .map_err(|differs| Differs { want: format!("{what} {}", differs.want), ..differs })
}

/// An error where `what` was wanted.
pub fn wanted<E: Display>(what: &str) -> impl FnOnce(E) -> Differs + '_ {
    move |error| Differs { want: what.to_owned(), got: error.to_string() }
}

/// Holds when `got` is true.
pub fn that(what: &str, got: bool) -> Held {
    if got { Ok(()) } else { Err(Differs { want: what.to_owned(), got: "not so".to_owned() }) }
}

/// Counts of one file, or of many.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// The first failures; as many as a reader can use.
    pub failures: Vec<Failure>,
    /// Reasons of skipped rows and how many rows each.
    pub skips: BTreeMap<String, u64>,
    /// What else was counted: name and count.
    pub notes: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Failures that are kept with their text.
    const KEPT: usize = 100;

    /// Every row is exactly one of the three.
    pub fn rows(&self) -> u64 {
        self.passed + self.failed + self.skipped
    }

    /// Takes the outcome of a row.
    pub fn row(&mut self, row: impl Display, held: Held) {
        match held {
            Ok(()) => self.passed += 1,
            Err(differs) => self.fail(row, &differs.want, &differs.got),
        }
    }

    /// Counts a failed row.
    pub fn fail(&mut self, row: impl Display, want: &str, got: &str) {
        self.failed += 1;
        if self.failures.len() < Self::KEPT {
            let (want, got) = (want.to_owned(), got.to_owned());
            self.failures.push(Failure { row: row.to_string(), want, got });
        }
    }

    /// Counts a row that was not checked.
    pub fn skip(&mut self, why: &str) {
        self.skipped += 1;
        *self.skips.entry(why.to_owned()).or_default() += 1;
    }

    /// Counts something that is less than a row.
    pub fn note(&mut self, what: &'static str, count: u64) {
        *self.notes.entry(what).or_default() += count;
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_counted_once_and_a_failure_says_what_was_wanted() {
        let mut tally = Tally::default();
        tally.row(1, same(&1, &1));
        tally.row(2, same_as("version", &1, &2));
        tally.skip("not built");
        assert_eq!((tally.rows(), tally.passed, tally.failed, tally.skipped), (3, 1, 1, 1));
        let failure =
            Failure { row: "2".to_owned(), want: "version 1".to_owned(), got: "2".to_owned() };
        assert_eq!(tally.failures, [failure]);
    }
}
