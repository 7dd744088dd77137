//! The processor under a thread: which cores there are, binding to one of them, and its tick counter.
//!
//! The only system calls and processor instructions a driver needs. Nothing here allocates after start, nothing here is
//! needed for correctness: a core that could not be pinned turns its tiles all the same, and its owner is told.

/// The processor said no.
#[derive(Debug, thiserror::Error)]
#[error(
    "binding this thread to core {core} failed ({source}); this process may use cores {allowed:?}; \
     choose a layout within them or give the process more (cpuset, taskset)"
)]
pub struct PinError {
    /// The core that was asked for.
    pub core: usize,
    /// The cores this process may use.
    pub allowed: Vec<usize>,
    /// What the operating system answered.
    #[source]
    pub source: std::io::Error,
}

/// Cores this process may use, in ascending order; never empty.
pub fn allowed_cores() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    {
        if let Ok(set) = rustix::thread::sched_getaffinity(None) {
            let cores: Vec<usize> =
                (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
            if !cores.is_empty() {
                return cores;
            }
        }
    }
    (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).collect()
}

/// Binds the calling thread to `core`.
pub fn pin_to(core: usize) -> Result<(), PinError> {
    let fail = |source| PinError { core, allowed: allowed_cores(), source };
    #[cfg(target_os = "linux")]
    {
        if core >= rustix::thread::CpuSet::MAX_CPU {
            return Err(fail(std::io::ErrorKind::InvalidInput.into()));
        }
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(None, &set).map_err(|errno| fail(errno.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(fail(std::io::ErrorKind::Unsupported.into()))
    }
}

/// The tick counter of this processor, or zero where there is none.
#[inline]
#[allow(unsafe_code)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: `rdtsc` only reads a counter and exists on every x86-64 processor; where the kernel forbids it to user
        // code (prctl PR_SET_TSC) the process gets a signal, as for any other forbidden instruction.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        0
    }
}

/// A reading of the tick counter where it runs at one speed on every core, in every sleep state; otherwise nothing.
pub fn steady_ticks() -> Option<u64> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        // The kernel has compared the cores' counters with each other; if it trusts them enough to keep time by them, so
        // do we. A guest whose kernel keeps time by its hypervisor's clock shows the two flags instead.
        let source = std::fs::read_to_string(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        );
        if source.is_ok_and(|s| s.trim() == "tsc") || has_flags(&["constant_tsc", "nonstop_tsc"]) {
            return Some(ticks());
        }
    }
    None
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_flags(wanted: &[&str]) -> bool {
    let Ok(info) = std::fs::read_to_string("/proc/cpuinfo") else { return false };
    info.lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| wanted.iter().all(|w| flags.split_ascii_whitespace().any(|f| f == *w)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_bound_to_any_core_it_may_use() {
        for core in allowed_cores() {
            std::thread::spawn(move || {
                pin_to(core).expect("an allowed core");
                assert_eq!(allowed_cores(), [core]);
            })
            .join()
            .expect("pinned thread");
        }
    }

    #[test]
    fn a_core_that_does_not_exist_is_refused_and_the_message_says_what_to_try() {
        let error = pin_to(100_000).expect_err("no machine has that core");
        let text = error.to_string();
        assert!(text.contains("core 100000") && text.contains("layout"), "{text}");
    }
}
