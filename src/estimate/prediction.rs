use super::interval::IntervalWidth;
use super::service::ServiceTrust;
use super::spread::Spread;
use crate::job::{PlannedNode, Role};
use crate::wire_schema::word_schema;

/// How closely the runs behind a prediction match its node, the closest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchLevel {
    /// Runs of the same signature on the same backend.
    Signature,
    /// Runs of the same class on the same backend.
    Class,
    /// Runs of the same signature or class on other backends.
    OtherBackend,
    /// Runs of other classes with the same role.
    Role,
    /// No runs: the built-in table.
    Default,
}

impl MatchLevel {
    /// All of them.
    const ALL: [Self; 5] = [
        Self::Signature,
        Self::Class,
        Self::OtherBackend,
        Self::Role,
        Self::Default,
    ];

    /// How many levels it is from an exact match: 0 to 4.
    pub(super) fn distance(self) -> u8 {
        self as u8
    }

    /// Its word in the API.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Class => "class",
            Self::OtherBackend => "other_backend",
            Self::Role => "role",
            Self::Default => "table",
        }
    }

    /// The standard deviation of a prediction from such runs, as a share of its seconds.
    pub(super) fn deviation(self, width: IntervalWidth) -> f64 {
        match self {
            Self::Signature => width.deviation(),
            Self::Class => 0.8,
            Self::OtherBackend => 1.0,
            Self::Role => 1.2,
            Self::Default => 1.5,
        }
    }
}

word_schema!(MatchLevel, "The runs behind a prediction.");

/// What a node is expected to cost at its backend's usual speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prediction {
    /// From its start to its end.
    pub(super) seconds: f64,
    /// Seconds of one tick of its bar.
    pub(super) tick: Option<f64>,
    /// The ticks of all its bars.
    pub(super) ticks: Option<f64>,
    /// The spread of the seconds; zero where no runs of this signature show it.
    pub(super) spread: Spread,
    pub(super) match_level: MatchLevel,
    /// How many runs it rests on.
    pub(super) runs: usize,
    /// Whether the node has to wait for its models to be read from the disk.
    pub(super) is_cold: bool,
    /// Whether a run of the node shows how fast the machine is: not if nothing alike has run, nor if
    /// the size of its images is a guess.
    pub(super) shows_speed: bool,
    /// Whether other nodes run beside it.
    pub(super) is_parallel: bool,
    /// How the figures of the service that does its work are to be read.
    pub(super) service: ServiceTrust,
}

impl Prediction {
    /// The prediction for a node whose class is not known.
    pub(super) const UNKNOWN: Self = Self {
        seconds: 0.0,
        tick: None,
        ticks: None,
        spread: Spread {
            excess: 0.0,
            variance: 0.0,
        },
        match_level: MatchLevel::Default,
        runs: 0,
        is_cold: false,
        shows_speed: true,
        is_parallel: false,
        service: ServiceTrust::PRIOR,
    };

    /// The prediction for a node that is unlike all runs so far.
    pub(super) fn from_table(node: &PlannedNode, is_cold: bool) -> Self {
        Self {
            seconds: default_seconds(node.role) * node.units_or_calls(),
            is_cold,
            ..Self::UNKNOWN
        }
    }

    /// The prediction for `copies` runs, one after another.
    pub(super) fn times(self, copies: f64) -> Self {
        Self {
            seconds: self.seconds * copies,
            tick: None,
            ticks: None,
            spread: Spread {
                excess: self.spread.excess * copies,
                variance: self.spread.variance * copies,
            },
            ..self
        }
    }

    /// The prediction at a speed: everything takes `factor` times as long.
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            seconds: self.seconds * factor,
            tick: self.tick.map(|tick| tick * factor),
            spread: self.spread.scaled(factor),
            ..self
        }
    }

    /// The prediction where `runs` runs of the same node in the same job have taken `mean` seconds each: with the weight `w`
    /// of what was predicted, `(runs·mean + w·predicted) / (runs + w)`.
    pub(super) fn measured(self, runs: f64, mean: f64) -> Self {
        let weight = match self.match_level {
            MatchLevel::Signature => 1.0,
            MatchLevel::Class | MatchLevel::OtherBackend => 0.3,
            MatchLevel::Role | MatchLevel::Default => 0.05,
        };
        let seconds = (runs * mean + weight * self.seconds) / (runs + weight);
        let factor = if self.seconds > 0.0 {
            seconds / self.seconds
        } else {
            1.0
        };
        Self {
            seconds,
            match_level: MatchLevel::Signature,
            ..self.scaled(factor)
        }
    }
}

/// Seconds for one unit of work on a common machine. Only the ratios matter: the first nodes that
/// finish show the machine's speed.
fn default_seconds(role: Role) -> f64 {
    match role {
        Role::Loader => 2.0,
        Role::Sampler | Role::Vae => 0.5,
        Role::Text => 0.3,
        Role::Upscale => 2.0,
        Role::Save => 0.2,
        Role::Other => 0.02,
    }
}
