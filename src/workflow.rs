//! Workflows: graphs in ComfyUI's API format, submitted by name or as they are, with parameters filled in.

mod catalog;
mod error;
mod graph;
mod params;
mod png;
mod seeds;

pub use catalog::Workflows;
pub use error::WorkflowError;
pub use graph::{check, check_targets, is_prompt_body, parse};
pub use params::fill;
pub use seeds::seeds;
