use crate::job::JobId;

/// The documented channel of a job's states.
const PROGRESS: &str = "anime_progress:";

/// The channel on which relays follow a job.
const RELAYS: &str = "anime_relays:";

/// The key of a job's newest state.
const STATE: &str = "anime_state:";

/// The names of channels and keys.
#[derive(Debug)]
pub(super) struct ChannelNames {
    progress: String,
    relays: String,
    state: String,
}

impl ChannelNames {
    /// The names on a server where each begins with `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            progress: format!("{prefix}{PROGRESS}"),
            relays: format!("{prefix}{RELAYS}"),
            state: format!("{prefix}{STATE}"),
        }
    }

    /// The channel of the documented messages.
    pub(super) fn progress(&self, job: &JobId) -> String {
        format!("{}{job}", self.progress)
    }

    /// The channel of what relays exchange.
    pub(super) fn relays(&self, job: &JobId) -> String {
        format!("{}{job}", self.relays)
    }

    /// The job of such a channel.
    pub(super) fn job(&self, channel: &str) -> Option<JobId> {
        JobId::parse(channel.strip_prefix(&self.relays)?).ok()
    }

    /// The key of the newest state.
    pub(super) fn state(&self, job: &JobId) -> String {
        format!("{}{job}", self.state)
    }
}
