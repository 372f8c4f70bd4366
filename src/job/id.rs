use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// How the id begins under which a group is followed as one job.
const GROUP_PREFIX: &str = "group:";

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
    /// The text stands for a group of jobs.
    #[error("a job id that begins with \"group:\" means the group of that name; choose another")]
    Group,
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

    /// The longest name of a group.
    pub const MAX_GROUP_CHARS: usize = Self::MAX_CHARS - GROUP_PREFIX.len();

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

    /// The same id in memory of its own, which it does not share with its clones.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::from(&*self.0))
    }

    /// The id under which a group is followed as one job; `None` if no group can have this name.
    pub fn of_group(name: &str) -> Option<Self> {
        let id = Self::parse(&format!("{GROUP_PREFIX}{name}")).ok()?;
        id.group().is_some().then_some(id)
    }

    /// The group that is followed under this id; `None` if it is that of a job.
    pub fn group(&self) -> Option<&str> {
        let name = self.0.strip_prefix(GROUP_PREFIX)?;
        (!name.is_empty()).then_some(name)
    }

    /// Refuses the id of a group for a job.
    ///
    /// # Errors
    ///
    /// If it is one.
    pub fn check_job(&self) -> Result<(), JobIdError> {
        match self.group() {
            Some(_) => Err(JobIdError::Group),
            None => Ok(()),
        }
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

impl JsonSchema for JobId {
    fn schema_name() -> Cow<'static, str> {
        "JobId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The id of a job, or `group:NAME` for a group that is followed as one job. `monitor`, `jobs`, `events`, `.` and `..` are reserved.",
            "type": "string",
            "minLength": 1,
            "maxLength": Self::MAX_CHARS,
            "pattern": "^[A-Za-z0-9._:-]+$",
        })
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
    fn a_group_has_an_id_that_no_job_has() {
        let id = JobId::of_group("ep3").unwrap();
        assert_eq!((id.as_str(), id.group()), ("group:ep3", Some("ep3")));
        assert_eq!(id.check_job(), Err(JobIdError::Group));
        for job in ["shot", "group", "group:", "a:group:b"] {
            let id = JobId::parse(job).unwrap();
            assert_eq!((id.group(), id.check_job()), (None, Ok(())), "{job}");
        }
        assert_eq!(JobId::of_group(""), None);
        assert_eq!(JobId::of_group("a/b"), None);
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
