//! The node's resident memory over time. In: a process id, now and then. Out: its size around a moment.

use std::time::Duration;

/// Samples of one process.
#[derive(Debug)]
pub struct Memory {
    samples: Vec<(Duration, f64)>,
}

impl Memory {
    pub fn new() -> Self {
        Self { samples: Vec::new() }
    }

    /// Notes what the process holds now; nothing when it is gone.
    pub fn sample(&mut self, pid: u32, at: Duration) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kb = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
        });
        self.samples.extend(kb.map(|kb| (at, kb / 1_024.0)));
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// The last sample as text.
    pub fn last(&self) -> String {
        self.samples.last().map_or_else(|| "gone".to_owned(), |(_, mb)| format!("{mb:.1} MB"))
    }

    /// Megabytes around a moment: the median and the least of the samples at most `window` from it. Bodies of up to 32 MB come
    /// and go all the time, so one sample says little.
    pub fn around(&self, moment: Duration, window: Duration) -> (f64, f64) {
        let near = |at: &Duration| at.abs_diff(moment) <= window;
        let mut mb: Vec<f64> =
            self.samples.iter().filter(|(at, _)| near(at)).map(|(_, mb)| *mb).collect();
        mb.sort_by(f64::total_cmp);
        let at = |place: usize| mb.get(place).copied().unwrap_or(f64::NAN);
        (at(mb.len() / 2), at(0))
    }

    /// At most `points` samples over the whole time.
    pub fn series(&self, points: usize) -> Vec<f64> {
        let step = self.samples.len().div_ceil(points).max(1);
        self.samples.iter().step_by(step).map(|(_, mb)| (mb * 10.0).round() / 10.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_median_of_its_neighbours_and_this_process_has_a_size() {
        let mut memory = Memory::new();
        memory.samples = (0..100).map(|s| (Duration::from_secs(s), s as f64)).collect();
        memory.samples[50].1 = 9_000.0;
        let (median, least) = memory.around(Duration::from_secs(50), Duration::from_secs(10));
        assert!((median - 51.0).abs() < 2.0 && (least - 40.0).abs() < 1e-9, "{median} {least}");
        assert_eq!(memory.series(10).len(), 10);
        let mut own = Memory::new();
        own.sample(std::process::id(), Duration::ZERO);
        assert!(own.around(Duration::ZERO, Duration::ZERO).0 > 1.0);
    }
}
