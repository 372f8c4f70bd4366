/// How much of what nodes show belongs to the machine's speed, and how much to themselves. `report --nested`
/// compares other weights with those in use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeedWeights {
    /// The weight of the machine's speed so far beside what the nodes of a job show that ended, in seconds.
    pub prior: f64,
    /// The same beside what the nodes of a running job show, as a share of the job's expected seconds.
    pub running_prior: f64,
    /// The share of a job's log speed factor that is taken out of its costs; the rest is the nodes' own.
    pub trust: f64,
    /// The share of the machine's log speed factor that is expected of the next job.
    pub carry_over: f64,
}

impl Default for SpeedWeights {
    fn default() -> Self {
        Self {
            prior: 2.0,
            running_prior: 0.45,
            trust: 0.9,
            carry_over: 0.65,
        }
    }
}
