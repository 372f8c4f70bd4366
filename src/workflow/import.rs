//! Workflows from elsewhere: files in API format, in the format of ComfyUI's editor, and pictures that ComfyUI has saved.

mod converter;
mod draft;
mod editor_graph;
mod problem;
mod widgets;

use serde_json::{Map, Value};

use super::error::WorkflowError;
use super::graph::{self, check};
use super::png;
use crate::python_json;
use converter::Converter;
use editor_graph::EditorGraph;

pub use draft::draft_header;
pub use problem::ConversionProblem;

/// A workflow from elsewhere.
#[derive(Debug)]
pub enum ImportedWorkflow {
    /// In API format.
    Api(Map<String, Value>),
    /// In the editor's format, which does not name the inputs of the values that it has.
    Editor(SavedEditor),
}

/// What ComfyUI's editor has saved.
#[derive(Debug)]
pub struct SavedEditor(Value);

impl ImportedWorkflow {
    /// Reads a file. Of a picture, the graph that ran counts, not what the editor showed.
    ///
    /// # Errors
    ///
    /// If there is no workflow in it.
    pub fn read(file: &[u8]) -> Result<Self, WorkflowError> {
        let text = if png::is_png(file) {
            let ran = png::text(file, "prompt")?;
            let saved = ran.map_or_else(|| png::text(file, "workflow"), |ran| Ok(Some(ran)))?;
            saved.ok_or(WorkflowError::NoGraphInPng)?
        } else {
            file
        };
        let value: Value = python_json::read(text).map_err(WorkflowError::NotJson)?;
        if value["nodes"].is_array() {
            return Ok(Self::Editor(SavedEditor(value)));
        }
        Ok(Self::Api(check(value)?))
    }
}

impl SavedEditor {
    /// The graph in API format, by the node classes that `GET /object_info` of the server lists.
    ///
    /// # Errors
    ///
    /// Everything that cannot be converted.
    pub fn convert(&self, classes: &Value) -> Result<Map<String, Value>, Vec<ConversionProblem>> {
        let graph = EditorGraph::read(&self.0)?;
        let converted = Converter::new(&graph, classes).convert()?;
        graph::check(converted.into()).map_err(|error| {
            vec![ConversionProblem {
                node: String::new(),
                message: error.to_string(),
            }]
        })
    }

    /// The classes of its nodes, each once, in their order.
    pub fn classes(&self) -> Vec<&str> {
        let nodes = self.0["nodes"].as_array().into_iter().flatten();
        let mut classes = Vec::new();
        for class in nodes.filter_map(|node| node["type"].as_str()) {
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
    }
}
