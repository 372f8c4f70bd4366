/// What is known of a backend when jobs are placed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackendLoad {
    /// Seconds until all prompts that it has have ended, those of other clients included; NaN if that is not known.
    pub free_in: f64,
    /// How many more prompts it takes now.
    pub room: usize,
    /// Whether it takes jobs at all. One that is paused, drained, sick, stalled or unreachable gets none, and a job
    /// is planned on it only if no backend that takes jobs can run it.
    pub takes: bool,
    /// The model that is loaded when it is free, as a key; `None` if none or not known.
    pub model: Option<u64>,
    /// When it last got a job, as the number of that job among all that were handed in; 0 if never. Of
    /// backends where a job ends at the same time, the one that got its last job earliest goes first.
    pub turn: u64,
}
