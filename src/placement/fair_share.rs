use std::collections::BTreeMap;

use super::waiting_job::WaitingJob;

/// The seconds that a job counts for if its runtime is not known and none was recorded before.
const SECONDS_OF_UNKNOWN: f64 = 1.0;

/// What shares have had of the backends' time, kept between passes.
///
/// Deficit round robin over predicted seconds: the next job is one of the share with the largest deficit, and its
/// seconds reduce it. Here the deficit of a share is how much less it has had than the one that had most. A
/// share that waits for nothing saves nothing up: when it comes back it is level with the one that is furthest behind,
/// unless it has had more.
#[derive(Debug, Clone, Default)]
pub struct FairShare {
    /// The seconds that each share has had.
    had: BTreeMap<Option<u32>, f64>,
    /// Where a share begins that is not known.
    level: f64,
    /// All seconds that were recorded, and of how many jobs.
    recorded: (f64, u64),
}

impl FairShare {
    /// Says which jobs wait; to be called before each pass. Shares that are behind and wait for nothing are forgotten.
    pub fn update(&mut self, waiting: &[WaitingJob]) {
        let mut shares: Vec<Option<u32>> = waiting.iter().map(|job| job.share).collect();
        shares.sort_unstable();
        shares.dedup();
        let known = shares.iter().filter_map(|share| self.had.get(share));
        let level = known.copied().min_by(f64::total_cmp);
        self.level = level.unwrap_or(self.level).max(self.level);
        let level = self.level;
        for share in &shares {
            self.had.entry(*share).or_insert(level);
        }
        let waits = |share: &Option<u32>| shares.binary_search(share).is_ok();
        self.had.retain(|share, had| waits(share) || *had > level);
    }

    /// Records that a job of a share was handed in that is predicted to run for `seconds`. If that is not known (NaN), it
    /// counts as much as the mean of those before it.
    pub fn record_start(&mut self, share: Option<u32>, seconds: f64) {
        let (sum, count) = self.recorded;
        let seconds = if seconds.is_finite() {
            seconds.max(0.0)
        } else if count > 0 {
            sum / count as f64
        } else {
            SECONDS_OF_UNKNOWN
        };
        self.recorded = (sum + seconds, count + 1);
        *self.had.entry(share).or_insert(self.level) += seconds;
    }

    /// The seconds that a share has had.
    pub(super) fn had(&self, share: Option<u32>) -> f64 {
        self.had.get(&share).copied().unwrap_or(self.level)
    }
}
