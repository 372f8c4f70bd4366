//! Whether a value is one that a parameter takes.

use serde_json::Value;

use super::limits::{to_json, whole};
use super::parameter::{DefaultValue, HeaderParameter, ParameterKind};
use crate::job::excerpt;
use crate::workflow::parameter_problem::ParameterProblem;
use crate::workflow::params::kind_of;

/// Why a value is refused: a code and a sentence.
type Refused = (&'static str, String);

impl HeaderParameter {
    /// What is filled in for a value.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(in crate::workflow) fn accepted(
        &self,
        value: &Value,
    ) -> Result<Option<Value>, ParameterProblem> {
        if self.default == DefaultValue::Random && *value == DefaultValue::RANDOM {
            return Ok(self.default.made(&self.kind));
        }
        let accepted = self.kind.accepted(value);
        accepted
            .map(Some)
            .map_err(|(code, why)| ParameterProblem::new(&self.name, code, why))
    }
}

impl ParameterKind {
    /// What is filled in for a value.
    pub(super) fn accepted(&self, value: &Value) -> Result<Value, Refused> {
        let of_type = |wanted: &str| {
            let got = kind_of(value);
            (
                ParameterProblem::TYPE,
                format!("expected {wanted}, got {got}"),
            )
        };
        let out_of_limits = |why: String| (ParameterProblem::LIMIT, why);
        match self {
            Self::Integer(limits) => {
                let number = whole(value).ok_or_else(|| of_type("a whole number"))?;
                limits.check(number).map_err(out_of_limits)?;
                Ok(to_json(number))
            }
            Self::Number(limits) => {
                let number = value.as_f64().ok_or_else(|| of_type("a number"))?;
                limits.check(number).map_err(out_of_limits)?;
                Ok(value.clone())
            }
            Self::Text { max_length, .. } => {
                let text = value.as_str().ok_or_else(|| of_type("a text"))?;
                let length = text.chars().count() as u64;
                match max_length {
                    Some(most) if length > *most => Err(out_of_limits(format!(
                        "it has {length} characters; at most {most} are allowed"
                    ))),
                    _ => Ok(value.clone()),
                }
            }
            Self::Boolean if value.is_boolean() => Ok(value.clone()),
            Self::Boolean => Err(of_type("true or false")),
            Self::Choice(choices) => {
                let mut all = choices.iter();
                let chosen = all.find(|choice| is_equal(choice, value));
                chosen.cloned().ok_or_else(|| {
                    let listed: Vec<String> = choices.iter().map(Value::to_string).collect();
                    let given = value.to_string();
                    let why = format!(
                        "expected one of {}, got {}",
                        listed.join(", "),
                        excerpt(&given)
                    );
                    (ParameterProblem::CHOICE, why)
                })
            }
            Self::ServerChoice | Self::Image => match value.as_str() {
                Some("") => Err(out_of_limits("it is empty".to_owned())),
                Some(_) => Ok(value.clone()),
                None => Err(of_type("a text")),
            },
        }
    }

    /// What it takes, in one word, as headers have it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Integer(_) => "integer",
            Self::Number(_) => "number",
            Self::Text { .. } => "string",
            Self::Boolean => "boolean",
            Self::Choice(_) | Self::ServerChoice => "choice",
            Self::Image => "image",
        }
    }
}

/// As JSON Schema compares: `1` and `1.0` are the same.
fn is_equal(choice: &Value, value: &Value) -> bool {
    match (choice.as_f64(), value.as_f64()) {
        (Some(choice), Some(value)) => choice == value,
        _ => choice == value,
    }
}
