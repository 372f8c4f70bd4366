//! The newest jobs of all relays on the database, and who is connected to them: what this one has in memory, and what the others
//! have listed some seconds ago. A job that several list is listed once, a connection by its own relay alone.

use super::Relay;
use super::registry::Remembered;
use super::relay_list::{
    ConnectedJob, ListedConnection, MAX_SHARED, RECENT_JOBS, RecentJob, RelayList,
};
use crate::hub::Connection;

/// How many jobs in memory are looked at to find the newest that are ours.
const MAX_SEEN: usize = 1_000;

impl Relay {
    /// The newest jobs of all relays on the database, the newest first. What memory has of a job is newer than what another
    /// relay has written, and the other relay knows whose it is.
    pub(super) fn newest_jobs(&self) -> Vec<RecentJob> {
        let lists = self.0.tracker.peers.lists();
        let mut jobs = self.own_jobs(|_| true);
        for job in lists.iter().flat_map(RelayList::jobs) {
            match jobs.iter_mut().find(|known| known.id == job.id) {
                Some(known) if known.relay.is_none() => known.relay = job.relay,
                Some(_) => {}
                None => jobs.push(job),
            }
        }
        jobs.sort_by(|one, other| other.created_at.total_cmp(&one.created_at));
        jobs.truncate(RECENT_JOBS);
        jobs
    }

    /// The newest jobs in memory that are to be listed, the newest first.
    fn own_jobs(&self, is_listed: impl Fn(&Remembered<'_>) -> bool) -> Vec<RecentJob> {
        let tracker = &self.0.tracker;
        let (now, relay) = (tracker.now(), tracker.owner.short_id());
        let has_others = tracker.peers.has_others();
        let registry = tracker.registry();
        let newest = registry.newest_first().take(MAX_SEEN).filter(is_listed);
        let listed = newest.take(RECENT_JOBS).map(|job| {
            let remaining = match job {
                Remembered::Whole(entry) => tracker.estimator.estimate(entry, now).remaining_time(),
                Remembered::Ended(_) => None,
            };
            let remaining = remaining.map(|remaining| remaining.whole_seconds());
            RecentJob {
                id: job.id().clone(),
                status: job.status(),
                progress: job.percent(),
                created_at: job.created_at().as_millisecond() as f64 / 1000.0,
                estimated_remaining: remaining.or(job.status().is_final().then_some(0)),
                relay: (has_others && job.is_owned()).then(|| relay.clone()),
            }
        });
        listed.collect()
    }

    /// At most `jobs` jobs with connections, each with the number of its connections and at most `each`
    /// of them, at all relays on the database; and whether there are more.
    pub fn connections(&self, jobs: usize, each: usize) -> (Vec<ConnectedJob>, bool) {
        let (mut connected, mut is_truncated) = self.own_connections(jobs, each);
        for list in self.0.tracker.peers.lists().iter() {
            is_truncated |= list.is_truncated;
            for other in list.connected() {
                match connected.iter_mut().find(|it| it.job == other.job) {
                    Some(known) => {
                        known.count += other.count;
                        known.connections.extend(other.connections);
                    }
                    None => connected.push(other),
                }
            }
        }
        is_truncated |= connected.len() > jobs;
        connected.truncate(jobs);
        for job in &mut connected {
            is_truncated |= job.connections.len() > each;
            job.connections.truncate(each);
        }
        (connected, is_truncated)
    }

    /// The same, of this relay alone.
    fn own_connections(&self, jobs: usize, each: usize) -> (Vec<ConnectedJob>, bool) {
        let tracker = &self.0.tracker;
        let (listed, is_truncated) = tracker.hub.connections(jobs, each);
        let relay = tracker.owner.label();
        let connected = listed.into_iter().map(|(job, count, connections)| {
            let connections = connections.iter();
            let connections = connections.map(|connection| listed_connection(connection, &relay));
            ConnectedJob {
                job,
                count,
                connections: connections.collect(),
            }
        });
        (connected.collect(), is_truncated)
    }

    /// What this relay lists for the others, as it is written.
    pub(super) fn own_list(&self) -> Option<String> {
        let owner = &self.0.tracker.owner;
        let names = (owner.label(), owner.short_id());
        let jobs = self.own_jobs(|job| job.is_owned());
        let (listed, is_truncated) = self.own_connections(MAX_SHARED, MAX_SHARED);
        let list = RelayList::new(names, jobs, listed, is_truncated);
        list.encode().ok()
    }
}

fn listed_connection(connection: &Connection, relay: &str) -> ListedConnection {
    ListedConnection {
        connected_at: connection.connected_at(),
        address: connection.address(),
        received_at: connection.received_at(),
        relay: relay.to_owned(),
    }
}
