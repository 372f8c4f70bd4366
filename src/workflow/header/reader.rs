//! Reads a header, and finds everything that is wrong with it.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::WorkflowHeader;
use super::findings::HeaderFindings;
use super::limits::{IntegerLimits, NumberLimits, whole};
use super::parameter::{DefaultValue, HeaderParameter, InputTarget, ParameterKind};
use super::problem::HeaderProblem;
use crate::job::excerpt;
use crate::python_json;
use crate::workflow::params::{find, is_placeholder, kind_of};

/// The most parameters that a header has: more than a form can show.
const MAX_PARAMETERS: usize = 100;

/// The longest name of a parameter, in bytes: it is a flag of the command line.
const MAX_NAME: usize = 40;

/// The fields of a header.
const FIELDS: [&str; 3] = ["title", "description", "parameters"];

/// The fields of every parameter.
const COMMON: [&str; 6] = [
    "name",
    "type",
    "description",
    "default",
    "required",
    "targets",
];

/// The types of parameters, each with the fields that it has beside the common ones.
const TYPES: [(&str, &[&str]); 6] = [
    ("integer", &["minimum", "maximum", "step"]),
    ("number", &["minimum", "maximum", "step"]),
    ("string", &["max_length", "multiline"]),
    ("boolean", &[]),
    ("choice", &["choices"]),
    ("image", &[]),
];

impl WorkflowHeader {
    /// Reads a header for a graph.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(text: &[u8], graph: &Map<String, Value>) -> Result<Self, Vec<HeaderProblem>> {
        HeaderReader::new(graph).read(text)
    }
}

/// Reads the header of a graph.
struct HeaderReader<'a> {
    graph: &'a Map<String, Value>,
    found: HeaderFindings,
}

impl<'a> HeaderReader<'a> {
    fn new(graph: &'a Map<String, Value>) -> Self {
        Self {
            graph,
            found: HeaderFindings::default(),
        }
    }

    fn read(mut self, text: &[u8]) -> Result<WorkflowHeader, Vec<HeaderProblem>> {
        let header: Value = match python_json::read(text) {
            Ok(header) => header,
            Err(error) => {
                self.found.add("", format!("it is not JSON: {error}"));
                return Err(self.found.all);
            }
        };
        let Value::Object(fields) = header else {
            self.found.add(
                "",
                "it is not an object, such as {\"title\": \"…\", \"parameters\": […]}",
            );
            return Err(self.found.all);
        };
        self.found.check_fields(&fields, &FIELDS);
        let title = self.found.text(&fields, "title").unwrap_or_default();
        if title.trim().is_empty() {
            self.found.add("title", "it is missing or empty");
        }
        let description = self.found.text(&fields, "description").unwrap_or_default();
        let parameters = self.parameters(fields.get("parameters"));
        if !self.found.all.is_empty() {
            return Err(self.found.all);
        }
        Ok(WorkflowHeader {
            title,
            description,
            parameters,
        })
    }

    fn parameters(&mut self, list: Option<&Value>) -> Vec<HeaderParameter> {
        let list = match list {
            None => return Vec::new(),
            Some(Value::Array(list)) if list.len() <= MAX_PARAMETERS => list,
            Some(_) => {
                let why = format!("expected a list of at most {MAX_PARAMETERS} parameters");
                self.found.add("parameters", why);
                return Vec::new();
            }
        };
        let (mut all, mut names) = (Vec::new(), HashSet::new());
        for (index, parameter) in list.iter().enumerate() {
            self.found.place = format!("parameters[{index}]");
            let Value::Object(fields) = parameter else {
                self.found.add(
                    "",
                    "expected an object, such as {\"name\": \"steps\", \"type\": \"integer\", …}",
                );
                continue;
            };
            let Some(name) = self.name(fields) else {
                continue;
            };
            self.found.place = format!("parameters.{name}");
            if !names.insert(name.clone()) {
                self.found
                    .add("name", "another parameter has this name, too");
            }
            all.extend(self.parameter(name, fields));
        }
        self.found.place.clear();
        all
    }

