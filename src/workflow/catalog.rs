//! [`Workflows`]: the graphs that can be submitted by name.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use super::error::WorkflowError;
use super::graph::parse;
use super::header::WorkflowHeader;
use crate::python_json;

/// The longest name of a file, in bytes.
const MAX_NAME: usize = 255;

/// How the names of PNG files end.
const PNG: &str = ".png";

/// What the name of a workflow's header has behind the name of the workflow.
pub const HEADER: &str = ".header.json";

/// A folder with graphs in API format: one `NAME.json` each, or a PNG file that ComfyUI has saved. Beside it may be a header,
/// `NAME.header.json`. Every request reads the files that it needs, so that a change counts at once.
#[derive(Debug)]
pub struct Workflows {
    folder: PathBuf,
    /// The wrong headers that were logged, by the names of their workflows.
    logged: Mutex<HashMap<String, String>>,
}

/// A workflow of the folder.
#[derive(Debug, Clone)]
pub struct NamedWorkflow {
    /// The graph, in API format.
    pub graph: Map<String, Value>,
    /// What it says of itself.
    pub header: Option<WorkflowHeader>,
}

impl NamedWorkflow {
    /// A graph without a header.
    pub fn plain(graph: Map<String, Value>) -> Self {
        Self {
            graph,
            header: None,
        }
    }
}

impl Workflows {
    /// The workflows in `folder`, which need not exist.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            logged: Mutex::default(),
        }
    }

    /// Reads the workflow with this name, with or without `.json`. The name is that of a file in the folder itself.
    ///
    /// # Errors
    ///
    /// If there is none, or it or its header is wrong. A wrong header is logged once.
    pub async fn read(&self, name: &str) -> Result<NamedWorkflow, WorkflowError> {
        if name.starts_with('{') && python_json::read::<Value>(name.as_bytes()).is_ok() {
            return Err(WorkflowError::Text);
        }
        let file_name = file_name(name);
        if !is_plain(&file_name) || file_name.ends_with(HEADER) {
            return Err(WorkflowError::Name(name.to_owned()));
        }
        let Some(file) = self.file(name, &file_name).await? else {
            return Err(WorkflowError::Unknown {
                name: name.to_owned(),
                known: self.names().await,
            });
        };
        let graph = parse(&file)?;
        let name = short(name);
        let header = match format!("{name}{HEADER}") {
            // No file system has a file with such a name.
            header if header.len() > MAX_NAME => None,
            header => self.file(name, &header).await?,
        };
        let header = header.map(|text| WorkflowHeader::read(&text, &graph));
        let header = header
            .transpose()
            .map_err(|problems| WorkflowError::Header {
                name: name.to_owned(),
                problems,
            });
        self.log(name, header.as_ref().err());
        Ok(NamedWorkflow {
            header: header?,
            graph,
        })
    }

    /// All workflows, by their names; those that cannot be read, with the reason. Pictures without a header are left out: the folder
    /// may be that into which ComfyUI saves, with gigabytes of them.
    pub async fn all(&self) -> Vec<(String, Result<NamedWorkflow, WorkflowError>)> {
        let mut all = Vec::new();
        for name in self.names().await {
            let header = self.folder.join(format!("{name}{HEADER}"));
            if name.ends_with(PNG) && !tokio::fs::try_exists(header).await.unwrap_or(false) {
                continue;
            }
            let workflow = self.read(&name).await;
            all.push((name, workflow));
        }
        all
    }

    /// The content of a file; `None` if there is none.
    async fn file(&self, name: &str, file_name: &str) -> Result<Option<Vec<u8>>, WorkflowError> {
        match tokio::fs::read(self.folder.join(file_name)).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(WorkflowError::Unreadable {
                name: name.to_owned(),
                why,
            }),
        }
    }

    /// Logs what is wrong with a header, unless it was before.
    fn log(&self, name: &str, error: Option<&WorkflowError>) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error.map(ToString::to_string) else {
            logged.remove(name);
            return;
        };
        if logged.get(name) != Some(&error) {
            tracing::warn!(
                "{error}; correct it, \"comfy-relay workflows check {name}\" shows all of it"
            );
            logged.insert(name.to_owned(), error);
        }
    }

    /// The names of all workflows that can be read, without `.json`, sorted.
    pub async fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if let Ok(mut folder) = tokio::fs::read_dir(&self.folder).await {
            while let Ok(Some(entry)) = folder.next_entry().await {
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|name| is_plain(name)) else {
                    continue;
                };
                if name.ends_with(HEADER) {
                    continue;
                }
                if let Some(stem) = name.strip_suffix(".json") {
                    names.push(stem.to_owned());
                } else if name.ends_with(PNG) {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort_unstable();
        names
    }
}

/// The file of a workflow: that of a PNG file has its whole name.
fn file_name(name: &str) -> String {
    if name.ends_with(PNG) {
        return name.to_owned();
    }
    format!("{}.json", short(name))
}

/// The name without `.json`.
fn short(name: &str) -> &str {
    name.strip_suffix(".json").unwrap_or(name)
}

/// Whether a file name cannot lead out of the folder, and is that of a file that shows.
fn is_plain(file_name: &str) -> bool {
    let leads_elsewhere = |c: char| c.is_control() || matches!(c, '/' | '\\');
    !file_name.starts_with('.')
        && file_name.len() <= MAX_NAME
        && !file_name.contains(leads_elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("a.json"),
            r#"{"1": {"class_type": "A"}}"#,
        )
        .unwrap();
        let workflows = Workflows::new(folder.path());
        assert!(workflows.read("a").await.is_ok());
        assert!(workflows.read("a.json").await.is_ok());
        for name in ["../a", "/etc/passwd", "", ".a", "x/../a"] {
            assert!(
                matches!(workflows.read(name).await, Err(WorkflowError::Name(_))),
                "{name}"
            );
        }
        let missing = workflows.read("b").await.unwrap_err().to_string();
        assert!(missing.ends_with("there are: a"), "{missing}");
    }
}
