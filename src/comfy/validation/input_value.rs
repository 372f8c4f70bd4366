//! Checks the value of an input against what its class says of it.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::comfy::choices::{Choices, python_text, quote};
use crate::comfy::node_definition::{Bounds, InputDefinition, InputType};
use crate::comfy::validation::node::GraphNode;
use crate::comfy::validation::problem::{Missing, Problem, ProblemKind};

/// How the names of model files end.
const MODEL_FILES: [&str; 10] = [
    ".bin",
    ".ckpt",
    ".gguf",
    ".onnx",
    ".pkl",
    ".pt",
    ".pt2",
    ".pth",
    ".safetensors",
    ".sft",
];

/// What is wrong with a value.
pub(super) struct WrongValue<'a> {
    /// Made only where it is listed: a graph can have many.
    pub(super) problem: Box<dyn FnOnce() -> Problem + 'a>,
    /// Whether ComfyUI refuses it for sure, whatever check the class has of its own.
    pub(super) is_sure: bool,
}

/// A number as Python has it.
#[derive(Debug, Clone, Copy)]
enum PythonNumber {
    Integer(i128),
    Float(f64),
}

/// What Python's `int` or `float` makes of a value.
enum Converted {
    Number(PythonNumber),
    /// It may be a number: that depends on more than can be judged here.
    Unknown,
    /// It raises an exception with this text.
    Failed(String),
}

/// Checks a value that is not a link.
pub(super) fn check<'a>(
    node: &'a GraphNode<'a>,
    input: &'a InputDefinition,
    value: &'a Value,
) -> Option<WrongValue<'a>> {
    // Lists are links; a list as a value is wrapped, by the editors that know how.
    let value = value.get("__value__").unwrap_or(value);
    let has_no_own_checks = node.definition.is_some_and(|it| it.has_no_own_checks);
    match &input.takes {
        InputType::Integer(bounds) => {
            check_number(node, input, value, ("INT", int(value)), bounds.as_deref())
        }
        InputType::Number(bounds) => {
            let converted = ("FLOAT", float(value));
            check_number(node, input, value, converted, bounds.as_deref())
        }
        InputType::Choice {
            choices,
            is_checked,
        } => {
            // Several choices at once are checked one by one, by versions that know of them.
            if value.is_array() || value.is_object() || choices.contain(value) {
                return None;
            }
            Some(WrongValue {
                problem: Box::new(|| not_a_choice(node, input, value, choices)),
                is_sure: *is_checked && has_no_own_checks,
            })
        }
        InputType::Text
        | InputType::Boolean
        | InputType::Link(_)
        | InputType::Unknown
        | InputType::Dynamic => None,
    }
}

fn check_number<'a>(
    node: &'a GraphNode<'a>,
    input: &'a InputDefinition,
    value: &'a Value,
    (kind, converted): (&'static str, Converted),
    bounds: Option<&'a Bounds>,
) -> Option<WrongValue<'a>> {
    let number = match converted {
        Converted::Number(number) => number,
        Converted::Unknown => return None,
        Converted::Failed(exception) => {
            let problem = move || {
                let shown = python_text(value);
                node.problem(ProblemKind::NotConvertible)
                    .at_input(&input.name)
                    .with_message(format!(
                        "Failed to convert an input value to a {kind} value"
                    ))
                    .with_details(&format!("{}, {shown}, {exception}", input.name))
            };
            return Some(WrongValue {
                problem: Box::new(problem),
                is_sure: true,
            });
        }
    };
    let min = bounds.and_then(|bounds| bounds.min.as_ref());
    let max = bounds.and_then(|bounds| bounds.max.as_ref());
    let is = |bound: Option<&Number>, order| {
        let bound = bound.and_then(PythonNumber::of);
        bound.is_some_and(|bound| number.compare(bound) == Some(order))
    };
    let (kind, comparison, bound) = match (min, max) {
        (Some(min), _) if is(Some(min), Ordering::Less) => {
            (ProblemKind::TooSmall, "smaller than min", min)
        }
        (_, Some(max)) if is(Some(max), Ordering::Greater) => {
            (ProblemKind::TooLarge, "bigger than max", max)
        }
        _ => return None,
    };
    let problem = move || {
        let message = format!("Value {} {comparison} of {bound}", number.text());
        let problem = node.problem(kind).at_input(&input.name);
        problem.with_message(message).with_details(&input.name)
    };
    let is_sure = node.definition.is_some_and(|it| it.has_no_own_checks);
    Some(WrongValue {
        problem: Box::new(problem),
        is_sure,
    })
}

