//! What a server says of one node class, as far as validation needs it.

use std::sync::Arc;

use serde_json::{Number, Value};

use super::choices::{Choices, SharedTexts};

/// The type of a value of any type.
const ANY: &str = "*";

/// How the names of types begin whose inputs take their shape from other inputs, or from what is linked to them.
const DYNAMIC: &str = "COMFY_";

/// The type of choices in the newer notation.
const COMBO: &str = "COMBO";

/// Options of an input whose choices change all the time, or are not on the server: files that clients upload, and lists
/// that the editor fetches.
const CHANGING: [&str; 8] = [
    "animated_image_upload",
    "audio_upload",
    "file_upload",
    "image_folder",
    "image_upload",
    "remote",
    "remote_combo",
    "video_upload",
];

/// Classes of ComfyUI itself that check inputs in their own way, and take what is not among the choices.
const WITH_OWN_CHECKS: [&str; 4] = [
    "LoadImageSetFromFolderNode",
    "LoadImageSetNode",
    "LoadImageTextSetFromFolderNode",
    "LoadLatent",
];

/// What a server says of one node class.
#[derive(Debug, PartialEq)]
pub(super) struct NodeDefinition {
    pub(super) inputs: Box<[InputDefinition]>,
    /// The type of each output, `None` for one that has no name; `None` if the server does not list them.
    pub(super) outputs: Option<Box<[Option<Arc<str>>]>>,
    /// Whether ComfyUI alone judges its inputs. Other classes can have a check of their own (`VALIDATE_INPUTS`), of which
    /// the server does not say anything: it replaces those of ranges, choices and types.
    pub(super) has_no_own_checks: bool,
}

/// An input of a node class.
#[derive(Debug, PartialEq)]
pub(super) struct InputDefinition {
    pub(super) name: Arc<str>,
    pub(super) is_required: bool,
    pub(super) takes: InputType,
}

/// What an input takes.
#[derive(Debug, PartialEq)]
pub(super) enum InputType {
    Integer(Option<Box<Bounds>>),
    Number(Option<Box<Bounds>>),
    Text,
    Boolean,
    /// One of a list. Whether ComfyUI checks that depends on its version for choices in the newer notation.
    Choice {
        choices: Arc<Choices>,
        is_checked: bool,
    },
    /// A value of this type, from another node.
    Link(Arc<str>),
    /// Whatever it takes cannot be judged from here.
    Unknown,
    /// Stands for inputs of other names.
    Dynamic,
}

/// The range of a number.
#[derive(Debug, PartialEq)]
pub(super) struct Bounds {
    pub(super) min: Option<Number>,
    pub(super) max: Option<Number>,
}

impl NodeDefinition {
    /// Reads what `GET /object_info` says of a class.
    pub(super) fn read(class: &str, info: &Value, shared: &mut SharedTexts) -> Self {
        // Servers of 2026 say this of a class, and check choices in both notations.
        let checks_combos = info.get("has_intermediate_output").is_some();
        let mut inputs: Vec<InputDefinition> = Vec::new();
        for (group, is_required) in [("required", true), ("optional", false)] {
            for (name, spec) in info["input"][group].as_object().into_iter().flatten() {
                if !is_required && info["input"]["required"].get(name).is_some() {
                    continue;
                }
                inputs.push(InputDefinition {
                    name: shared.text(name),
                    is_required,
                    takes: InputType::read(spec, checks_combos, shared),
                });
            }
        }
        let outputs = info["output"].as_array().map(|outputs| {
            let types = outputs.iter();
            let types = types.map(|it| it.as_str().map(|name| shared.text(name)));
            types.collect()
        });
        let module = info["python_module"].as_str().unwrap_or_default();
        let is_of_comfyui = module == "nodes" || module.starts_with("comfy_extras.");
        Self {
            inputs: inputs.into(),
            outputs,
            has_no_own_checks: is_of_comfyui && !WITH_OWN_CHECKS.contains(&class),
        }
    }
}

impl InputType {
    /// Of a specification such as `["INT", {"default": 20}]`, `[["euler", "lcm"]]` or `["COMBO", {"options": ["euler"]}]`.
    fn read(spec: &Value, checks_combos: bool, shared: &mut SharedTexts) -> Self {
        let options = &spec[1];
        let is_changing = || {
            let mut marks = CHANGING.iter();
            marks.any(|mark| options.get(mark).is_some_and(|it| *it != false))
        };
        let (list, is_checked) = match &spec[0] {
            Value::Array(list) => (list, true),
            Value::String(name) => match name.as_str() {
                "INT" => return Self::Integer(Bounds::read(options)),
                "FLOAT" => return Self::Number(Bounds::read(options)),
                "STRING" => return Self::Text,
                "BOOLEAN" => return Self::Boolean,
                COMBO => match &options["options"] {
                    Value::Array(list) => (list, checks_combos),
                    _ => return Self::Unknown,
                },
                "COMFY_MATCHTYPE_V3" => return Self::Unknown,
                name if name.starts_with(DYNAMIC) => return Self::Dynamic,
                name => return Self::Link(shared.text(name)),
            },
            _ => return Self::Unknown,
        };
        // Whether an uploaded file is there is seen only when the prompt is handed in: files come and go without anything
        // that says so, and a name may be that of a file in another folder ("a.png [output]").
        if is_changing() {
            return Self::Unknown;
        }
        match shared.choices(list) {
            Some(choices) => Self::Choice {
                choices,
                is_checked,
            },
            None => Self::Unknown,
        }
    }
}

impl Bounds {
    fn read(options: &Value) -> Option<Box<Self>> {
        let number = |name: &str| match options.get(name) {
            Some(Value::Number(number)) => Some(number.clone()),
            _ => None,
        };
        let bounds = Self {
            min: number("min"),
            max: number("max"),
        };
        (bounds.min.is_some() || bounds.max.is_some()).then(|| Box::new(bounds))
    }
}

/// Whether an output of one type can be linked to an input of another: types are lists such as `INT,FLOAT`, of which one
/// must be in both. Where it depends on more than these names, it can.
pub(super) fn is_linkable(output: &str, input: &str) -> bool {
    let is_open = |name: &str| name == ANY || name == COMBO || name.starts_with(DYNAMIC);
    let names = |types| str::split(types, ',').map(str::trim);
    names(output).any(|output| {
        let is_same = |input| is_open(input) || input == output;
        is_open(output) || names(input).any(is_same)
    })
}
