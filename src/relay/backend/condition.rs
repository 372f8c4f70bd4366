//! [`Condition`]: how a backend is, in one word.

use serde::{Deserialize, Serialize};

use crate::wire_schema::word_schema;

/// How a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Its socket is open, its prompts run, and it takes new ones.
    Connected,
    /// It shows no sign of life, and prompts that it has taken do not start.
    Stalled,
    /// Its graphics card has failed in prompt after prompt.
    Sick,
    /// No socket can be opened.
    Unreachable,
    /// Another relay follows it, and this one stands by.
    HeldElsewhere,
    /// Socket after socket is lost or receives nothing.
    Contested,
    /// An operator has paused it.
    Paused,
    /// An operator drains it.
    Draining,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Connected,
        Self::Stalled,
        Self::Sick,
        Self::Unreachable,
        Self::HeldElsewhere,
        Self::Contested,
        Self::Paused,
        Self::Draining,
    ];

    /// Whether it is as it should be: an operator has it so, or it runs.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Connected | Self::Paused | Self::Draining)
    }

    /// Its word in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Stalled => "stalled",
            Self::Sick => "sick",
            Self::Unreachable => "unreachable",
            Self::HeldElsewhere => "held_elsewhere",
            Self::Contested => "contested",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

word_schema!(Condition, "How a ComfyUI server is.");
