//! What operators have a backend do.

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
}

impl Operation {
    /// The word for a backend that does so, in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "running",
            Self::Pause => "paused",
            Self::Drain => "draining",
        }
    }

    /// The inverse of [`Operation::as_str`]. What a later release has written counts as paused.
    pub(in crate::relay) fn from_word(word: &str) -> Self {
        let mut known = [Self::Run, Self::Drain].into_iter();
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
        }
    }
}
