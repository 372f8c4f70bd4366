//! The database that the relays share: rows, and leases by its own clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::cluster::{LEASE, job_number};
use super::model::{ModelRow, Name, Write, accepts};
use crate::job::{Status, StoredJob};
use crate::relay::ownership::StateVersion;

#[derive(Default)]
pub(super) struct SimulatedDatabase {
    pub(super) rows: BTreeMap<usize, StoredJob>,
    leases: BTreeMap<usize, (Name, Duration)>,
    /// The processes that are known to be dead.
    pub(super) dead: BTreeSet<Name>,
    /// Whose states of a job were written, by its epoch.
    writers: BTreeMap<(usize, u64), Name>,
    pub(super) problems: Vec<String>,
}

/// A relay's process in the column `owner`.
pub(super) fn owner((relay, incarnation): Name) -> String {
    format!("{relay}@{incarnation}")
}

fn named(owner: &str) -> Name {
    let (relay, incarnation) = owner.split_once('@').unwrap();
    (relay.parse().unwrap(), incarnation.parse().unwrap())
}

fn version(stored: &StoredJob) -> StateVersion {
    StateVersion {
        epoch: stored.epoch,
        seq: stored.seq,
    }
}

fn backend(stored: &StoredJob) -> usize {
    stored.backend.as_deref().unwrap().parse().unwrap()
}

impl SimulatedDatabase {
    /// As `Store::take_lease`.
    pub(super) fn take_lease(&mut self, backend: usize, name: Name, now: Duration) -> bool {
        let lease = self.leases.entry(backend).or_insert((name, now));
        let (holder, until) = *lease;
        let is_free = until < now || holder == name || self.dead.contains(&holder);
        if is_free {
            *lease = (name, now + LEASE);
        }
        is_free
    }

    fn holds(&self, name: Name, backend: usize, now: Duration) -> bool {
        let lease = self.leases.get(&backend);
        lease.is_some_and(|(holder, until)| *holder == name && *until >= now)
    }

    /// As `Store::take_open_jobs`.
    pub(super) fn take_open_jobs(&mut self, name: Name) -> Vec<StoredJob> {
        let leases = &self.leases;
        let open = self.rows.values_mut().filter(|row| !row.status.is_final());
        let taken = open.map(|row| {
            let lease = leases.get(&backend(row));
            let is_free = lease.is_some_and(|lease| lease.0 == name);
            if is_free && row.owner.as_deref() != Some(owner(name).as_str()) {
                row.owner = Some(owner(name));
                row.epoch += 1;
            }
            row.clone()
        });
        taken.collect()
    }

    /// As `Store::has_jobs_of_others`.
    pub(super) fn has_jobs_of_others(&self, name: Name, now: Duration) -> bool {
        let mut open = self.rows.values().filter(|row| !row.status.is_final());
        open.any(|row| {
            row.owner.as_deref() != Some(owner(name).as_str())
                && self.holds(name, backend(row), now)
        })
    }

    /// As `Store::upsert`. Returns the jobs whose rows are newer. `true_end` is how a job has ended at its server.
    pub(super) fn upsert(
        &mut self,
        records: Vec<StoredJob>,
        true_end: impl Fn(usize) -> Option<Status>,
    ) -> Vec<usize> {
        let mut moved = Vec::new();
        for record in records {
            let number = job_number(&record.id);
            if self.accepts(number, &record) {
                self.check(number, &record, true_end(number));
                self.rows.insert(number, record);
            } else {
                moved.push(number);
            }
        }
        moved
    }

    /// The condition of the statement, which the model has.
    fn accepts(&self, number: usize, record: &StoredJob) -> bool {
        let Some(row) = self.rows.get(&number) else {
            return true;
        };
        let has_ended = row.status.is_final();
        let written = ModelRow::written(row.owner.as_deref().map(named), version(row), has_ended);
        let write = Write {
            version: version(record),
            has_ended: record.status.is_final(),
        };
        let keeps_status = !has_ended || row.status == record.status;
        keeps_status && accepts(&written, named(record.owner.as_deref().unwrap()), write)
    }

    /// What has to hold for each state that is written.
    fn check(&mut self, number: usize, record: &StoredJob, true_end: Option<Status>) {
        let writer = named(record.owner.as_deref().unwrap());
        let mut problems = Vec::new();
        let first = *self.writers.entry((number, record.epoch)).or_insert(writer);
        if first != writer {
            problems.push(format!(
                "{first:?} and {writer:?} write epoch {}",
                record.epoch
            ));
        }
        if let Some(row) = self.rows.get(&number) {
            if version(record) < version(row) {
                problems.push(format!("{:?} over {:?}", version(record), version(row)));
            }
            if record.progress < row.progress {
                problems.push(format!("{} % over {} %", record.progress, row.progress));
            }
            if row.status.is_final() && record.status != row.status {
                problems.push(format!("{:?} over {:?}", record.status, row.status));
            }
            if row.owner != record.owner {
                problems.push(format!("{writer:?} writes the row of {:?}", row.owner));
            }
        }
        if record.status.is_final() && Some(record.status) != true_end {
            problems.push(format!("{:?} is not how it ended", record.status));
        }
        let problems = problems.into_iter();
        self.problems
            .extend(problems.map(|it| format!("row of job {number}: {it}")));
    }
}
