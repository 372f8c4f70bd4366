use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::hub::Publication;
use crate::job::{Outcome, Tags};

/// A step: which job, and what happens to it.
type Step = (u8, u8);

fn id(job: u8) -> JobId {
    JobId::parse(&format!("job-{job}")).unwrap()
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_second(second as i64).unwrap()
}

fn take(registry: &mut Registry, (job, step): Step, now: Timestamp) {
    let id = id(job);
    match step {
        0 => {
            let tags = Tags {
                group: (job % 2 == 0).then(|| "even".to_owned()),
                ..Tags::default()
            };
            let job = Job::new(id, now).tagged(Arc::new(tags));
            registry.insert(job, None, 0);
        }
        1 => {
            registry.apply(&id, Event::Started, now);
        }
        2 => {
            registry.apply(&id, Event::Closed(Outcome::Cancelled), now);
        }
        3 => {
            registry.remove(&id);
            registry.remove_ended(&id);
        }
        5 => pack(registry, &id),
        4 => {
            registry.apply(&id, Event::Ended(Outcome::Completed), now);
        }
        _ => {
            registry.apply(&id, Event::Queued { ahead: Some(3) }, now);
        }
    }
}

/// Drops the details of a job, if it has ended.
fn pack(registry: &mut Registry, id: &JobId) {
    let has_ended = |entry: &Entry| entry.job.status().is_final();
    if registry.get(id).is_some_and(has_ended) {
        let state = Publication {
            job: id.clone(),
            seq: 7,
            status: Status::Cancelled,
            payload: Default::default(),
            outcome: Some(Outcome::Cancelled),
            event_at: None,
        };
        let details = registry.pack(id, StatePacker::default().pack(&state));
        assert!(details.is_some_and(|entry| entry.job.id() == id));
    }
}

fn remembered<'a>(jobs: impl Iterator<Item = Remembered<'a>>) -> HashSet<JobId> {
    jobs.map(|job| job.id().clone()).collect()
}

fn ids<'a>(entries: impl Iterator<Item = &'a Entry>) -> HashSet<JobId> {
    entries.map(|entry| entry.job.id().clone()).collect()
}

proptest! {
    #[test]
    fn the_index_has_what_a_scan_finds(steps in prop::collection::vec((0u8..6, 0u8..7), 1..80)) {
        let mut registry = Registry::default();
        for (second, step) in steps.iter().enumerate() {
            take(&mut registry, *step, at(second));
        }
        let whole = || registry.by_id.values();
        let scan = |wanted: &dyn Fn(&&Entry) -> bool| ids(whole().filter(wanted));
        let all: HashSet<JobId> = registry.by_id.keys().chain(registry.ended.keys()).cloned().collect();
        prop_assert_eq!(registry.by_id.len() + registry.ended.len(), all.len());
        prop_assert_eq!(remembered(registry.newest_first()), all.clone());
        let scan_all = |wanted: &dyn Fn(&Remembered<'_>) -> bool| remembered(all.iter().filter_map(|id| registry.remembered(id)).filter(wanted));
        let status = |entry: &&Entry| entry.job.status();
        prop_assert_eq!(ids(registry.all_open()), scan(&|entry| !status(entry).is_final()));
        prop_assert_eq!(ids(registry.open_without_backend()), ids(registry.all_open()));
        prop_assert_eq!(ids(registry.processing()), scan(&|entry| status(entry) == Status::Processing));
        let ending = ids(registry.entries(registry.by_status.ending()));
        prop_assert_eq!(ending, scan(&|entry| entry.job.is_ending() && !status(entry).is_final()));
        let is_even = |entry: &&Entry| entry.job.tags().group.is_some();
        prop_assert_eq!(ids(registry.of_group("even")), scan(&is_even));
        for wanted in Status::ALL {
            prop_assert_eq!(registry.count(wanted), scan_all(&|job| job.status() == wanted).len());
        }
        let middle = at(steps.len() / 2);
        let had_ended = |job: &Remembered<'_>| match job {
            Remembered::Whole(entry) => entry.job.ended_at().is_some_and(|ended| ended <= middle),
            Remembered::Ended(ended) => ended.ended_at <= middle,
        };
        prop_assert_eq!(remembered(registry.ended_by(middle)), scan_all(&had_ended));
    }
}
