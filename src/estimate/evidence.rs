use crate::job::Role;

/// The largest absolute residual that counts: a factor of about 12.
const MAX_RESIDUAL: f64 = 2.5;

/// The shortest time in a residual, in seconds: below it the delays of frames dominate.
const MIN_SECONDS: f64 = 1e-3;

/// The share of a node's time that counts where it reads or writes files: the disk's speed says little
/// about the machine's.
const FILE_WEIGHT: f64 = 0.05;

/// How many times the expected seconds a node's time counts at most: one that takes far longer than
/// expected is an accident of its own.
const MAX_FACTOR: f64 = 3.0;

/// What the nodes of one job show of the machine's speed: a weighted mean of the residuals
/// `rᵢ = ln(secondsᵢ / expectedᵢ)`.
///
/// The weight of a node is its own time, `wᵢ = min(secondsᵢ, 3·expectedᵢ) + expectedᵢ`.
#[derive(Debug, Default)]
pub(super) struct SpeedEvidence {
    weight: f64,
    /// `Σ wᵢ·rᵢ`
    residual: f64,
}

impl SpeedEvidence {
    /// Evidence of this weight, in seconds, for one log factor.
    pub(super) fn prior(weight: f64, log_factor: f64) -> Self {
        Self {
            weight,
            residual: weight * log_factor,
        }
    }

    /// Adds a node that took `seconds` where `expected` were predicted.
    pub(super) fn add(&mut self, role: Role, seconds: f64, expected: f64) {
        let weight = weight(role, seconds, expected);
        self.weight += weight;
        self.residual += weight * residual(seconds, expected);
    }

    /// Adds evidence of this weight, in seconds, for one log factor.
    pub(super) fn add_factor(&mut self, weight: f64, log_factor: f64) {
        self.weight += weight;
        self.residual += weight * log_factor;
    }

    /// The sum of the weights, in seconds.
    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    /// The log factor, shrunk to a prior `ln f₀` of the weight `w₀`:
    /// `ln f = (Σ wᵢ·rᵢ + w₀·ln f₀) / (Σ wᵢ + w₀)`.
    pub(super) fn shrunk_to(&self, prior: f64, prior_weight: f64) -> f64 {
        match self.weight + prior_weight {
            weight if weight > 0.0 => (self.residual + prior_weight * prior) / weight,
            _ => 0.0,
        }
    }

    /// The log factor.
    pub(super) fn log_factor(&self) -> f64 {
        self.shrunk_to(0.0, 0.0)
    }
}

fn weight(role: Role, seconds: f64, expected: f64) -> f64 {
    let time = seconds.min(MAX_FACTOR * expected) + expected;
    match role {
        Role::Loader | Role::Save => FILE_WEIGHT * time,
        _ => time,
    }
}

fn residual(seconds: f64, expected: f64) -> f64 {
    (seconds.max(MIN_SECONDS) / expected.max(MIN_SECONDS))
        .ln()
        .clamp(-MAX_RESIDUAL, MAX_RESIDUAL)
}
