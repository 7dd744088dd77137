//! Mutants that compute what the kernel computes: no test can kill them, and here is why.
//!
//! A name is what `cargo xtask mutants-sig` prints. A proof that is not needed any more, because the mutant is killed or is not
//! made, fails the run.

const OVERWRITTEN: &str = "the place is written before it is read, in every lane and group";
const FACTOR: &str = "the first factor of Montgomery's trick: it is in the inverse of the whole and in the product before each, and cancels, whatever it is but 0";
const SLOWER: &str =
    "the same items are judged in smaller or emptier rounds; lanes do not influence each other";
const ZERO: &str = "the other column is still 0 there, as this one is: squares begin with empty columns in this order";
const TWICE: &str = "2x is 0 modulo p only where x is";
const ROUNDING: &str = "c1 or c2 is off by one at most, and k1 + k2 lambda = k for every c; halves stay below 2.5 (A1 + A2) < 3.2 * 2^128 in size, and 2^130 is what digits hold";
const SIGN: &str = "the vector is added in place of taken away: the sum is the same, and the half stays below 1.5 (A1 + A2) < 2^129 in size";

/// Names and proofs.
#[rustfmt::skip]
const EQUAL: &[(&str, &str)] = &[
    ("batch.rs judge `*` -> `+` (3)", SLOWER),
    ("batch.rs judge `>` -> `>=`", SLOWER),
    ("batch.rs judge `1` -> `2` (2)", SLOWER),
    ("batch.rs digits `scalar::ONE` -> `bend(scalar::ONE, 0)`", FACTOR),
    ("batch.rs digits `scalar::ONE` -> `bend(scalar::ONE, 2)`", FACTOR),
    ("batch.rs digits `scalar::ONE` -> `bend(scalar::ONE, 3)`", FACTOR),
    ("batch.rs digits `scalar::N` -> `bend(scalar::N, 0)`", "u1 is even and n odd, so the bit that is turned is the lowest of n - u1, which `whole_digits` shifts out"),
    ("batch.rs groups `-` -> `+`", "lanes without an item hold another one's numbers, and their answers are not read; there are slots enough"),
    ("ecmult.rs Judge `0` -> `1`", OVERWRITTEN),
    ("ecmult.rs Judge `1` -> `2`", TWICE),
    ("ecmult.rs words `0` -> `1`", OVERWRITTEN),
    ("ecmult.rs keys `0` -> `1`", OVERWRITTEN),
    ("ecmult.rs keys `1` -> `2` (3)", TWICE),
    ("ecmult.rs keys `0` -> `1` (10)", OVERWRITTEN),
    ("ecmult.rs window `>` -> `>=`", "where the window ends with the word, bits of the next go above it and are masked off"),
    ("ecmult.rs window `&&` -> `||`", "where the window does not cross, bits of the next word go above it and are masked off (a shift by 64 gives 0); it never crosses the end of the last word"),
    ("ecmult.rs window `<` -> `<=`", "no window crosses the end of the last word: 26 windows of 5 bits end at bit 130 of 192, those of 16 bits end with their words"),
    ("ecmult.rs look_up_key `0` -> `1`", OVERWRITTEN),
    ("ecmult.rs look_up_key `0` -> `1` (2)", OVERWRITTEN),
    ("ecmult.rs look_up_fixed `0` -> `1`", OVERWRITTEN),
    ("ecmult.rs sum_of_products `0` -> `1`", OVERWRITTEN),
    ("ecmult.rs sum_of_products `false` -> `true`", "all points are added as their negatives: the sum is the negative of the sum, and has its x"),
    ("ecmult.rs sum_of_products `FIXED_WINDOW` -> `bend(FIXED_WINDOW, 0)` (2)", "a seventeenth bit above the digit: the row takes fifteen, the sign is the sixteenth"),
    ("ecmult.rs sum_of_products `ask_for_rows::<L, N>(fixed, groups, bit);` -> ``", "a hint to the processor; rows that were not asked for are read all the same"),
    ("field.rs cross_0 `1` -> `2` (2)", ZERO),
    ("field.rs cross_0 `2` -> `3` (2)", ZERO),
    ("field.rs cross_0 `3` -> `4` (2)", ZERO),
    ("field.rs cross_0 `4` -> `5` (2)", ZERO),
    ("field.rs cross_0 `5` -> `6` (2)", ZERO),
    ("field.rs cross_0 `6` -> `7` (2)", ZERO),
    ("field.rs cross_0 `7` -> `8` (2)", ZERO),
    ("field.rs cross_0 `8` -> `9` (2)", ZERO),
    ("field.rs reduce `0` -> `1` (3)", OVERWRITTEN),
    ("fixed.rs build `0` -> `1`", OVERWRITTEN),
    ("fixed.rs fill `0` -> `1` (2)", OVERWRITTEN),
    ("fixed.rs fill `1` -> `2` (2)", "two groups with the same numbers in both; the first is written down"),
    ("fixed.rs coordinates `0` -> `1`", OVERWRITTEN),
    ("fixed.rs AddAll `1` -> `2`", FACTOR),
    ("fixed.rs AddAll `0` -> `1`", FACTOR),
    ("fixed.rs AddAll `0` -> `1` (2)", FACTOR),
    ("fixed.rs AddAll `0` -> `1` (3)", FACTOR),
    ("fixed.rs AddAll `0` -> `1` (4)", FACTOR),
    ("point.rs new `0` -> `1`", OVERWRITTEN),
    ("point.rs new `0` -> `1` (2)", OVERWRITTEN),
    ("point.rs build_tables `MULTIPLES` -> `bend(MULTIPLES, 0)` (4)", "the last multiple is rescaled too, by the ratio of the last two Z, and so are all others and the Z that is given back: the table stands in another frame, as one"),
    ("scalar.rs mul `0` -> `1` (8)", "the low word of this sum is 0 modulo 2^64 by the choice of m, so one more does not carry, and that word is dropped"),
    ("scalar.rs mul `N` -> `bend(N, 0)` (2)", "word 0 of n is not read there: the loop begins with word 1"),
    ("scalar.rs rounded `0u64` -> `1u64`", ROUNDING),
    ("scalar.rs rounded `0` -> `1` (2)", ROUNDING),
    ("scalar.rs rounded `5` -> `6`", ROUNDING),
    ("scalar.rs split_odd `ROUND_1` -> `bend(ROUND_1, 0)`", ROUNDING),
    ("scalar.rs split_odd `ROUND_1` -> `bend(ROUND_1, 2)`", ROUNDING),
    ("scalar.rs split_odd `ROUND_2` -> `bend(ROUND_2, 0)`", ROUNDING),
    ("scalar.rs split_odd `ROUND_2` -> `bend(ROUND_2, 2)`", ROUNDING),
    ("scalar.rs split_odd `>>` -> `<<`", SIGN),
    ("scalar.rs split_odd `!=` -> `==`", SIGN),
    ("scalar.rs split_odd `0` -> `1` (6)", SIGN),
    ("zmm.rs store `0` -> `1`", OVERWRITTEN),
];

/// Why a mutant is no mutant.
pub fn proof(name: &str) -> Option<&'static str> {
    EQUAL.iter().find(|(equal, _)| *equal == name).map(|(_, proof)| *proof)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    EQUAL.iter().map(|(name, _)| *name)
}
