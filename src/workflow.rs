//! Workflows: graphs in ComfyUI's API format, submitted by name or as they are, with parameters filled in.

mod catalog;
mod error;
mod given;
mod graph;
mod header;
mod import;
mod parameter_problem;
mod params;
mod png;
mod schema;
mod seeds;

pub use catalog::{HEADER, NamedWorkflow, Workflows};
pub use error::WorkflowError;
pub use given::{GivenParameters, fill};
pub use graph::{check, check_targets, is_prompt_body, parse};
pub use header::{
    DefaultValue, HeaderParameter, HeaderProblem, InputTarget, IntegerLimits, NumberLimits,
    ParameterKind, WorkflowHeader,
};
pub use import::{ConversionProblem, ImportedWorkflow, SavedEditor, draft_header};
pub use parameter_problem::ParameterProblem;
pub use schema::parameters_schema;
pub use seeds::seeds;
