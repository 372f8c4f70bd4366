//! [`NewReport`]: a report as a producer writes it, over HTTP or on a channel.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Report, Status, TagError, Tags, excerpt, group_schema, labels_schema};
use crate::python_json;

/// The longest remaining time that is accepted, in seconds: some 30 years.
const MAX_REMAINING: f64 = 1e9;

/// The fields of a report.
const FIELDS: [&str; 8] = [
    "progress",
    "status",
    "estimated_remaining",
    "message",
    "output_path",
    "error",
    "labels",
    "group",
];

/// A report on a job that ComfyUI does not run.
#[derive(JsonSchema, Deserialize)]
pub struct NewReport {
    /// From 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    progress: f64,
    #[schemars(with = "Status")]
    status: String,
    /// In seconds.
    #[schemars(range(min = 0.0, max = MAX_REMAINING))]
    estimated_remaining: Option<f64>,
    /// One sentence for a person.
    message: Option<String>,
    /// The file that it has made.
    output_path: Option<String>,
    /// What went wrong, on `failed`.
    error: Option<String>,
    #[serde(default)]
    #[schemars(schema_with = "labels_schema")]
    labels: Map<String, Value>,
    #[serde(default)]
    #[schemars(schema_with = "group_schema")]
    group: Option<String>,
}

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is not JSON, or a field is missing or has another type.
    #[error("the body is not the expected JSON: {}", excerpt(&.0.to_string()))]
    Json(#[from] serde_json::Error),
    /// It has a field that no report has: what that asks for would be left out.
    #[error("unknown field {:?}; the body takes {}", excerpt(.0), FIELDS.join(", "))]
    UnknownField(String),
    /// A label or the group cannot be one.
    #[error(transparent)]
    Tags(#[from] TagError),
    /// A number is out of its range.
    #[error("{0}")]
    Progress(&'static str),
    /// The status is none.
    #[error("status is one of {}, not {:?}", Status::ALL.map(Status::as_str).join(", "), excerpt(.0))]
    Status(String),
}

impl ReportError {
    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json(_) => "bad_json",
            Self::UnknownField(_) => "unknown_field",
            Self::Tags(error) => error.code(),
            Self::Progress(_) => "bad_progress",
            Self::Status(_) => "bad_status",
        }
    }
}

impl NewReport {
    /// Reads a report.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or has other fields.
    pub fn read(text: &[u8]) -> Result<Self, ReportError> {
        let fields: Map<String, Value> = python_json::read(text)?;
        let mut names = fields.keys();
        if let Some(unknown) = names.find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(ReportError::UnknownField(unknown.clone()));
        }
        Ok(serde_json::from_value(Value::Object(fields))?)
    }

    /// Checks it. Returns the tags for the job that it may register beside it.
    ///
    /// # Errors
    ///
    /// If a field has a value that it cannot have.
    pub fn check(self) -> Result<(Report, Tags), ReportError> {
        let tags = Tags::of_client(&self.labels, self.group)?;
        if !(0.0..=100.0).contains(&self.progress) {
            return Err(ReportError::Progress("progress is a number from 0 to 100"));
        }
        let remaining = self.estimated_remaining;
        if remaining.is_some_and(|seconds| !(0.0..=MAX_REMAINING).contains(&seconds)) {
            return Err(ReportError::Progress(
                "estimated_remaining is a number of seconds, not negative",
            ));
        }
        let status = Status::from_word(&self.status);
        let report = Report {
            status: status.ok_or(ReportError::Status(self.status))?,
            progress: self.progress as u8,
            estimated_remaining: remaining.map(|seconds| seconds.round() as u64),
            message: self.message,
            output_path: self.output_path,
            error: self.error,
        };
        Ok((report, tags))
    }
}
