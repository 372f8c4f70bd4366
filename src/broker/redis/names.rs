use crate::job::JobId;

/// The documented channel of a job's states.
const PROGRESS: &str = "anime_progress:";

/// The channel on which relays follow a job.
const RELAYS: &str = "anime_relays:";

/// The channel on which producers report on a job.
const REPORTS: &str = "anime_progress_in:";

/// The key of a job's newest state.
const STATE: &str = "anime_state:";

/// How many slots the keys of a Redis Cluster are spread over.
pub(super) const SLOTS: u16 = 16_384;

/// The channel on which relays wake each other.
const WAKE: &str = "anime_wake";

/// The channel on which relays pass previews of a job on.
const PREVIEWS: &str = "anime_previews:";

/// The names of channels and keys.
#[derive(Debug)]
pub(super) struct ChannelNames {
    progress: String,
    relays: String,
    reports: String,
    state: String,
    /// Whether braces stand around the job: of such a name a Redis Cluster hashes the job alone, so that all names of a job
    /// have one slot. A script publishes on a sharded channel only in the slot of its key.
    has_tags: bool,
    wake: String,
    previews: String,
}

impl ChannelNames {
    /// The names on a server where each begins with `prefix`.
    pub(super) fn new(prefix: &str, has_tags: bool) -> Self {
        Self {
            progress: format!("{prefix}{PROGRESS}"),
            relays: format!("{prefix}{RELAYS}"),
            reports: format!("{prefix}{REPORTS}"),
            state: format!("{prefix}{STATE}"),
            has_tags,
            wake: format!("{prefix}{WAKE}"),
            previews: format!("{prefix}{PREVIEWS}"),
        }
    }

    /// The channel of the documented messages.
    pub(super) fn progress(&self, job: &JobId) -> String {
        self.of_job(&self.progress, job)
    }

    /// The channel of what relays exchange.
    pub(super) fn relays(&self, job: &JobId) -> String {
        self.of_job(&self.relays, job)
    }

    /// The job of such a channel.
    pub(super) fn job(&self, channel: &str) -> Option<JobId> {
        let name = channel.strip_prefix(&self.relays)?;
        let name = if self.has_tags {
            name.strip_prefix('{')?.strip_suffix('}')?
        } else {
            name
        };
        JobId::parse(name).ok()
    }

    /// The pattern of the channels of reports, which are never sharded: those have no patterns.
    pub(super) fn reports(&self) -> String {
        // The only character of a prefix that a pattern reads as something else.
        format!("{}*", self.reports.replace('\\', "\\\\"))
    }

    /// The job of such a channel, unchecked.
    pub(super) fn reported<'a>(&self, channel: &'a str) -> &'a str {
        channel.strip_prefix(&self.reports).unwrap_or(channel)
    }

    /// The key of the newest state.
    pub(super) fn state(&self, job: &JobId) -> String {
        self.of_job(&self.state, job)
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

    /// The slot of a Redis Cluster in which the newest state of a job is. Neither jobs nor prefixes have braces.
    pub(super) fn slot(&self, job: &JobId) -> u16 {
        let hash = if self.has_tags {
            crc16(0, job.as_str())
        } else {
            crc16(crc16(0, &self.state), job.as_str())
        };
        hash % SLOTS
    }

    fn of_job(&self, name: &str, job: &JobId) -> String {
        if self.has_tags {
            format!("{name}{{{job}}}")
        } else {
            format!("{name}{job}")
        }
    }
}

/// CRC-16/XMODEM, by which a Redis Cluster finds the slot of a key: goes on from the sum of what stands before.
fn crc16(sum: u16, text: &str) -> u16 {
    const POLYNOMIAL: u16 = 0x1021;
    text.bytes().fold(sum, |sum, byte| {
        let sum = sum ^ u16::from(byte) << 8;
        (0..8).fold(sum, |sum, _| {
            let carry = sum & 0x8000 != 0;
            let shifted = sum << 1;
            if carry { shifted ^ POLYNOMIAL } else { shifted }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `redis-cli CLUSTER KEYSLOT` says the same.
    #[test]
    fn the_slot_of_a_job_is_that_of_its_key() {
        assert_eq!(crc16(0, "123456789"), 0x31c3);
        let job = JobId::parse("shot-12").unwrap();
        let plain = ChannelNames::new("studio:", false);
        assert_eq!(plain.state(&job), "studio:anime_state:shot-12");
        let tagged = ChannelNames::new("studio:", true);
        assert_eq!(tagged.state(&job), "studio:anime_state:{shot-12}");
        assert_eq!((plain.slot(&job), tagged.slot(&job)), (7296, 7738));
    }

    #[test]
    fn a_channel_names_its_job() {
        let job = JobId::parse("shot-12").unwrap();
        for names in [false, true].map(|has_tags| ChannelNames::new("studio:", has_tags)) {
            assert_eq!(names.job(&names.relays(&job)), Some(job.clone()));
            assert_eq!(names.job(&names.progress(&job)), None);
        }
        let tagged = ChannelNames::new("", true);
        assert_eq!(tagged.job("anime_relays:shot-12"), None);
    }
}
