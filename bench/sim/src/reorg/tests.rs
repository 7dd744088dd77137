//! Seeds that must end well, seeds that must say the same twice, and bugs that must be found.

use super::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Seeds of the plain run with power failures; `SIM_CRASH_SEEDS` asks for more.
fn crash_seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let from = number("SIM_CRASH_FROM").unwrap_or(0);
    from..from + number("SIM_CRASH_SEEDS").unwrap_or(500)
}

const CRASH_ROUNDS: u32 = 3;
/// Seeds of each schedule with a name.
const SCHEDULE_SEEDS: u64 = 20;

fn add(sum: &mut CrashRun, run: &CrashRun) {
    sum.crashes += run.crashes;
    sum.crashes_in_recovery += run.crashes_in_recovery;
    sum.crashes_in_blocks += run.crashes_in_blocks;
    sum.acked += run.acked;
    sum.recovered += run.recovered;
    sum.lost += run.lost;
    sum.connected += run.connected;
    sum.checkpoints += run.checkpoints;
    sum.truncated += run.truncated;
    sum.redone += run.redone;
    sum.copied += run.copied;
    sum.stale += run.stale;
    sum.full += run.full;
    sum.given_up += run.given_up;
}

/// Some seeds of a schedule; what they saw.
fn scheduled(schedule: Schedule) -> CrashRun {
    let mut sum = CrashRun::default();
    for seed in 0..SCHEDULE_SEEDS {
        let run = run_crashes(seed, CRASH_ROUNDS, schedule, None);
        add(&mut sum, &run.unwrap_or_else(|failure| panic!("{schedule:?}: {failure}")));
    }
    eprintln!("{schedule:?}: {sum:?}");
    sum
}

#[test]
fn m2_home_first_decisions_whose_spends_were_cut_off_are_finished() {
    let sum = scheduled(Schedule::HomeFirst);
    assert!(sum.redone > 5 && sum.acked > 50 && sum.lost > 10, "{sum:?}");
}

#[test]
fn m2_truncation_copies_decisions_forward_whose_spends_came_later_than_the_checkpoint() {
    let sum = scheduled(Schedule::Straddle);
    assert!(sum.copied > 20 && sum.truncated > 20 && sum.redone > 5, "{sum:?}");
}

#[test]
fn m2_stale_tails_that_the_disk_brings_back_are_passed_over() {
    let sum = scheduled(Schedule::StaleTail);
    assert!(sum.stale > 5 && sum.lost > 10, "{sum:?}");
}

#[test]
fn m5_a_shard_that_hears_of_epochs_from_messages_only_logs_in_none_that_is_older() {
    let sum = scheduled(Schedule::Unheard);
    assert!(sum.acked > 50 && sum.lost > 10, "{sum:?}");
}

#[test]
fn whatever_the_power_does_what_comes_back_is_a_prefix_with_everything_that_was_acknowledged() {
    let seeds = crash_seeds();
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(CrashRun::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let run = run_crashes(seed, CRASH_ROUNDS, Schedule::Drawn, None);
                    let run = run.unwrap_or_else(|failure| panic!("{failure}"));
                    if std::env::var_os("SIM_CRASH_SAY").is_some() {
                        eprintln!("{seed}: {run:?}");
                    }
                    add(&mut sum.lock().expect("a failed seed ends the test"), &run);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no seed failed");
    eprintln!("{seeds:?}: {sum:?}");
    let all = [
        sum.crashes,
        sum.crashes_in_recovery,
        sum.crashes_in_blocks,
        sum.acked,
        sum.recovered,
        sum.lost,
        sum.connected,
        sum.checkpoints,
        sum.truncated,
        sum.redone,
        sum.copied,
        sum.full,
        sum.given_up,
    ];
    assert!(seeds.end - seeds.start < 100 || all.iter().all(|&n| n > 5), "rare: {sum:?}");
}

#[test]
fn a_seed_with_power_failures_says_the_same_twice() {
    let run = || {
        run_crashes(11, CRASH_ROUNDS, Schedule::Drawn, None)
            .unwrap_or_else(|failure| panic!("{failure}"))
    };
    assert_eq!(run(), run());
}

#[test]
fn every_bug_in_what_keeps_things_is_found() {
    for plant in CrashPlant::ALL {
        let found = (0..60).find_map(|seed| {
            let run = std::panic::catch_unwind(|| {
                run_crashes(seed, CRASH_ROUNDS, plant.schedule(), Some(plant))
            });
            // A tile or a keeper that panics has noticed too.
            run.map_or(Some(seed), |run| run.err().map(|_| seed))
        });
        assert!(found.is_some(), "{plant:?} was not found in sixty seeds");
    }
}
