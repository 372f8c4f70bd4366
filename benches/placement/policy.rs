//! [`Policy`]: the ways to distribute jobs that are compared.

use crate::learned::DEPTH;
use crate::sim_server::SimServer;

/// How jobs are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The relay's: each job waits until it is its turn on the server where it ends first.
    Placement,
    /// Each job goes to the next server as it arrives, and waits there.
    RoundRobin,
    /// Each job goes to the server with the fewest jobs as it arrives, and waits there.
    ShortestQueue,
    /// The jobs wait in one queue, and the first one goes to the server that has the most room for it.
    FirstRoom,
}

impl Policy {
    pub(crate) const ALL: [Self; 4] = [
        Self::Placement,
        Self::RoundRobin,
        Self::ShortestQueue,
        Self::FirstRoom,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Placement => "placement",
            Self::RoundRobin => "round robin",
            Self::ShortestQueue => "shortest queue",
            Self::FirstRoom => "one queue, first with room",
        }
    }

    /// The server of the next job, if it can go to one now; `count` is how many went before. Not for
    /// [`Policy::Placement`], which looks at all jobs.
    pub(crate) fn choose(self, servers: &[SimServer], count: usize) -> Option<usize> {
        let shortest = servers
            .iter()
            .enumerate()
            .min_by_key(|(_, server)| server.count())?;
        match self {
            Self::Placement => None,
            Self::RoundRobin => Some(count % servers.len()),
            Self::ShortestQueue => Some(shortest.0),
            Self::FirstRoom => (shortest.1.count() < DEPTH).then_some(shortest.0),
        }
    }
}
