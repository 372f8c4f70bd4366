//! [`Recording`]: a folder with the verbatim traffic between one client and a ComfyUI server.

mod exchange;
mod frame;
mod input;
mod meta;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use exchange::Exchange;
pub use frame::{FrameKind, RecordedFrame};
pub use input::RecordedInput;
pub use meta::{Meta, RecordedOutcome};

/// The traffic of one session, and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What it shows, and of which server.
    pub meta: Meta,
    /// What happened on the sockets, in order.
    pub frames: Vec<RecordedFrame>,
    /// The HTTP exchanges, in the order in which they were completed.
    pub exchanges: Vec<Exchange>,
    /// The files that the graphs load, by the name that they have there: `inputs.json`.
    pub inputs: BTreeMap<String, RecordedInput>,
}

/// Why a recording cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file or folder cannot be written.
    #[error("cannot write to {}: name a new folder in one that you may write to", path.display())]
    Target {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file could not be opened or read.
    #[error("cannot access {}: is it a folder with meta.json, ws.jsonl and http.jsonl?", path.display())]
    Access {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file does not have the format of recordings.
    #[error(
        "cannot read line {line} of {file}: see the README beside the recordings, or record it again"
    )]
    Parse {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
    /// The folder to write to is not empty.
    #[error("{} is not empty: name a new folder, because recordings are never overwritten", path.display())]
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
        .and_then(
            |recording| match fs::read_to_string(dir.join("inputs.json")) {
                Ok(inputs) => recording.with_inputs(&inputs),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(recording),
                Err(source) => Err(RecordingError::Access {
                    path: dir.join("inputs.json"),
                    source,
                }),
            },
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

    /// The same recording with the text of its `inputs.json`.
    pub fn with_inputs(self, text: &str) -> Result<Recording, RecordingError> {
        let inputs = from_json("inputs.json", text)?;
        Ok(Recording { inputs, ..self })
    }

    /// Reads the texts of `meta.json`, `ws.jsonl` and `http.jsonl`.
    pub fn parse(meta: &str, ws: &str, http: &str) -> Result<Recording, RecordingError> {
        Ok(Recording {
            meta: from_json("meta.json", meta)?,
            frames: parse_lines("ws.jsonl", ws)?,
            exchanges: parse_lines("http.jsonl", http)?,
            inputs: BTreeMap::new(),
        })
    }

    /// Makes `dir` ready for [`Recording::write`]: creates it if it does not exist, and checks that it is empty and
    /// can be written to.
    pub fn prepare(dir: &Path) -> Result<(), RecordingError> {
        let denied = |source| RecordingError::Target {
            path: dir.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(denied)?;
        if fs::read_dir(dir).map_err(denied)?.next().is_some() {
            return Err(RecordingError::Occupied {
                path: dir.to_owned(),
            });
        }
        let trial = dir.join("meta.json");
        fs::write(&trial, "").map_err(denied)?;
        fs::remove_file(&trial).map_err(denied)
    }

    /// Writes the recording to `dir`, which must be empty or not exist.
    pub fn write(&self, dir: &Path) -> Result<(), RecordingError> {
        Self::prepare(dir)?;
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|source| RecordingError::Target { path, source })
        };
        write("meta.json", to_json("meta.json", &self.meta)?)?;
        write("ws.jsonl", to_lines("ws.jsonl", &self.frames)?)?;
        write("http.jsonl", to_lines("http.jsonl", &self.exchanges)?)?;
        if !self.inputs.is_empty() {
            write("inputs.json", to_json("inputs.json", &self.inputs)?)?;
        }
        for (index, prompt) in self.prompts().enumerate() {
            let name = format!("prompt-{}.json", index + 1);
            write(&name, to_json(&name, &prompt.request_body)?)?;
        }
        Ok(())
    }

    /// How a prompt ended: as `meta.json` says. One that was cancelled by its id while it waited leaves no history and
    /// can be recorded as lost; the response to the cancellation shows that it was not.
    pub fn outcome(&self, prompt_id: &str) -> Option<RecordedOutcome> {
        let outcome = *self.meta.outcome.get(prompt_id)?;
        let cancels = |exchange: &Exchange| {
            exchange.cancelled_id().as_deref() == Some(prompt_id)
                && exchange.response["cancelled"] == true
        };
        if outcome == RecordedOutcome::Lost && self.exchanges.iter().any(cancels) {
            return Some(RecordedOutcome::Cancelled);
        }
        Some(outcome)
    }

    /// The `POST /prompt` exchanges in order, including rejected prompts.
    pub fn prompts(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges
            .iter()
            .filter(|exchange| exchange.is("POST", "/prompt"))
    }
}

fn from_json<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, RecordingError> {
    serde_json::from_str(text).map_err(|source| RecordingError::Parse {
        file: file.to_owned(),
        line: source.line(),
        source,
    })
}

fn parse_lines<T: DeserializeOwned>(file: &str, text: &str) -> Result<Vec<T>, RecordingError> {
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

fn to_lines<T: Serialize>(file: &str, items: &[T]) -> Result<String, RecordingError> {
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

fn to_json<T: Serialize>(file: &str, item: &T) -> Result<String, RecordingError> {
    let text = serde_json::to_string_pretty(item).map_err(|source| RecordingError::Parse {
        file: file.to_owned(),
        line: 1,
        source,
    })?;
    Ok(text + "\n")
}
