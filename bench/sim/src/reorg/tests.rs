//! Seeds that must end well, seeds that must say the same twice, and bugs that must be found.

use super::*;

/// Seeds of the plain test; `SIM_REORG_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIM_REORG_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

const ROUNDS: u32 = 14;

#[test]
fn blocks_of_others_and_reorganisations_leave_machine_and_shadow_alike() {
    let mut sum = ReorgRun::default();
    let from = std::env::var("SIM_REORG_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in from..from + seeds() {
        let run = run_reorgs(seed, ROUNDS, None).unwrap_or_else(|failure| panic!("{failure}"));
        sum.connected += run.connected;
        sum.disconnected += run.disconnected;
        sum.refused += run.refused;
        sum.evicted += run.evicted;
        sum.restored += run.restored;
        sum.from_pool += run.from_pool;
        sum.accepted += run.accepted;
    }
    let all = [
        sum.connected,
        sum.disconnected,
        sum.refused,
        sum.evicted,
        sum.restored,
        sum.from_pool,
        sum.accepted,
    ];
    assert!(all.iter().all(|&n| n > 5), "something never happened: {sum:?}");
}

#[test]
fn a_seed_says_the_same_twice() {
    let run = || run_reorgs(5, 8, None).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(run(), run());
}

#[test]
fn every_bug_between_conductor_and_tiles_is_found() {
    for plant in BlockPlant::ALL {
        let found = (0..40).find_map(|seed| {
            let run = std::panic::catch_unwind(|| run_reorgs(seed, ROUNDS, Some(plant)));
            // A tile that panics has noticed too.
            run.map_or(Some(seed), |run| run.err().map(|_| seed))
        });
        assert!(found.is_some(), "{plant:?} was not found in forty seeds");
    }
}
