//! Takes many jobs into the queue, all or none.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::broker::Hint;
use crate::job::{Job, JobId};
use crate::relay::queue::admission::NewQueuedJob;
use crate::relay::requests::register::{Accepted, Reservation};
use crate::relay::{Relay, RelayError, stored_job};
use crate::store::StoredSubmission;

/// How long the answer waits for the plan that says which backend each job is for.
const PLAN_PATIENCE: Duration = Duration::from_secs(1);

/// How many jobs are registered under one lock.
const JOBS_A_LOCK: usize = 100;

/// When rows are looked for that may have been written without an answer of the database, each after a pause.
const LOOKS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

impl Relay {
    /// Takes jobs into the queue. They and their submissions are written in one transaction: a crash leaves all or none.
    pub(in crate::relay) async fn admit_batch(
        &self,
        reservations: Vec<Reservation>,
        new: Vec<NewQueuedJob>,
    ) -> Result<Vec<Accepted>, RelayError> {
        let tracker = &self.0.tracker;
        let share = new.first().and_then(|job| job.share.as_deref());
        let admitting = self.check_limits(share, new.len())?;
        let now = tracker.now();
        let mut admitted: Vec<(StoredSubmission, Job, NewQueuedJob)> = Vec::new();
        let mut records = Vec::new();
        for (reservation, new) in reservations.iter().zip(new) {
            let stored = self.stored(&reservation.id, &new)?;
            let job = Job::new(reservation.id.clone(), now)
                .tagged(new.tags.clone())
                .waiting(&stored.prompt_id);
            let writer = (&tracker.owner, 0);
            let progress = job.progress(None, now);
            records.push(stored_job::record(&job, None, progress, writer));
            admitted.push((stored, job, new));
        }
        keep_order(&mut admitted);
        let submissions: Vec<_> = admitted.iter().map(|(stored, ..)| stored.clone()).collect();
        let store = tracker.recorder.store();
        match store.add_batch(&submissions, &records).await {
            Ok(true) => {}
            // Another relay has taken one of the ids in this very moment.
            Ok(false) => return Err(RelayError::RequestUnderWay),
            Err(error) => {
                self.adopt_soon(reservations);
                return Err(error.into());
            }
        }
        let mut passes = tracker.queue.passes.subscribe();
        let mut admitted = admitted.into_iter().peekable();
        while admitted.peek().is_some() {
            let mut registry = tracker.registry();
            for (stored, job, new) in admitted.by_ref().take(JOBS_A_LOCK) {
                let entry = registry.insert(job, None, 0);
                entry.publishing.is_acknowledged = true;
                tracker.publish(entry);
                tracker
                    .queue
                    .add(&stored, new.plan, new.allowed, None, new.keys);
            }
        }
        drop(admitting);
        tracker.broker.hint(Hint::Queue);
        tracker.broker.hint(Hint::NewJobs);
        tracing::info!(jobs = submissions.len(), "a batch waits for servers");
        let ids: Vec<&JobId> = submissions.iter().map(|stored| &stored.job_id).collect();
        tracker.queue.plan_now();
        let planned =
            passes.wait_for(|_| ids.iter().all(|id| !self.planned_backend(id).is_empty()));
        // Without it, the answer names no backend.
        let _ = timeout(PLAN_PATIENCE, planned).await;
        let accepted = submissions.iter().map(|stored| Accepted {
            job_id: stored.job_id.clone(),
            prompt_id: stored.prompt_id.clone(),
            backend: self.planned_backend(&stored.job_id),
            is_unanswered: false,
            ignored: Vec::new(),
            is_written: true,
            is_replayed: false,
        });
        Ok(accepted.collect())
    }

    /// Takes jobs into memory whose rows turn out to be there, although the database has not answered. They are ours.
    fn adopt_soon(&self, reservations: Vec<Reservation>) {
        let ids: Vec<JobId> = reservations.iter().map(|it| it.id.clone()).collect();
        // A row of a reserved job is not read.
        drop(reservations);
        let relay = self.clone();
        self.0.tasks.spawn(async move {
            let looking = async {
                for pause in LOOKS {
                    sleep(pause).await;
                    if let Err(error) = relay.0.tracker.read_rows(&ids).await {
                        tracing::debug!(%error, "cannot look for the rows of a batch, retrying");
                    }
                }
            };
            relay.0.stop.run_until_cancelled(looking).await;
        });
    }
}

/// The last job that goes to the front is the first of all; a batch keeps its own order.
fn keep_order(admitted: &mut [(StoredSubmission, Job, NewQueuedJob)]) {
    let mut places: Vec<i64> = admitted.iter().map(|(stored, ..)| stored.place).collect();
    places.sort_unstable();
    for ((stored, ..), place) in admitted.iter_mut().zip(places) {
        stored.place = place;
    }
}
