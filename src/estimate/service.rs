//! How far the figures of services are off that do the work of partner nodes.

/// So many runs do the prior error and its deviation count for.
const PRIOR_RUNS: f64 = 2.0;

/// The standard deviation of a figure's log error before there is evidence: services are off by half.
const PRIOR_DEVIATION: f64 = 0.5;

/// A run counts half as much as one that came this many runs later.
const HALF_LIFE: f64 = 16.0;

/// The largest log error that counts: a factor of 20.
const MAX_ERROR: f64 = 3.0;

/// The figures of one class of partner nodes, compared with what its runs took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ServiceFigures {
    runs: f64,
    errors: f64,
    squares: f64,
}

/// How a figure is to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ServiceTrust {
    /// By which factor the work takes longer than a figure says, as a log factor.
    pub(super) log_error: f64,
    /// The standard deviation of that.
    pub(super) deviation: f64,
}

impl ServiceTrust {
    /// What is assumed before there is evidence.
    pub(super) const PRIOR: Self = Self {
        log_error: 0.0,
        deviation: PRIOR_DEVIATION,
    };
}

impl ServiceFigures {
    /// Learns from a run that was said to take `stated` seconds in all.
    pub(super) fn learn(&mut self, stated: f64, took: f64) {
        let error = (took.max(1.0) / stated.max(1.0)).ln();
        let error = error.clamp(-MAX_ERROR, MAX_ERROR);
        let decay = 0.5_f64.powf(1.0 / HALF_LIFE);
        self.runs = self.runs * decay + 1.0;
        self.errors = self.errors * decay + error;
        self.squares = self.squares * decay + error * error;
    }

    /// The mean log error `m = Σe / (n + n₀)`, and its standard deviation `√((n₀·σ₀² + Σe²) / (n + n₀) − m²)`.
    pub(super) fn trust(&self) -> ServiceTrust {
        let runs = self.runs + PRIOR_RUNS;
        let log_error = self.errors / runs;
        let square = (PRIOR_RUNS * PRIOR_DEVIATION.powi(2) + self.squares) / runs;
        ServiceTrust {
            log_error,
            deviation: (square - log_error * log_error).max(1e-3).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_held_count_for_more_than_those_that_did_not() {
        let of = |runs: &[(f64, f64)]| {
            let mut figures = ServiceFigures::default();
            runs.iter()
                .for_each(|(stated, took)| figures.learn(*stated, *took));
            figures.trust()
        };
        assert_eq!(of(&[]), ServiceTrust::PRIOR);
        let held = of(&[(30.0, 31.0); 8]);
        let wrong = of(&[(30.0, 90.0), (30.0, 12.0), (30.0, 200.0), (30.0, 30.0)]);
        assert!(held.deviation < PRIOR_DEVIATION && wrong.deviation > PRIOR_DEVIATION);
        // Always half as long as it takes.
        let short = of(&[(20.0, 40.0); 20]);
        assert!((short.log_error.exp() - 1.85).abs() < 0.1, "{short:?}");
    }
}
