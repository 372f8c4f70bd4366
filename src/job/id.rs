use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The public name of a job: 1 to 128 characters of `A-Z a-z 0-9 . _ : -`, and not `monitor`.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Arc<str>);

/// Why a text is no [`JobId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobIdError {
    /// The text is empty or longer than [`JobId::MAX_CHARS`].
    #[error("a job id has 1 to {max} characters, this one has {found}", max = JobId::MAX_CHARS)]
    Length {
        /// How many characters the text has.
        found: usize,
    },
    /// The text holds a character that is not allowed.
    #[error("a job id consists of A-Z a-z 0-9 . _ : - only, this one holds {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
    /// The text names the system monitor, which is never a job.
    #[error("the job id \"monitor\" is reserved for the system monitor")]
    Reserved,
}

impl JobId {
    /// The documented length limit.
    pub const MAX_CHARS: usize = 128;

    /// Checks a text against the documented rules.
    pub fn parse(text: &str) -> Result<Self, JobIdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        let found = text.chars().count();
        if found == 0 || found > Self::MAX_CHARS {
            return Err(JobIdError::Length { found });
        }
        if let Some(found) = text.chars().find(|&c| !allowed(c)) {
            return Err(JobIdError::Character { found });
        }
        if text == "monitor" {
            return Err(JobIdError::Reserved);
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
    fn accepts_the_documented_characters_only() {
        assert!(JobId::parse("Az09._:-").is_ok());
        assert_eq!(
            JobId::parse("a/b"),
            Err(JobIdError::Character { found: '/' })
        );
        assert_eq!(
            JobId::parse("jöb"),
            Err(JobIdError::Character { found: 'ö' })
        );
        assert_eq!(JobId::parse("monitor"), Err(JobIdError::Reserved));
    }

    #[test]
    fn holds_the_length_limits() {
        assert_eq!(JobId::parse(""), Err(JobIdError::Length { found: 0 }));
        assert!(JobId::parse(&"x".repeat(128)).is_ok());
        assert_eq!(
            JobId::parse(&"x".repeat(129)),
            Err(JobIdError::Length { found: 129 })
        );
    }
}
