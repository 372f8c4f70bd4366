//! [`LoadOptions`]: how large the scenarios are, and how long they last.

use std::path::PathBuf;

/// How the scenarios are run.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadOptions {
    /// How many subscribers there are, instead of the scenario's number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) subscribers: Option<u32>,

    /// How often each scenario is run with the relay, and with the floor
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// How long states are published in a round, in seconds
    #[arg(long, default_value_t = 4.0)]
    pub(crate) seconds: f64,

    /// How many states of each job are published a second, in the scenarios with a pace
    #[arg(long, default_value_t = 5.0)]
    pub(crate) rate: f64,

    /// An argument for the relay's `serve`, such as --relay=--publish-rate=10; can be repeated
    #[arg(long, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(crate) relay: Vec<String>,

    /// The relay's program, to compare another build of it; the one of this build by default
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_comfy-relay"))]
    pub(crate) program: PathBuf,
}
