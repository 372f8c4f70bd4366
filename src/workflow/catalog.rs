//! [`Workflows`]: the graphs that can be submitted by name.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::WorkflowError;
use super::graph::parse;
use crate::python_json;

/// The longest name of a file, in bytes.
const MAX_NAME: usize = 255;

/// How the names of PNG files end.
const PNG: &str = ".png";

/// A folder with graphs in API format: one `NAME.json` each, or a PNG file that ComfyUI has saved.
#[derive(Debug, Clone)]
pub struct Workflows {
    folder: PathBuf,
}

impl Workflows {
    /// The workflows in `folder`, which need not exist.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Reads the workflow with this name, with or without `.json`. The name is that of a file in the folder itself.
    pub async fn read(&self, name: &str) -> Result<Map<String, Value>, WorkflowError> {
        if name.starts_with('{') && python_json::read::<Value>(name.as_bytes()).is_ok() {
            return Err(WorkflowError::Text);
        }
        let file_name = file_name(name);
        if !is_plain(&file_name) {
            return Err(WorkflowError::Name(name.to_owned()));
        }
        let file = match tokio::fs::read(self.folder.join(file_name)).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(WorkflowError::Unknown {
                    name: name.to_owned(),
                    known: self.names().await,
                });
            }
            Err(why) => {
                return Err(WorkflowError::Unreadable {
                    name: name.to_owned(),
                    why,
                });
            }
        };
        parse(&file)
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
    format!("{}.json", name.strip_suffix(".json").unwrap_or(name))
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
