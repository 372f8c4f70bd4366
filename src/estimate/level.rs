use super::cusum::{Change, Cusum};
use super::speed::SpeedFactor;

/// How much slower a server has become for good, as a logarithm: by another graphics card, or by a program
/// that has come to stay. All that is kept of its costs is as before.
#[derive(Debug, Clone, Default)]
pub(super) struct PersistentShift {
    now: f64,
    watch: Cusum,
}

impl PersistentShift {
    /// Takes note of how slow a job was beside that, and tells of a new level. `before` is what was known
    /// of the machine before the job.
    pub(super) fn note(&mut self, slowness: f64, before: &SpeedFactor) -> Option<Change> {
        let (usual, deviation) = (before.usual(), before.deviation());
        let change = self.watch.note(slowness, usual, deviation)?;
        self.now += change.by;
        Some(change)
    }

    pub(super) fn now(&self) -> f64 {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_up() {
        let mut level = PersistentShift::default();
        let machine = SpeedFactor::default();
        for (change, jobs, sum) in [(1.4, 5, 1.4), (-0.9, 12, 0.5)] {
            let changes = (0..jobs).filter_map(|_| level.note(change, &machine));
            assert_eq!(changes.count(), 1);
            assert!((level.now() - sum).abs() < 1e-9, "{level:?}");
        }
    }
}
