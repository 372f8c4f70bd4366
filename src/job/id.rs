use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The public id of a job: 1 to 128 characters of `A-Z a-z 0-9 . _ : -`, and none of those that mean something else in
/// a URL: `monitor`, `jobs`, `events`, `.` and `..`.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Arc<str>);

/// Why a text is not a [`JobId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobIdError {
    /// The text is empty or longer than [`JobId::MAX_CHARS`].
    #[error("a job id has 1 to {max} characters, this one has {found}", max = JobId::MAX_CHARS)]
    Length {
        /// How many characters the text has.
        found: usize,
    },
    /// The text contains a character that is not allowed.
    #[error("a job id may only contain A-Z a-z 0-9 . _ : -, this one contains {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
    /// The text stands for something else in the relay's addresses, such as the system monitor.
    #[error("the job id {found:?} is reserved: the relay has an address of this name")]
    Reserved {
        /// The text.
        found: String,
    },
    /// The text is `.` or `..`: clients take it out of the path of a URL.
    #[error("the job id {found:?} means a folder in a URL; choose another")]
    Folder {
        /// The text.
        found: String,
    },
}

impl JobId {
    /// The longest id.
    pub const MAX_CHARS: usize = 128;

    /// Validates a text.
    ///
    /// # Errors
    ///
    /// If the text is too long, empty or reserved, or contains another character.
    pub fn parse(text: &str) -> Result<Self, JobIdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        let found = text.chars().count();
        if found == 0 || found > Self::MAX_CHARS {
            return Err(JobIdError::Length { found });
        }
        if let Some(found) = text.chars().find(|&c| !allowed(c)) {
            return Err(JobIdError::Character { found });
        }
        if matches!(text, "monitor" | "jobs" | "events") {
            let found = text.to_owned();
            return Err(JobIdError::Reserved { found });
        }
        if matches!(text, "." | "..") {
            let found = text.to_owned();
            return Err(JobIdError::Folder { found });
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_characters_are_accepted() {
        assert!(JobId::parse("Az09._:-").is_ok());
        assert_eq!(
            JobId::parse("a/b"),
            Err(JobIdError::Character { found: '/' })
        );
        assert_eq!(
            JobId::parse("jöb"),
            Err(JobIdError::Character { found: 'ö' })
        );
        for found in ["monitor", "jobs", "events"] {
            let found = found.to_owned();
            assert_eq!(JobId::parse(&found), Err(JobIdError::Reserved { found }));
        }
        for found in [".", ".."] {
            let found = found.to_owned();
            assert_eq!(JobId::parse(&found), Err(JobIdError::Folder { found }));
        }
        assert!(JobId::parse("...").is_ok());
    }

    #[test]
    fn the_length_is_limited() {
        assert_eq!(JobId::parse(""), Err(JobIdError::Length { found: 0 }));
        assert!(JobId::parse(&"x".repeat(128)).is_ok());
        assert_eq!(
            JobId::parse(&"x".repeat(129)),
            Err(JobIdError::Length { found: 129 })
        );
    }
}
