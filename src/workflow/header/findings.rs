//! What a reader of headers has found, and where it is.

use serde_json::{Map, Value};

use super::problem::HeaderProblem;
use crate::job::excerpt;

/// What a reader has found wrong.
#[derive(Debug, Default)]
pub(super) struct HeaderFindings {
    pub(super) all: Vec<HeaderProblem>,
    /// Where the reader is.
    pub(super) place: String,
}

impl HeaderFindings {
    /// A text; `None` if there is none.
    pub(super) fn text(&mut self, fields: &Map<String, Value>, name: &str) -> Option<String> {
        self.field(fields, name, "a text", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    /// A switch, which is off if there is none.
    pub(super) fn flag(&mut self, fields: &Map<String, Value>, name: &str) -> bool {
        let flag = self.field(fields, name, "true or false", Value::as_bool);
        flag.unwrap_or_default()
    }

    /// The value of a field, as `read` takes it; `None` if there is none, or it is not as `wanted`.
    pub(super) fn field<T>(
        &mut self,
        fields: &Map<String, Value>,
        name: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = fields.get(name)?;
        let read = read(value);
        if read.is_none() {
            self.add(name, format!("expected {wanted}"));
        }
        read
    }

    /// Finds fields that there are not.
    pub(super) fn check_fields(&mut self, fields: &Map<String, Value>, known: &[&str]) {
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let why = format!("unknown field; there are {}", known.join(", "));
            self.add(&excerpt(name), why);
        }
    }

    /// Adds what is wrong with a field; an empty one stands for the place itself.
    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        let parts = [self.place.as_str(), field].into_iter();
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        self.all.push(HeaderProblem {
            place: parts.join("."),
            message: message.into(),
        });
    }
}