    fn name(&mut self, fields: &Map<String, Value>) -> Option<String> {
        let name = self.found.text(fields, "name").unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= MAX_NAME
            && name.chars().all(is_plain);
        if !is_name {
            let why = format!(
                "expected a name of at most {MAX_NAME} small letters, digits and underscores, such as \"steps\""
            );
            self.found.add("name", why);
        }
        is_name.then_some(name)
    }

    fn parameter(&mut self, name: String, fields: &Map<String, Value>) -> Option<HeaderParameter> {
        let word = self.found.text(fields, "type").unwrap_or_default();
        let Some((word, own)) = TYPES.iter().find(|(known, _)| *known == word) else {
            let known = TYPES.map(|(word, _)| word).join(", ");
            self.found.add("type", format!("expected one of {known}"));
            return None;
        };
        self.found
            .check_fields(fields, &[&COMMON[..], own].concat());
        let kind = self.kind(word, fields);
        let targets = self.targets(fields.get("targets"));
        let default = self.default(fields, kind.as_ref()?, &targets);
        Some(HeaderParameter {
            name,
            description: self.found.text(fields, "description").unwrap_or_default(),
            kind: kind?,
            default: default?,
            targets,
        })
    }

    fn kind(&mut self, word: &str, fields: &Map<String, Value>) -> Option<ParameterKind> {
        Some(match word {
            "integer" => ParameterKind::Integer(self.integer_limits(fields)),
            "number" => ParameterKind::Number(self.number_limits(fields)),
            "string" => ParameterKind::Text {
                max_length: self
                    .found
                    .field(fields, "max_length", "a whole number", Value::as_u64),
                is_multiline: self.found.flag(fields, "multiline"),
            },
            "boolean" => ParameterKind::Boolean,
            "image" => ParameterKind::Image,
            _ => match fields.get("choices") {
                None => ParameterKind::ServerChoice,
                Some(Value::Array(choices)) if is_choice_list(choices) => {
                    ParameterKind::Choice(choices.clone())
                }
                Some(_) => {
                    self.found.add("choices", "expected a list of texts, or of numbers; without it, ComfyUI's own choices are offered");
                    return None;
                }
            },
        })
    }

    fn integer_limits(&mut self, fields: &Map<String, Value>) -> IntegerLimits {
        let mut limits = IntegerLimits::default();
        let wanted = "a whole number of at most 64 bits";
        let of_64_bits = |value: &Value| {
            let bounds = i128::from(i64::MIN)..=i128::from(u64::MAX);
            whole(value).filter(|number| bounds.contains(number))
        };
        if let Some(minimum) = self.found.field(fields, "minimum", wanted, of_64_bits) {
            limits.minimum = minimum;
        }
        if let Some(maximum) = self.found.field(fields, "maximum", wanted, of_64_bits) {
            limits.maximum = maximum;
        }
        if limits.minimum > limits.maximum {
            self.found.add("minimum", "it is more than the maximum");
        }
        let positive = |value: &Value| of_64_bits(value).filter(|step| *step > 0);
        limits.step = self
            .found
            .field(fields, "step", "a whole number above 0", positive);
        limits
    }

    fn number_limits(&mut self, fields: &Map<String, Value>) -> NumberLimits {
        let limits = NumberLimits {
            minimum: self
                .found
                .field(fields, "minimum", "a number", Value::as_f64),
            maximum: self
                .found
                .field(fields, "maximum", "a number", Value::as_f64),
            step: self
                .found
                .field(fields, "step", "a number above 0", |value| {
                    value.as_f64().filter(|step| *step > 0.0)
                }),
        };
        if limits
            .minimum
            .zip(limits.maximum)
            .is_some_and(|(min, max)| min > max)
        {
            self.found.add("minimum", "it is more than the maximum");
        }
        limits
    }

    fn targets(&mut self, list: Option<&Value>) -> Vec<InputTarget> {
        let list = list
            .and_then(Value::as_array)
            .filter(|list| !list.is_empty());
        let Some(list) = list else {
            self.found.add("targets", "expected a list with the inputs to set, such as [{\"node\": \"3\", \"input\": \"seed\"}]");
            return Vec::new();
        };
        let mut targets = Vec::new();
        for (index, target) in list.iter().enumerate() {
            match self.target(target) {
                Ok(target) => targets.push(target),
                Err(why) => self.found.add(&format!("targets[{index}]"), why),
            }
        }
        targets
    }

