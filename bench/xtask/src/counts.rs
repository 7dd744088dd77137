//! How many tests a runner's output says it ran.
//!
//! In: the text a part printed. Out: passed, failed, skipped. Reads the closing lines of `cargo nextest`, of `cargo test`
//! (one for each binary, summed) and the plain line `N passed, N failed, N skipped` that our own tools end with.

/// Tests counted in one output, or summed over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that ran and held.
    pub passed: u64,
    /// Tests that ran and did not hold.
    pub failed: u64,
    /// Tests that did not run.
    pub skipped: u64,
}

impl Counts {
    /// Adds `other` to `self`.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Sums the closing lines found in `output`; `None` when there is none, so the part counts as one test.
    ///
    /// Nextest shows what a failed test printed, closing lines included: beside its summary they do not count.
    pub fn read(output: &str) -> Option<Self> {
        let is_summary = |line: &&str| line.trim().starts_with("Summary [");
        let has_summary = output.lines().any(|line| is_summary(&line));
        let mut sum = None;
        for line in output.lines().filter(|line| !has_summary || is_summary(line)) {
            if let Some(found) = closing_line(line.trim()) {
                sum.get_or_insert_with(Self::default).add(found);
            }
        }
        sum
    }
}

fn closing_line(line: &str) -> Option<Counts> {
    let body = if let Some(rest) = line.strip_prefix("test result: ") {
        rest.split_once(". ")?.1
    } else if line.starts_with("Summary [") {
        line.split_once(" run: ").map(|(_, rest)| rest)?
    } else {
        line
    };
    let plain = body == line;
    let mut counts = Counts::default();
    let mut named = 0;
    for piece in body.split([',', ';']) {
        let mut words = piece.split_whitespace();
        let (Some(number), Some(word)) = (words.next(), words.next()) else { return None };
        let Ok(number) = number.parse::<u64>() else {
            if plain {
                return None;
            }
            continue;
        };
        match word {
            "passed" => counts.passed += number,
            "failed" | "timed" => counts.failed += number,
            "skipped" | "ignored" => counts.skipped += number,
            _ if plain => return None,
            _ => continue,
        }
        named += 1;
    }
    // Prose may hold a number and a word; a closing line of our own always says passed and failed.
    (named > usize::from(plain)).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    #[test]
    fn the_closing_lines_of_cargo_test_are_summed() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                    noise\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Counts::read(text), Some(counts(4, 2, 1)));
    }

    #[test]
    fn the_summary_of_nextest_is_read() {
        let text = "     Summary [   0.012s] 14 tests run: 12 passed (1 flaky), 1 failed, 1 timed out, 3 skipped";
        assert_eq!(Counts::read(text), Some(counts(12, 2, 3)));
        let shown =
            format!("  test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n{text}");
        assert_eq!(Counts::read(&shown), Some(counts(12, 2, 3)), "a failure counts once");
    }

    #[test]
    fn the_plain_line_is_read_and_prose_is_not() {
        assert_eq!(Counts::read("7 passed, 0 failed, 2 skipped"), Some(counts(7, 0, 2)));
        assert_eq!(Counts::read("3 passed, as far as we know"), None);
        assert_eq!(Counts::read("12 files looked at"), None);
        assert_eq!(Counts::read(""), None);
    }
}
