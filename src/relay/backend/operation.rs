//! What operators have a backend do.

use crate::wire_schema::word_schema;

/// What operators have a backend do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operation {
    /// It takes jobs.
    #[default]
    Run,
    /// Nothing new is handed in to it; what it has goes on.
    Pause,
    /// The same, and those of our prompts that wait in its queue are taken back.
    Drain,
    /// The same, and it is removed once it has none of our jobs any more.
    Remove,
    /// It is removed at once: what it has counts as lost.
    Discard,
}

impl Operation {
    /// All of them.
    pub(in crate::relay) const ALL: [Self; 5] = [
        Self::Run,
        Self::Pause,
        Self::Drain,
        Self::Remove,
        Self::Discard,
    ];

    /// The word for a backend that does so, in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "running",
            Self::Pause => "paused",
            Self::Drain => "draining",
            Self::Remove => "removing",
            Self::Discard => "removing_at_once",
        }
    }

    /// The inverse of [`Operation::as_str`]. What a later release has written counts as paused.
    pub(in crate::relay) fn from_word(word: &str) -> Self {
        let mut known = Self::ALL.into_iter();
        known
            .find(|operation| operation.as_str() == word)
            .unwrap_or(Self::Pause)
    }

    /// Why such a backend takes nothing, as the end of a sentence that begins with its name; `None` if it does.
    pub(in crate::relay) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Run => None,
            Self::Pause => Some("is paused"),
            Self::Drain => Some("is being drained"),
            Self::Remove | Self::Discard => Some("is being removed"),
        }
    }

    /// Whether such a backend is removed.
    pub(in crate::relay) fn is_removal(self) -> bool {
        matches!(self, Self::Remove | Self::Discard)
    }

    /// Whether what waits in the queue of such a backend is taken back.
    pub(in crate::relay) fn drains(self) -> bool {
        self == Self::Drain || self.is_removal()
    }
}

word_schema!(Operation, "What operators have a ComfyUI server do.");
