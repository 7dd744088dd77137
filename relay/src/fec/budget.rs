//! How much parity a group gets: enough that an object fails with a given probability, and no more.
//!
//! In: a loss rate, the size of a group, the number of groups. Out: parity symbols a group. The sum is exact: losses of
//! k + r independent packets are binomial, a group fails when more than r are lost, and an object of G groups fails with
//! at most G times that. Bursts are what interleaving is for, and what the estimate of the loss carries in its margin.

/// Probability that more than `r` of `n` packets are lost, each with probability `p`.
pub fn tail(n: u32, r: u32, p: f64) -> f64 {
    if p <= 0.0 || r >= n {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    // The first term in logarithms, since (1 - p)^n of a large group is no number; the others by their ratio.
    let odds = p / (1.0 - p);
    let first = r + 1;
    let choose: f64 = (0..first).map(|i| (f64::from(n - i) / f64::from(i + 1)).ln()).sum();
    let mut term =
        (choose + f64::from(first) * p.ln() + f64::from(n - first) * (1.0 - p).ln()).exp();
    let mut sum = 0.0;
    for lost in first..=n {
        sum += term;
        if term < sum * 1e-12 && f64::from(lost) > f64::from(n) * p {
            break;
        }
        term *= odds * f64::from(n - lost) / f64::from(lost + 1);
    }
    sum.min(1.0)
}

/// Parity symbols a group of `k` needs so that any of `groups` fails with probability at most `target`, up to `r_max`.
///
/// Cost: a binary search, eight sums of at most k + r terms: a few microseconds.
pub fn parity(k: u32, groups: u32, p: f64, target: f64, r_max: u32) -> u32 {
    let fits = |r: u32| f64::from(groups) * tail(k + r, r, p) <= target;
    let (mut low, mut high) = (0, r_max);
    while low < high {
        let middle = u32::midpoint(low, high);
        if fits(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_the_table_of_the_measurements() {
        // reference/relay.md B5: symbols of an object of 1,000,000 and 32,000,000 bytes at 1200 a symbol; parity a group
        // for K = 32, 64, 128, 192 and the whole object, so that any group fails with at most 1e-3.
        #[rustfmt::skip]
        let table: [(u32, f64, [u32; 5]); 6] = [
            (834,    0.01, [4,  5,  7,  9,  19]),
            (834,    0.05, [9,  13, 18, 24, 66]),
            (834,    0.20, [24, 36, 58, 78, 261]),
            (26_667, 0.01, [6,  7,  9,  11, 322]),
            (26_667, 0.05, [11, 15, 22, 27, 1524]),
            (26_667, 0.20, [28, 41, 65, 86, 6951]),
        ];
        for (symbols, p, expected) in table {
            for (k, r) in [32, 64, 128, 192, symbols].into_iter().zip(expected) {
                let got = parity(k, symbols.div_ceil(k), p, 1e-3, 4 * k + 50);
                assert_eq!(got, r, "{symbols} symbols in groups of {k} at {p}");
            }
        }
    }

    #[test]
    fn a_tail_is_what_counting_by_hand_gives() {
        // Two packets, each lost with 0.1: both with 0.01, at least one with 0.19.
        assert!((tail(2, 1, 0.1) - 0.01).abs() < 1e-15);
        assert!((tail(2, 0, 0.1) - 0.19).abs() < 1e-15);
        assert!(tail(5, 5, 0.5) == 0.0);
    }

    #[test]
    fn no_loss_needs_no_parity_and_all_loss_gets_the_cap() {
        assert_eq!(parity(64, 14, 0.0, 1e-3, 64), 0);
        assert_eq!(parity(64, 14, 1.0, 1e-3, 64), 64);
    }

    #[test]
    fn more_loss_never_means_less_parity() {
        let mut before = 0;
        for permille in 0..500 {
            let r = parity(64, 14, f64::from(permille) / 1e3, 1e-3, 192);
            assert!(r >= before, "{permille} permille: {r} after {before}");
            before = r;
        }
    }
}
