//! What the relay's fan-out costs, compared with the least that any server can do: `cargo bench --bench load`.
//!
//! Each scenario runs the relay and a *floor* in turn, each as a process of its own, and compares
//! them. The floor ([`floor`]) is a loop that writes a finished frame to every socket and does nothing
//! else. One client ([`clients`]) opens the subscribers of both, from many loopback
//! addresses, because between two addresses there are only some 28,000 ports. A publisher
//! ([`publisher`]) posts states as a producer does, and [`tally`] counts what arrives.

mod clients;
mod figures;
mod flood;
mod floor;
mod frames;
mod leave;
mod process;
mod publisher;
mod scenario;
#[path = "../../tests/it/support/scripted_comfy.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests use more of it than the benchmark"
)]
mod scripted_comfy;
mod tally;
mod updates;

use std::process::ExitCode;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use scenario::Scenario;

/// Measure the relay's fan-out, compared with a bare loop of writes
///
/// Prints the medians of all rounds for both, and their ratio. Fails if an update was lost or out of
/// order, or a final state did not arrive exactly once.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
struct Args {
    /// What to measure; everything by default
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,

    /// How many subscribers there are, instead of the scenario's number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: Option<u32>,

    /// How often each scenario is run with the relay, and with the floor
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How long states are published in a round, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,

    /// States that are published of each job a second, in the scenarios with a pace
    #[arg(long, default_value_t = 5.0)]
    rate: f64,

    /// An argument for the relay's `serve`, such as --relay=--publish-rate=10; can be repeated
    #[arg(long, allow_hyphen_values = true, value_name = "ARGUMENT")]
    relay: Vec<String>,

    /// Run as the floor: the tool starts itself with this flag
    #[arg(long, hide = true)]
    floor: bool,

    /// Passed by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // Each subscriber is an open file. The servers inherit the limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    if args.floor {
        return floor::run().map(|()| ExitCode::SUCCESS);
    }
    let scenarios = if args.scenarios.is_empty() {
        Scenario::ALL.to_vec()
    } else {
        args.scenarios.clone()
    };
    figures::print_head();
    let mut is_sound = true;
    for scenario in scenarios {
        is_sound &= scenario.measure(&args)?;
    }
    Ok(if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