    fn target(&self, target: &Value) -> Result<InputTarget, String> {
        let (Some(node), Some(input)) = (target["node"].as_str(), target["input"].as_str()) else {
            return Err("expected {\"node\": \"ID\", \"input\": \"NAME\"}".to_owned());
        };
        let fields = target.as_object().into_iter().flatten();
        let mut unknown = fields.filter(|(name, _)| !["node", "input"].contains(&name.as_str()));
        if let Some((name, _)) = unknown.next() {
            return Err(format!(
                "unknown field {:?}; there are node, input",
                excerpt(name)
            ));
        }
        let id = find(self.graph, node)?;
        let value = self.graph[&id]
            .get("inputs")
            .and_then(|inputs| inputs.get(input));
        match value {
            None => Err(format!(
                "node {:?} has no input {:?}",
                excerpt(node),
                excerpt(input)
            )),
            Some(Value::Array(_)) => Err("this input is linked to another node".to_owned()),
            Some(_) => Ok(InputTarget {
                class: self.graph[&id]["class_type"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                node: id,
                input: input.to_owned(),
            }),
        }
    }

    fn default(
        &mut self,
        fields: &Map<String, Value>,
        kind: &ParameterKind,
        targets: &[InputTarget],
    ) -> Option<DefaultValue> {
        let required = self
            .found
            .field(fields, "required", "true or false", Value::as_bool);
        let is_required = required == Some(true);
        let given = fields.get("default");
        if is_required && given.is_some() {
            self.found
                .add("required", "a parameter with a default is not required");
            return None;
        }
        let in_graph = |target: &InputTarget| &self.graph[&target.node]["inputs"][&target.input];
        let of_graph: Vec<Value> = targets.iter().map(|it| in_graph(it).clone()).collect();
        self.check_types(kind, &of_graph);
        match (given, kind) {
            (Some(word), ParameterKind::Integer(limits)) if *word == DefaultValue::RANDOM => {
                if limits.step.is_some() {
                    self.found
                        .add("step", "a parameter whose default is random has none");
                }
                Some(DefaultValue::Random)
            }
            (Some(value), _) => match kind.accepted(value) {
                Ok(value) => Some(DefaultValue::Given(value)),
                Err((_, why)) => {
                    self.found.add("default", why);
                    None
                }
            },
            (None, _) if is_required => Some(DefaultValue::Required),
            (None, _)
                if required == Some(false) && of_graph.first().is_some_and(is_placeholder) =>
            {
                Some(DefaultValue::Absent)
            }
            (None, _) => self.default_of_graph(kind, &of_graph),
        }
    }

    fn default_of_graph(&mut self, kind: &ParameterKind, values: &[Value]) -> Option<DefaultValue> {
        let first = values.first()?;
        if is_placeholder(first) {
            return Some(DefaultValue::Required);
        }
        if values.iter().any(|value| value != first) {
            self.found.add(
                "default",
                "the graph has different values in the targets; give a default",
            );
            return None;
        }
        match kind.accepted(first) {
            Ok(value) => Some(DefaultValue::OfGraph(value)),
            Err((_, why)) => {
                self.found.add(
                    "default",
                    format!("the graph's own value does not fit: {why}; give a default"),
                );
                None
            }
        }
    }

    /// Whether the graph has values of this type.
    fn check_types(&mut self, kind: &ParameterKind, of_graph: &[Value]) {
        let wanted = match kind {
            ParameterKind::Integer(_) | ParameterKind::Number(_) => "a number",
            ParameterKind::Boolean => "true or false",
            ParameterKind::Choice(choices) => choices.first().map_or("a text", kind_of),
            ParameterKind::Text { .. } | ParameterKind::ServerChoice | ParameterKind::Image => {
                "a text"
            }
        };
        let mut others = of_graph
            .iter()
            .filter(|it| kind_of(it) != wanted && !is_placeholder(it));
        if let Some(other) = others.next() {
            let why = format!("the graph has {} there, not {wanted}", kind_of(other));
            self.found.add("type", why);
        }
    }
}

/// Whether there are choices, all texts or all numbers.
fn is_choice_list(choices: &[Value]) -> bool {
    !choices.is_empty()
        && (choices.iter().all(Value::is_string) || choices.iter().all(Value::is_number))
}
