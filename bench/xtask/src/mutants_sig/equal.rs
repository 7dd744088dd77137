//! Mutants that compute what the kernel computes: no test can kill them, and here is why.
//!
//! A name is what `cargo xtask mutants-sig` prints. A proof that is not needed any more, because the mutant is killed or is not
//! made, fails the run.

/// Names and proofs.
const EQUAL: &[(&str, &str)] = &[];

/// Why a mutant is no mutant.
pub fn proof(name: &str) -> Option<&'static str> {
    EQUAL.iter().find(|(equal, _)| *equal == name).map(|(_, proof)| *proof)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    EQUAL.iter().map(|(name, _)| *name)
}
