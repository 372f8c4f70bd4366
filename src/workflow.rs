//! Workflows: graphs in ComfyUI's API format, submitted by name or as they are, with parameters filled in.

mod catalog;
mod error;
mod graph;
mod params;

pub use catalog::Workflows;
pub use error::WorkflowError;
pub use graph::{check, parse};
pub use params::fill;
