//! [`RelayList`]: what one relay lists for the others on its database, beside its registration.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::{JobId, Status};

/// How many jobs are listed.
pub(super) const RECENT_JOBS: usize = 10;

/// How many jobs with connections, and how many connections in all, a relay lists for the others: some kilobytes every few
/// seconds.
pub(super) const MAX_SHARED: usize = 100;

/// The longest list of another relay that is read, in bytes.
const MAX_LIST: usize = 64 << 10;

/// One job, for monitors.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct RecentJob {
    /// The job.
    pub id: JobId,
    /// Its status.
    pub status: Status,
    /// 0 to 100.
    #[schemars(range(max = 100))]
    pub progress: u8,
    /// When it was registered, in seconds since 1970.
    pub created_at: f64,
    /// Seconds until it ends.
    pub estimated_remaining: Option<u64>,
    /// A part of the id of the relay that has it, if that is known and there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
}

/// A job with connections, at whichever relays.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectedJob {
    /// The job.
    pub job: JobId,
    /// How many connections follow it.
    pub count: usize,
    /// Some of them.
    pub connections: Vec<ListedConnection>,
}

/// A connection that is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedConnection {
    /// When the client connected.
    pub connected_at: Timestamp,
    /// The client's address.
    pub address: IpAddr,
    /// When something was last received from it.
    pub received_at: Timestamp,
    /// The relay to which it is connected.
    #[serde(skip)]
    pub relay: String,
}

/// What one relay lists, as it is written into the database.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct RelayList {
    /// Its name, for those who may see connections.
    relay: String,
    /// A part of its id, for everybody: it does not name the machine.
    relay_id: String,
    jobs: Vec<SharedJob>,
    connected: Vec<SharedConnections>,
    /// There are more connections than these.
    pub(super) is_truncated: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SharedJob {
    id: String,
    status: Status,
    progress: u8,
    created_at: f64,
    estimated_remaining: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SharedConnections {
    job: String,
    count: usize,
    connections: Vec<ListedConnection>,
}

impl RelayList {
    /// The list of the relay with this name and part of its id: its newest jobs, and who is connected, as far as there is room.
    pub(super) fn new(
        (relay, relay_id): (String, String),
        jobs: Vec<RecentJob>,
        listed: Vec<ConnectedJob>,
        is_truncated: bool,
    ) -> Self {
        let jobs = jobs.into_iter().map(|job| SharedJob {
            id: job.id.to_string(),
            status: job.status,
            progress: job.progress,
            created_at: job.created_at,
            estimated_remaining: job.estimated_remaining,
        });
        let mut list = Self {
            relay,
            relay_id,
            jobs: jobs.collect(),
            connected: Vec::new(),
            is_truncated,
        };
        let mut room = MAX_SHARED;
        for it in listed {
            let mut connections = it.connections;
            list.is_truncated |= connections.len() > room;
            connections.truncate(room);
            room -= connections.len();
            list.connected.push(SharedConnections {
                job: it.job.to_string(),
                count: it.count,
                connections,
            });
        }
        list
    }

    /// As it is written.
    pub(super) fn encode(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Reads what another relay has written. That of another release may not be readable.
    pub(super) fn read(text: &str) -> Option<Self> {
        let list = Some(text).filter(|text| text.len() <= MAX_LIST);
        serde_json::from_str(list?).ok()
    }

    /// Its jobs, as monitors show them.
    pub(super) fn jobs(&self) -> impl Iterator<Item = RecentJob> {
        let jobs = self.jobs.iter().take(RECENT_JOBS);
        jobs.filter_map(|job| {
            Some(RecentJob {
                id: JobId::parse(&job.id).ok()?,
                status: job.status,
                progress: job.progress.min(100),
                created_at: job.created_at,
                estimated_remaining: job.estimated_remaining,
                relay: Some(self.relay_id.clone()),
            })
        })
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = ConnectedJob> {
        let connected = self.connected.iter().take(MAX_SHARED);
        connected.filter_map(|it| {
            let connections = it.connections.iter().take(MAX_SHARED);
            let connections = connections.map(|connection| ListedConnection {
                relay: self.relay.clone(),
                ..connection.clone()
            });
            Some(ConnectedJob {
                job: JobId::parse(&it.job).ok()?,
                count: it.count,
                connections: connections.collect(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> JobId {
        JobId::parse(name).unwrap()
    }

    fn connection() -> ListedConnection {
        ListedConnection {
            connected_at: Timestamp::UNIX_EPOCH,
            address: IpAddr::from([10, 0, 0, 1]),
            received_at: Timestamp::UNIX_EPOCH,
            relay: "studio-1".to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let job = RecentJob {
            id: id("shot-12"),
            status: Status::Processing,
            progress: 45,
            created_at: 1_702_223_440.5,
            estimated_remaining: Some(12),
            relay: Some("1".to_owned()),
        };
        let connected = ConnectedJob {
            job: id("shot-12"),
            count: 1,
            connections: vec![connection()],
        };
        let (jobs, listed) = (vec![job.clone()], vec![connected.clone()]);
        let names = ("studio-1".to_owned(), "1".to_owned());
        let list = RelayList::new(names, jobs, listed, false);
        let read = RelayList::read(&list.encode().unwrap()).unwrap();
        assert_eq!(read.jobs().collect::<Vec<_>>(), [job]);
        assert_eq!(read.connected().collect::<Vec<_>>(), [connected]);
        assert!(!read.is_truncated);
    }

    #[test]
    fn a_list_is_bounded() {
        let connected = (0..MAX_SHARED).map(|number| ConnectedJob {
            job: id(&format!("{number}-{}", "x".repeat(100))),
            count: MAX_SHARED,
            connections: vec![connection(); MAX_SHARED],
        });
        let names = ("a".repeat(100), "a".repeat(8));
        let list = RelayList::new(names, Vec::new(), connected.collect(), false);
        assert!(list.is_truncated);
        let text = list.encode().unwrap();
        assert!(RelayList::read(&text).is_some(), "{} bytes", text.len());
        for unreadable in ["", "{}", "[]", &" ".repeat(MAX_LIST + 1)] {
            assert_eq!(RelayList::read(unreadable), None);
        }
    }
}
