//! The rules of ownership, explored exhaustively, and compared with what the database does.

mod model;
mod protocol;

use std::sync::Arc;

use jiff::Timestamp;
use stateright::{Checker, HasDiscoveries, Model};

use super::StateVersion;
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
