//! How good the placement of waiting jobs is: `cargo bench --bench placement`.
//!
//! 300 jobs of five workflows go through three servers of speeds 1, 2 and 4, by a simulated clock. The relay's own
//! estimator learns from the jobs as they end, and knows nothing before. The same jobs are distributed in
//! other ways, and the best schedule is searched with hindsight.

mod eta_log;
mod hindsight;
mod learned;
mod pass_time;
mod policy;
mod sim_job;
mod sim_server;
mod simulation;
mod workflow;

use clap::Parser;

use eta_log::EtaErrors;
use hindsight::Hindsight;
use policy::Policy;
use sim_job::{Arrivals, SimJob};
use simulation::{Outcomes, Simulation};
use workflow::Workflow;

/// Measure how good the placement of waiting jobs is
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench placement --")]
struct Args {
    /// The seeds of the runs
    #[arg(default_values_t = [1, 2, 3])]
    seeds: Vec<u64>,

    /// Passed by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let workflows = Workflow::read_all()?;
    println!("Seconds on the slowest server:");
    for workflow in &workflows {
        let (name, model) = (workflow.name, workflow.model);
        let (seconds, load) = (workflow.seconds, model.load_seconds);
        println!(
            "  {name:34} {seconds:5.1}, and {load:2} to load model {}",
            model.key
        );
    }
    for arrivals in Arrivals::ALL {
        for seed in &args.seeds {
            compare(*seed, arrivals, &workflows);
        }
    }
    pass_time::print();
    Ok(())
}

/// Prints the table of one run.
fn compare(seed: u64, arrivals: Arrivals, workflows: &[Workflow]) {
    let jobs = SimJob::all(seed, arrivals, workflows);
    let run = |policy| Simulation::new(policy, &jobs, workflows).run();
    let runs = Policy::ALL
        .into_iter()
        .map(|policy| (policy.as_str(), run(policy)));
    let runs: Vec<(&str, Outcomes)> = runs.collect();
    let sequences = runs.iter().map(|(_, run)| run.sequences.clone());
    let best = Hindsight::of(seed, &jobs, workflows, sequences);
    println!("\n{} jobs {}, seed {seed}", jobs.len(), arrivals.as_str());
    println!(
        "{:26} {:>9} {:>8} {:>8} {:>9}  {:>9} {:>9} {:>9} {:>9}",
        "",
        "makespan",
        "to best",
        "to bound",
        "mean time",
        "first ETA",
        "at submit",
        "over wait",
        "not shown"
    );
    for (name, run) in &runs {
        print_run(name, run, &best);
    }
    println!(
        "{:26} {:7.0} s {:8.3} {:8.3} {:7.0} s",
        "best found with hindsight",
        best.makespan,
        1.0,
        best.makespan / best.lower_bound,
        best.mean_time
    );
    println!("{:26} {:7.0} s", "lower bound", best.lower_bound);
}

/// Prints one line of the table.
fn print_run(name: &str, run: &Outcomes, best: &Hindsight) {
    let eta = |pick: fn(EtaErrors) -> f64| {
        let share = run.eta.map(pick);
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
    };
    println!(
        "{name:26} {:7.0} s {:8.3} {:8.3} {:7.0} s  {:>9} {:>9} {:>9} {:>9}",
        run.makespan,
        run.makespan / best.makespan,
        run.makespan / best.lower_bound,
        run.mean_time,
        eta(|eta| eta.first),
        eta(|eta| eta.known_at_submission),
        eta(|eta| eta.over_wait),
        eta(|eta| eta.not_shown),
    );
}
