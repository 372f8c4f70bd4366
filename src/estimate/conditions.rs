use super::interval::IntervalWidth;
use super::message_cost::MessageCost;
use super::speed_weights::SpeedWeights;

/// What the model knows of a backend that holds for all nodes of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Conditions {
    /// How many times as long as predicted nodes take on the machine, as a logarithm.
    pub(super) log_speed_factor: f64,
    /// By how much the backend's speed has changed for good, as a log factor. Predictions contain it.
    pub(super) persistent_shift: f64,
    /// How far predictions are off.
    pub(super) width: IntervalWidth,
    /// What the messages about the nodes of a job cost.
    pub(super) message_cost: MessageCost,
    pub(super) weights: SpeedWeights,
}
