//! The rules of ownership, explored exhaustively, compared with what the database does, and tried on a simulated cluster.

mod client;
mod clock;
mod cluster;
mod comfy;
mod database;
mod executor;
mod faults;
mod follower;
mod held_job;
mod model;
mod network;
mod process;
mod protocol;
mod publishing;
mod redis;
mod registration;
mod rows;
mod subscriber;
mod tasks;

use std::sync::Arc;

use jiff::Timestamp;
use stateright::{Checker, HasDiscoveries, Model};

use super::{HeldState, Ownership, RowDecision, RowState, StateVersion};
use crate::config::StoreConfig;
use crate::job::{Job, JobId};
use crate::relay::stored_job;
use crate::store::{LeaseOwner, Store};
use model::{ModelRow, Source, Write, accepts};
use protocol::Protocol;

/// How many faults a job of a backend has at most. `MODEL_FAULTS` sets another number.
const BACKEND_FAULTS: u8 = 2;

/// The same for one of a producer: both relays may take its reports at any time, so there are many more orders.
const PRODUCER_FAULTS: u8 = 1;

#[test]
fn the_rules_hold_for_a_job_of_a_backend_in_every_order_of_steps_and_faults() {
    explore(Source::Backend, BACKEND_FAULTS);
}

#[test]
fn the_rules_hold_for_a_job_of_a_producer_in_every_order_of_steps_and_faults() {
    explore(Source::Producer, PRODUCER_FAULTS);
}

/// The seed of the first run of the cluster; each run has the next one. `CLUSTER_SEED` sets another.
const SEED: u64 = 2_026;

/// How many runs there are; a quiet machine takes seven seconds. `CLUSTER_RUNS` sets another number.
const RUNS: u64 = 1_000;

/// How many threads share the runs.
const THREADS: u64 = 2;

fn variable(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().unwrap())
}

#[test]
fn each_job_has_one_writer_and_one_end_in_a_cluster_under_random_faults() {
    let first = variable("CLUSTER_SEED", SEED);
    let seeds = first..first + variable("CLUSTER_RUNS", RUNS);
    println!("seeds {seeds:?}");
    let run = |thread: u64| {
        let seeds = seeds.clone().filter(|seed| seed % THREADS == thread);
        let run = |seed| (seed, cluster::run(seed));
        let failed = seeds.map(run).filter(|(_, problems)| !problems.is_empty());
        failed.collect::<Vec<_>>()
    };
    let failed = std::thread::scope(|scope| {
        let threads: [_; THREADS as usize] =
            std::array::from_fn(|thread| scope.spawn(move || run(thread as u64)));
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    for (seed, problems) in &failed {
        let problems = problems.join("\n  ");
        println!("CLUSTER_SEED={seed} CLUSTER_RUNS=1:\n  {problems}");
    }
    assert_eq!(failed.len(), 0, "so many runs fail, see above");
}

/// What they found is rare: an end under a low number, a job that was never written, an owner without a lease.
#[test]
fn seeds_that_have_found_faults_find_none() {
    for seed in [2_692, 2_764, 3_340, 6_716] {
        assert_eq!(cluster::run(seed), Vec::<String>::new(), "{seed}");
    }
}

fn explore(source: Source, max_faults: u8) {
    let given = std::env::var("MODEL_FAULTS");
    let max_faults = given.map_or(max_faults, |faults| faults.parse().unwrap());
    let checker = Protocol { source, max_faults }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AllFailures)
        .spawn_bfs()
        .join();
    println!(
        "{source:?}: {} states, {} steps deep, with {max_faults} faults",
        checker.unique_state_count(),
        checker.max_depth()
    );
    // A broken rule panics with its trace.
    checker.assert_properties();
}

/// It was registered while the lease changed hands, and has ended before its row was read again.
#[test]
fn a_former_owner_writes_the_end_of_a_job_that_is_its_own_again() {
    let row = RowState {
        is_ours: true,
        version: StateVersion { epoch: 1, seq: 1 },
        has_ended: false,
    };
    let held = |ownership| HeldState {
        ownership,
        version: StateVersion { epoch: 1, seq: 9 },
        has_ended: true,
    };
    let decide = |ownership| row.meet(Some(held(ownership)));
    assert_eq!(decide(Ownership::FormerOwner), RowDecision::Record);
    let is_being_written = RowDecision::Keep(Ownership::Owner);
    assert_eq!(decide(Ownership::Owner), is_being_written);
}

/// The statement of the database decides as the model does.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_accepts_what_the_model_accepts() {
    let store = Store::open(&StoreConfig::default());
    store.migrate().await.unwrap();
    let owners = [(0, 0), (1, 0)].map(|name| (name, Arc::new(LeaseOwner::new())));
    let now = Timestamp::now();
    let mut number = 0;
    let record = |id: &JobId, owner: &Arc<LeaseOwner>, write: Write| {
        let mut job = Job::new(id.clone(), now);
        let mut progress = job.publish(0.5, None, now);
        progress.seq = write.version.seq;
        if write.has_ended {
            progress.status = crate::job::Status::Completed;
        }
        stored_job::record(&job, None, progress, (owner, write.version.epoch))
    };
    let writes: Vec<Write> = [(1, 1), (1, 2), (2, 1), (2, 2)]
        .into_iter()
        .flat_map(|(epoch, seq)| {
            let version = StateVersion { epoch, seq };
            [false, true].map(|has_ended| Write { version, has_ended })
        })
        .collect();
    for before in &writes {
        for after in &writes {
            for (writer, owner) in &owners {
                number += 1;
                let id = JobId::parse(&format!("job-{number}")).unwrap();
                let first = record(&id, &owners[0].1, *before);
                assert_eq!(store.upsert(&[first]).await.unwrap(), []);
                let row = ModelRow::written(Some(owners[0].0), before.version, before.has_ended);
                let moved = store.upsert(&[record(&id, owner, *after)]).await.unwrap();
                let is_accepted = moved.is_empty();
                assert_eq!(
                    is_accepted,
                    accepts(&row, *writer, *after),
                    "{after:?} of {writer:?} over {row:?}"
                );
            }
        }
    }
}
