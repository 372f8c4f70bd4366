//! What the relay's fan-out costs, compared with the least that any server can do: `cargo bench --bench load`.
//!
//! Each scenario runs the relay and a *floor* in turn, each as a process of its own, and compares
//! them. The floor ([`floor`]) is a loop that writes a finished frame to every socket and does nothing
//! else. One client ([`clients`]) opens the subscribers of both, from many loopback
//! addresses, because between two addresses there are only some 28,000 ports. A publisher
//! ([`publisher`]) posts states as a producer does, and [`tally`] counts what arrives.

mod bare_write;
mod chain;
mod clients;
mod door;
mod figures;
mod flood;
mod floor;
mod frames;
mod leave;
mod options;
mod process;
mod publisher;
mod queue;
mod remembered;
mod remote;
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

use options::LoadOptions;
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

    #[command(flatten)]
    options: LoadOptions,

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
        is_sound &= scenario.measure(&args.options)?;
    }
    Ok(if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
