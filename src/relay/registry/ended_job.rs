//! [`EndedJob`]: what stays in memory of a job that ended some time ago.

use std::sync::Arc;

use jiff::Timestamp;

use super::entry::Entry;
use super::packed_state::PackedState;
use crate::hub::Publication;
use crate::job::{JobId, Selection, Status, Tags};
use crate::relay::backend::Backend;

/// A job that has ended and is on the disk: its final state, and by what it is found. The database has its details.
#[derive(Debug)]
pub(in crate::relay) struct EndedJob {
    pub(super) id: JobId,
    pub(super) number: u64,
    pub(super) status: Status,
    /// Its moment in the order of ends.
    pub(super) ended_at: Timestamp,
    /// Where its prompt is in the index of prompts.
    pub(super) prompt: Option<(usize, Arc<str>)>,
    work_done_at: Option<Timestamp>,
    created_at: Timestamp,
    /// The percentage that was published last.
    progress: u8,
    is_owned: bool,
    pub(super) was_learned: bool,
    backend: BackendName,
    /// `None` if a client has said nothing of it.
    tags: Option<Arc<Tags>>,
    state: PackedState,
}

/// The name of the backend of an ended job.
#[derive(Debug)]
enum BackendName {
    None,
    Configured(Arc<Backend>),
    /// One that is not configured any more.
    Other(Box<str>),
}

/// A job that the relay remembers, with all its details or without them.
#[derive(Debug, Clone, Copy)]
pub(in crate::relay) enum Remembered<'a> {
    Whole(&'a Entry),
    Ended(&'a EndedJob),
}

impl EndedJob {
    /// What stays of a job of which this is the final state.
    pub(super) fn of(
        entry: &Entry,
        id: JobId,
        ended_at: Timestamp,
        prompt: Option<(usize, Arc<str>)>,
        state: PackedState,
    ) -> Self {
        let job = &entry.job;
        let backend = match (&entry.backend, job.backend()) {
            (Some(backend), _) => BackendName::Configured(backend.clone()),
            (None, Some(name)) => BackendName::Other(name.into()),
            (None, None) => BackendName::None,
        };
        let tags = job.tags();
        Self {
            id,
            number: entry.number,
            status: job.status(),
            ended_at,
            prompt,
            work_done_at: job.work_done_at(),
            created_at: job.created_at(),
            progress: job.percent(),
            is_owned: entry.is_owned(),
            was_learned: entry.was_learned(),
            backend,
            tags: (**tags != Tags::default()).then(|| tags.clone()),
            state,
        }
    }

    /// Its final state.
    pub(in crate::relay) fn final_state(&self) -> Publication {
        self.state.unpack(self.id.clone(), self.status)
    }

    /// The index of its backend, and its prompt there.
    pub(in crate::relay) fn place(&self) -> Option<(usize, &str)> {
        let (backend, prompt) = self.prompt.as_ref()?;
        Some((*backend, prompt))
    }

    /// The number of its final state.
    pub(in crate::relay) fn seq(&self) -> u64 {
        self.state.seq()
    }

    /// The group that it belongs to.
    pub(in crate::relay) fn group(&self) -> Option<&str> {
        self.tags.as_ref()?.group.as_deref()
    }

    /// Whether it has shown what its nodes cost, and its work was done after this moment, if that is known.
    pub(super) fn was_learned_after(&self, moment: Option<Timestamp>) -> bool {
        self.was_learned && self.work_done_at > moment
    }

    fn backend(&self) -> Option<&str> {
        match &self.backend {
            BackendName::None => None,
            BackendName::Configured(backend) => Some(backend.name()),
            BackendName::Other(name) => Some(name),
        }
    }
}

impl Remembered<'_> {
    pub(in crate::relay) fn id(&self) -> &JobId {
        match self {
            Self::Whole(entry) => entry.job.id(),
            Self::Ended(ended) => &ended.id,
        }
    }

    /// Its status as it is published.
    pub(in crate::relay) fn status(&self) -> Status {
        match self {
            Self::Whole(entry) => entry.job.published_status(),
            Self::Ended(ended) => ended.status,
        }
    }

    pub(in crate::relay) fn created_at(&self) -> Timestamp {
        match self {
            Self::Whole(entry) => entry.job.created_at(),
            Self::Ended(ended) => ended.created_at,
        }
    }

    /// When it ended, as far as it has.
    pub(in crate::relay) fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Whole(entry) => entry.job.ended_at(),
            Self::Ended(ended) => Some(ended.ended_at),
        }
    }

    /// Its progress as it is published, 0 to 100.
    pub(in crate::relay) fn percent(&self) -> u8 {
        match self {
            Self::Whole(entry) => entry.job.percent(),
            Self::Ended(ended) => ended.progress,
        }
    }

    /// Whether this relay publishes and writes it.
    pub(in crate::relay) fn is_owned(&self) -> bool {
        match self {
            Self::Whole(entry) => entry.is_owned(),
            Self::Ended(ended) => ended.is_owned,
        }
    }

    /// Whether it is one of a selection, apart from its status.
    pub(in crate::relay) fn is_in(&self, selection: &Selection) -> bool {
        match self {
            Self::Whole(entry) => selection.is_of(&entry.job),
            Self::Ended(ended) => {
                let none = Tags::default();
                let tags = ended.tags.as_deref().unwrap_or(&none);
                selection.has(&ended.id, ended.backend(), tags)
            }
        }
    }
}
