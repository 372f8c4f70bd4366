//! [`Workflows`]: the graphs that can be submitted by name.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::WorkflowError;
use super::graph::parse;

/// A folder with graphs in API format, one `NAME.json` each.
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

    /// Reads the workflow with this name, with or without `.json`. The name must be plain: letters, digits, `-`,
    /// `_`, `.` and spaces, not beginning with a dot.
    pub async fn read(&self, name: &str) -> Result<Map<String, Value>, WorkflowError> {
        let stem = name.strip_suffix(".json").unwrap_or(name);
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
        if stem.is_empty() || stem.starts_with('.') || !stem.chars().all(is_plain) {
            return Err(WorkflowError::Name(name.to_owned()));
        }
        let file = self.folder.join(format!("{stem}.json"));
        let text = match tokio::fs::read_to_string(file).await {
            Ok(text) => text,
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
        parse(&text)
    }

    /// The names of all workflows without `.json`, sorted.
    pub async fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if let Ok(mut folder) = tokio::fs::read_dir(&self.folder).await {
            while let Ok(Some(entry)) = folder.next_entry().await {
                let name = entry.file_name();
                if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                    names.push(stem.to_owned());
                }
            }
        }
        names.sort_unstable();
        names
    }
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
