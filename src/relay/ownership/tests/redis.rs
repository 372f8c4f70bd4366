//! The Redis server that the relays share: the script that publishes, and channels.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use super::cluster::job_number;
use super::network::Pipe;
use crate::broker::{self, JobState, Position};

/// A message of a job.
pub(super) type Message = (usize, Rc<[u8]>);

#[derive(Default)]
pub(super) struct Redis {
    kept: BTreeMap<usize, (i64, Position, Rc<[u8]>)>,
    connections: Vec<(Weak<Pipe<Message>>, BTreeSet<usize>)>,
}

/// A state as it goes over the wire.
pub(super) fn message(state: &JobState, owner: &str) -> Vec<u8> {
    let head = broker::head(state, owner).unwrap();
    [head.as_bytes(), b"\n", &state.payload].concat()
}

impl Redis {
    /// As the script of `broker/redis/script.rs`.
    pub(super) fn publish(&mut self, state: &JobState, owner: &str) {
        let number = job_number(&state.job);
        let created_at = state.created_at.as_millisecond();
        let kept = self.kept.get(&number);
        let kept = kept.filter(|kept| kept.0 == created_at).map(|kept| kept.1);
        if kept.is_some_and(|kept| kept > state.position) {
            return;
        }
        let message: Rc<[u8]> = message(state, owner).into();
        let is_same = kept == Some(state.position);
        self.kept
            .insert(number, (created_at, state.position, message.clone()));
        if is_same {
            return;
        }
        self.connections
            .retain(|(pipe, _)| pipe.upgrade().is_some_and(|pipe| pipe.is_open()));
        for (pipe, channels) in &self.connections {
            if let Some(pipe) = pipe.upgrade().filter(|_| channels.contains(&number)) {
                pipe.send((number, message.clone()));
            }
        }
    }

    /// Subscribes a connection to the channels of these jobs. Returns what is kept of them.
    pub(super) fn subscribe(
        &mut self,
        pipe: &Rc<Pipe<Message>>,
        jobs: &BTreeSet<usize>,
    ) -> Vec<Message> {
        let is_it = |it: &Weak<Pipe<Message>>| Weak::ptr_eq(it, &Rc::downgrade(pipe));
        self.connections.retain(|(it, _)| !is_it(it));
        self.connections.push((Rc::downgrade(pipe), jobs.clone()));
        self.newest(jobs)
    }

    pub(super) fn newest(&self, jobs: &BTreeSet<usize>) -> Vec<Message> {
        let kept = jobs
            .iter()
            .filter_map(|job| Some((*job, self.kept.get(job)?)));
        kept.map(|(job, kept)| (job, kept.2.clone())).collect()
    }

    /// It is restarted, and has lost everything.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}
