use crate::job::JobId;

/// The documented channel of a job's states.
const PROGRESS: &str = "anime_progress:";

/// The channel on which relays follow a job.
const RELAYS: &str = "anime_relays:";

/// The key of a job's newest state.
const STATE: &str = "anime_state:";

/// The channel on which relays wake each other.
const WAKE: &str = "anime_wake";

/// The channel on which relays pass previews of a job on.
const PREVIEWS: &str = "anime_previews:";

/// The names of channels and keys.
#[derive(Debug)]
pub(super) struct ChannelNames {
    progress: String,
    relays: String,
    state: String,
    wake: String,
    previews: String,
}

impl ChannelNames {
    /// The names on a server where each begins with `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            progress: format!("{prefix}{PROGRESS}"),
            relays: format!("{prefix}{RELAYS}"),
            state: format!("{prefix}{STATE}"),
            wake: format!("{prefix}{WAKE}"),
            previews: format!("{prefix}{PREVIEWS}"),
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

    /// The channel of wake-ups.
    pub(super) fn wake(&self) -> &str {
        &self.wake
    }

    /// The channel of a job's previews.
    pub(super) fn previews(&self, job: &JobId) -> String {
        format!("{}{job}", self.previews)
    }

    /// The job of such a channel.
    pub(super) fn previewed(&self, channel: &str) -> Option<JobId> {
        JobId::parse(channel.strip_prefix(&self.previews)?).ok()
    }
}
