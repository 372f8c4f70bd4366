//! [`Problem`]: one thing that is wrong with a graph, in ComfyUI's words and in ours.

use std::fmt;

use crate::comfy::rejection::{Rejection, WrongInput};
use crate::job::{excerpt, redact};

/// How many problems are listed.
pub(super) const MAX_PROBLEMS: usize = 50;

/// One thing that is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The node's id; empty if it is about the whole graph.
    pub node: String,
    /// The node's class.
    pub class_type: String,
    /// The input; empty if it is about the whole node.
    pub input: String,
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// What the server does not have, if that is the reason.
    pub lack: Option<Missing>,
    /// ComfyUI's sentence.
    message: String,
    /// What it adds to it.
    details: String,
    /// Whether the node is an output: ComfyUI names such problems in the sentence for the whole graph.
    is_of_output: bool,
}

/// What a server does not have, and another one may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A node class.
    Class(String),
    /// A model file.
    Model(String),
}

/// ComfyUI's kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The server does not have the node's class.
    MissingClass,
    /// No node is an output.
    NoOutputs,
    /// An input that is required is not set.
    MissingInput,
    /// A link is not a list of a node's id and the number of an output.
    BadLink,
    /// A link leads from an output of another type.
    WrongType,
    /// The value is not a number, and cannot be read as one.
    NotConvertible,
    /// The number is too small.
    TooSmall,
    /// The number is too large.
    TooLarge,
    /// The value is not among the choices.
    NotAChoice,
    /// Nodes need each other.
    Cycle,
    /// A node that another one needs cannot be checked: a link of it leads nowhere, or it has no inputs.
    InnerFailure,
    /// The same, of an output.
    Failure,
}

impl ProblemKind {
    /// Its word in ComfyUI's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingClass => "missing_node_type",
            Self::NoOutputs => "prompt_no_outputs",
            Self::MissingInput => "required_input_missing",
            Self::BadLink => "bad_linked_input",
            Self::WrongType => "return_type_mismatch",
            Self::NotConvertible => "invalid_input_type",
            Self::TooSmall => "value_smaller_than_min",
            Self::TooLarge => "value_bigger_than_max",
            Self::NotAChoice => "value_not_in_list",
            Self::Cycle => "dependency_cycle",
            Self::InnerFailure => "exception_during_inner_validation",
            Self::Failure => "exception_during_validation",
        }
    }

    /// ComfyUI's sentence, where it is always the same.
    fn sentence(self) -> &'static str {
        match self {
            Self::MissingClass => "Node not found. The custom node may not be installed.",
            Self::NoOutputs => "Prompt has no outputs",
            Self::MissingInput => "Required input is missing",
            Self::BadLink => "Bad linked input, must be a length-2 list of [node_id, slot_index]",
            Self::WrongType => "Return type mismatch between linked nodes",
            Self::NotConvertible => "Failed to convert an input value",
            Self::TooSmall => "Value smaller than min",
            Self::TooLarge => "Value bigger than max",
            Self::NotAChoice => "Value not in list",
            Self::Cycle => "Dependency cycle detected",
            Self::InnerFailure => "Exception when validating inner node",
            Self::Failure => "Exception when validating node",
        }
    }
}

impl Problem {
    /// One that is about the whole graph.
    pub(super) fn of_prompt(kind: ProblemKind) -> Self {
        Self {
            node: String::new(),
            class_type: String::new(),
            input: String::new(),
            kind,
            lack: None,
            message: kind.sentence().to_owned(),
            details: String::new(),
            is_of_output: false,
        }
    }

    /// One of a node.
    pub(super) fn of_node(kind: ProblemKind, node: &str, class: &str, is_of_output: bool) -> Self {
        Self {
            node: excerpt(node).into_owned(),
            class_type: excerpt(class).into_owned(),
            is_of_output,
            ..Self::of_prompt(kind)
        }
    }

    pub(super) fn at_input(mut self, input: &str) -> Self {
        self.input = excerpt(input).into_owned();
        self
    }

    pub(super) fn with_message(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    pub(super) fn with_details(mut self, details: &str) -> Self {
        self.details = excerpt(&redact(details)).into_owned();
        self
    }

    pub(super) fn with_lack(mut self, lack: Option<Missing>) -> Self {
        self.lack = lack;
        self
    }

    /// What is wrong, in ComfyUI's words.
    fn text(&self) -> String {
        match self.details.as_str() {
            "" => self.message.clone(),
            details => format!("{}: {details}", self.message),
        }
    }

    /// As ComfyUI's own refusals have it.
    fn as_refused(&self) -> WrongInput {
        WrongInput {
            message: self.text(),
            ..self.as_found()
        }
    }

    /// The same with the reason in our words where the server lacks something.
    pub fn as_found(&self) -> WrongInput {
        WrongInput {
            node: self.node.clone(),
            class_type: self.class_type.clone(),
            input: self.input.clone(),
            code: self.kind.as_str().to_owned(),
            message: match &self.lack {
                Some(lack) => lack.to_string(),
                None => self.text(),
            },
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "node class {:?} is missing", excerpt(class)),
            Self::Model(file) => write!(f, "model file {:?} is missing", excerpt(file)),
        }
    }
}

/// The reason in one sentence.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(lack) = &self.lack {
            return lack.fmt(f);
        }
        if !self.node.is_empty() {
            write!(f, "{} (node {})", self.class_type, self.node)?;
            if !self.input.is_empty() {
                write!(f, ", input {}", self.input)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.text())
    }
}

impl Rejection {
    /// The refusal with which ComfyUI answers a graph with these problems. Of missing classes it names the first alone.
    pub(super) fn of_problems(problems: &[Problem], total: usize) -> Self {
        let of_prompt = problems.first().filter(|first| {
            let kinds = [ProblemKind::MissingClass, ProblemKind::NoOutputs];
            kinds.contains(&first.kind)
        });
        if let Some(first) = of_prompt {
            let inputs: Vec<WrongInput> = match first.node.as_str() {
                "" => Vec::new(),
                _ => vec![first.as_refused()],
            };
            return Self {
                kind: first.kind.as_str().to_owned(),
                message: first.text(),
                inputs_total: inputs.len(),
                inputs,
            };
        }
        let of_outputs = problems.iter().filter(|problem| problem.is_of_output);
        let details: Vec<String> = of_outputs.map(Problem::text).collect();
        let message = match details.join(" ").as_str() {
            "" => "Prompt outputs failed validation".to_owned(),
            details => format!("Prompt outputs failed validation: {details}"),
        };
        Self {
            kind: "prompt_outputs_failed_validation".to_owned(),
            message: excerpt(&message).into_owned(),
            inputs: problems.iter().map(Problem::as_refused).collect(),
            inputs_total: total,
        }
    }
}

/// Problems, of many the first, and how many there are.
#[derive(Debug, Default)]
pub(super) struct FoundProblems {
    pub(super) problems: Vec<Problem>,
    pub(super) total: usize,
}

impl FoundProblems {
    pub(super) fn add(&mut self, problem: impl FnOnce() -> Problem) {
        self.total += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem());
        }
    }

    pub(super) fn append(&mut self, others: Self) {
        let room = MAX_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(others.problems.into_iter().take(room));
        self.total += others.total;
    }
}
