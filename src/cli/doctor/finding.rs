//! [`Finding`]: what one check has found.

use std::fmt;

use serde::Serialize;

/// How bad a finding is, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FindingStatus {
    /// It is right.
    Ok,
    /// The relay runs all the same, but not as it could.
    Warn,
    /// It cannot be used.
    Fault,
}

/// What one check has found.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// What was checked.
    check: String,
    status: FindingStatus,
    /// What it is like.
    text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: impl Into<String>, text: String) -> Self {
        Self {
            check: check.into(),
            status: FindingStatus::Ok,
            text,
            advice: None,
        }
    }

    pub(super) fn warn(check: impl Into<String>, text: String, advice: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            status: FindingStatus::Warn,
            text,
            advice: Some(advice.into()),
        }
    }

    pub(super) fn fault(check: impl Into<String>, text: String, advice: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            status: FindingStatus::Fault,
            text,
            advice: Some(advice.into()),
        }
    }

    pub(super) fn status(&self) -> FindingStatus {
        self.status
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            FindingStatus::Ok => "ok",
            FindingStatus::Warn => "warn",
            FindingStatus::Fault => "fault",
        };
        write!(f, "{status:<5}  {}: {}", self.check, self.text)?;
        match &self.advice {
            Some(advice) => write!(f, "\n       to do: {advice}"),
            None => Ok(()),
        }
    }
}
