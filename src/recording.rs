//! [`Recording`]: a folder with the verbatim traffic of one session with a ComfyUI server.

mod exchange;
mod frame;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use exchange::Exchange;
pub use frame::{FrameKind, RecordedFrame};

/// Everything that was recorded of one session.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What it shows, and of which server.
    pub meta: Meta,
    /// What the sockets heard, in order.
    pub frames: Vec<RecordedFrame>,
    /// The HTTP exchanges, in the order of their ends.
    pub exchanges: Vec<Exchange>,
}

/// `meta.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The server's version: a release, or the date of a commit of 2023.
    pub comfyui_version: String,
    /// The recording's name.
    pub scenario: String,
    /// What it shows, in a sentence.
    #[serde(default)]
    pub description: String,
    /// When it was made (RFC 3339).
    #[serde(default)]
    pub recorded_at: String,
    /// How the server was started.
    #[serde(default)]
    pub server_flags: Vec<String>,
    /// The id of the recorded client's main socket.
    #[serde(default)]
    pub client_id: String,
    /// The ids of the accepted prompts, in the order of their submission.
    #[serde(default)]
    pub prompt_ids: Vec<String>,
    /// How each of them ended.
    #[serde(default)]
    pub outcome: BTreeMap<String, RecordedOutcome>,
    /// Seconds from start to end, where both were seen.
    #[serde(default)]
    pub duration_s: BTreeMap<String, Option<f64>>,
    /// What a reader should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The machine and its load.
    #[serde(default)]
    pub host: Value,
}

/// How a recorded prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordedOutcome {
    /// It ran to its end.
    Completed,
    /// A node raised.
    Failed,
    /// It was interrupted, or deleted while it was pending.
    Cancelled,
    /// The server went away, and it with it.
    Lost,
}

/// Why a recording could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file could not be opened, read or written.
    #[error("could not access {}: is it a folder with meta.json, ws.jsonl and http.jsonl?", path.display())]
    Access {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what its format promises.
    #[error(
        "could not read line {line} of {file}: see the README beside the recordings, or record it again"
    )]
    Parse {
        /// The file.
        file: String,
        /// The line in it, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The folder to write to holds something already.
    #[error("{} is not empty: name a new folder, recordings are never overwritten", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
}

impl Recording {
    /// Reads the folder `dir`.
    pub fn read(dir: &Path) -> Result<Recording, RecordingError> {
        let text = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|source| RecordingError::Access { path, source })
        };
        Recording::parse(
            &text("meta.json")?,
            &text("ws.jsonl")?,
            &text("http.jsonl")?,
        )
        .map_err(|error| match error {
            RecordingError::Parse { file, line, source } => RecordingError::Parse {
                file: dir.join(file).display().to_string(),
                line,
                source,
            },
            other => other,
        })
    }

    /// Reads the texts of `meta.json`, `ws.jsonl` and `http.jsonl`.
    pub fn parse(meta: &str, ws: &str, http: &str) -> Result<Recording, RecordingError> {
        let meta = serde_json::from_str(meta).map_err(|source| RecordingError::Parse {
            file: "meta.json".to_owned(),
            line: source.line(),
            source,
        })?;
        Ok(Recording {
            meta,
            frames: lines("ws.jsonl", ws)?,
            exchanges: lines("http.jsonl", http)?,
        })
    }

    /// Writes the recording to `dir`, which must be empty or not exist.
    pub fn write(&self, dir: &Path) -> Result<(), RecordingError> {
        let access = |source| RecordingError::Access {
            path: dir.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(access)?;
        if fs::read_dir(dir).map_err(access)?.next().is_some() {
            return Err(RecordingError::Occupied {
                path: dir.to_owned(),
            });
        }
        let put = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|source| RecordingError::Access { path, source })
        };
        put("meta.json", pretty("meta.json", &self.meta)?)?;
        put("ws.jsonl", joined("ws.jsonl", &self.frames)?)?;
        put("http.jsonl", joined("http.jsonl", &self.exchanges)?)?;
        for (index, prompt) in self.prompts().enumerate() {
            let name = format!("prompt-{}.json", index + 1);
            put(&name, pretty(&name, &prompt.request_body)?)?;
        }
        Ok(())
    }

    /// The `POST /prompt` exchanges, in order; those that were refused, too.
    pub fn prompts(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges
            .iter()
            .filter(|exchange| exchange.is("POST", "/prompt"))
    }
}

fn lines<T: DeserializeOwned>(file: &str, text: &str) -> Result<Vec<T>, RecordingError> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| RecordingError::Parse {
                file: file.to_owned(),
                line: index + 1,
                source,
            })
        })
        .collect()
}

fn joined<T: Serialize>(file: &str, items: &[T]) -> Result<String, RecordingError> {
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        text += &serde_json::to_string(item).map_err(|source| RecordingError::Parse {
            file: file.to_owned(),
            line: index + 1,
            source,
        })?;
        text.push('\n');
    }
    Ok(text)
}

fn pretty<T: Serialize>(file: &str, item: &T) -> Result<String, RecordingError> {
    let text = serde_json::to_string_pretty(item).map_err(|source| RecordingError::Parse {
        file: file.to_owned(),
        line: 1,
        source,
    })?;
    Ok(text + "\n")
}
