//! A parameter of a workflow.

use std::fmt;

use serde_json::Value;
use uuid::Uuid;

use super::limits::{IntegerLimits, NumberLimits, to_json};

/// A parameter of a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderParameter {
    /// Under which name it is given.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// What it takes.
    pub kind: ParameterKind,
    /// What counts where it is not given.
    pub default: DefaultValue,
    /// The inputs that it sets.
    pub targets: Vec<InputTarget>,
}

/// What a parameter takes.
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterKind {
    /// A whole number.
    Integer(IntegerLimits),
    /// A number.
    Number(NumberLimits),
    /// A text.
    Text {
        /// Of how many characters at most.
        max_length: Option<u64>,
        /// Whether a form gives it several lines.
        is_multiline: bool,
    },
    /// True or false.
    Boolean,
    /// One of these texts or numbers.
    Choice(Vec<Value>),
    /// A text that ComfyUI servers offer for the first target, such as the file of a model. They judge it.
    ServerChoice,
    /// The name of a picture that ComfyUI loads.
    Image,
}

/// What counts where a parameter is not given.
#[derive(Debug, Clone, PartialEq)]
pub enum DefaultValue {
    /// Nothing: it has to be given.
    Required,
    /// Nothing: another parameter sets its targets as well.
    Absent,
    /// What the graph has.
    OfGraph(Value),
    /// This.
    Given(Value),
    /// A number of its own for each job.
    Random,
}

/// An input of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTarget {
    /// The node's id.
    pub node: String,
    /// The node's class.
    pub class: String,
    /// The input.
    pub input: String,
}

impl fmt::Display for InputTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.input)
    }
}

impl HeaderParameter {
    /// Its targets, with a value for each.
    pub(super) fn set(&self, value: &Value) -> impl Iterator<Item = (String, Value)> {
        let targets = self.targets.iter();
        targets.map(|target| (target.to_string(), value.clone()))
    }
}

impl DefaultValue {
    /// The word of a header for a number of its own for each job.
    pub const RANDOM: &'static str = "random";

    /// The value to fill in; `None` if the graph has it, or nothing has.
    pub(super) fn made(&self, kind: &ParameterKind) -> Option<Value> {
        match (self, kind) {
            (Self::Given(value), _) => Some(value.clone()),
            (Self::Random, ParameterKind::Integer(limits)) => Some(limits.random()),
            _ => None,
        }
    }
}

impl IntegerLimits {
    /// One of the numbers, from 0 where there are such, each as likely as the others.
    pub(in crate::workflow) fn random(&self) -> Value {
        // The fixed bits of the id stand at other places in each half.
        let id = Uuid::new_v4().as_u128();
        let random = (id >> 64) as u64 ^ id as u64;
        let least = self.minimum.max(0.min(self.maximum));
        to_json(least + i128::from(random) % (self.maximum - least + 1))
    }
}