fn not_a_choice(
    node: &GraphNode<'_>,
    input: &InputDefinition,
    value: &Value,
    choices: &Choices,
) -> Problem {
    let is_model = |name: &str| {
        let name = name.to_ascii_lowercase();
        MODEL_FILES.iter().any(|end| name.ends_with(end))
    };
    let of_model = value.as_str().filter(|name| {
        let mut others = choices.texts();
        is_model(name) || others.any(is_model)
    });
    let (name, shown) = (&input.name, python_text(value));
    node.problem(ProblemKind::NotAChoice)
        .at_input(name)
        .with_details(&format!("{name}: '{shown}' not in {}", choices.listing()))
        .with_lack(of_model.map(|file| Missing::Model(file.to_owned())))
}

impl PythonNumber {
    fn of(number: &Number) -> Option<Self> {
        let integer = number.as_i64().map(i128::from);
        let integer = integer.or_else(|| number.as_u64().map(i128::from));
        integer
            .map(Self::Integer)
            .or_else(|| number.as_f64().map(Self::Float))
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Some(one.cmp(&other)),
            (one, other) => one.as_f64().partial_cmp(&other.as_f64()),
        }
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Integer(integer) => integer.to_string(),
            Self::Float(float) => format!("{float:?}"),
        }
    }
}

/// Python's `int`.
fn int(value: &Value) -> Converted {
    let failed = || {
        let text = value.as_str().unwrap_or_default();
        format!("invalid literal for int() with base 10: {}", quote(text))
    };
    match value {
        Value::Number(number) => match PythonNumber::of(number) {
            // As large as it may be, it stays what it is: a range of integers ends far below.
            Some(PythonNumber::Float(float)) => {
                Converted::Number(PythonNumber::Integer(float.trunc() as i128))
            }
            Some(integer) => Converted::Number(integer),
            None => Converted::Unknown,
        },
        Value::String(text) => {
            let digits = text.trim().replace('_', "");
            match digits.parse::<i128>() {
                Ok(integer) => Converted::Number(PythonNumber::Integer(integer)),
                Err(_) if is_judged(&digits) => Converted::Failed(failed()),
                Err(_) => Converted::Unknown,
            }
        }
        _ => converted("int()", value),
    }
}

/// Python's `float`.
fn float(value: &Value) -> Converted {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) => Converted::Number(PythonNumber::Float(float)),
            None => Converted::Unknown,
        },
        Value::String(text) => {
            let digits = text.trim().replace('_', "");
            match digits.parse::<f64>() {
                Ok(float) => Converted::Number(PythonNumber::Float(float)),
                Err(_) if is_judged(&digits) => Converted::Failed(format!(
                    "could not convert string to float: {}",
                    quote(text)
                )),
                Err(_) => Converted::Unknown,
            }
        }
        _ => converted("float()", value),
    }
}

/// Whether it is known that Python cannot read a text as a number either. It reads digits of all scripts, and integers of
/// any length.
fn is_judged(text: &str) -> bool {
    text.is_ascii()
        && (text.is_empty() || text.contains(|c: char| !c.is_ascii_digit() && c != '-' && c != '+'))
}

/// What both make of values that are neither numbers nor texts.
fn converted(function: &str, value: &Value) -> Converted {
    let kind = match value {
        Value::Bool(is_true) => {
            let integer = i128::from(*is_true);
            return Converted::Number(PythonNumber::Integer(integer));
        }
        Value::Null => "NoneType",
        Value::Array(_) => "list",
        _ => "dict",
    };
    Converted::Failed(format!(
        "{function} argument must be a string or a real number, not '{kind}'"
    ))
}
