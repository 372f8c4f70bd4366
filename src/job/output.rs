//! What a prompt makes: files, and texts that its nodes show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ImageFile, JobId, printable};

/// The longest text that is kept, in characters: as much as ten thousand subscribers can be sent at the end of a job.
const MAX_TEXT: usize = 4_096;

/// The `type` of an output that is a text.
const TEXT: &str = "text";

/// What a file is for people, the most wanted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Medium {
    /// A picture or a video.
    Picture,
    /// A sound.
    Audio,
    /// A text.
    Text,
    /// Anything else.
    Other,
}

/// A file that a prompt made, or a text that one of its nodes shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema, Serialize, Deserialize)]
pub struct Output {
    /// The node that made it.
    pub node: String,
    /// The key under which ComfyUI lists it: `images`, `gifs`, `audio`, `text`, ….
    pub kind: String,
    /// The file's name; empty for a text.
    pub filename: String,
    /// The subfolder of the folder that `type` names.
    pub subfolder: String,
    /// ComfyUI's folder: `output` for results, `temp` for previews, `input`; `text` for a text.
    pub r#type: String,
    /// Where the file can be downloaded: at ComfyUI; in states of the job at the relay.
    pub url: String,
    /// The text, where it is one. States of a job that runs leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether the text goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl Output {
    /// The texts that a node shows, with a blank line between them, as in ComfyUI's page. What a database cannot keep and
    /// what would change a terminal is replaced.
    pub fn shown_text(node: &str, kind: &str, texts: &[&str]) -> Self {
        let whole = texts.join("\n\n");
        let end = whole.char_indices().nth(MAX_TEXT).map(|(end, _)| end);
        let text = printable(&whole[..end.unwrap_or(whole.len())]).into_owned();
        Self {
            node: node.to_owned(),
            kind: kind.to_owned(),
            filename: String::new(),
            subfolder: String::new(),
            r#type: TEXT.to_owned(),
            url: String::new(),
            text: Some(text),
            truncated: end.is_some(),
        }
    }

    /// Whether it is a text of a node, which no file has.
    pub fn is_shown_text(&self) -> bool {
        self.r#type == TEXT
    }

    /// Whether a path leads to a file of its name: its own path, also below another folder, or that of a copy.
    pub(super) fn is_at(&self, path: &str) -> bool {
        let ends_with = |name: &str| {
            let before = path.strip_suffix(name);
            before.is_some_and(|before| before.is_empty() || before.ends_with(['/', '\\']))
        };
        self.is_result() && (ends_with(&self.path()) || ends_with(&self.filename))
    }

    /// How much memory its text takes, in bytes.
    pub(super) fn text_size(&self) -> usize {
        self.text.as_ref().map_or(0, String::len)
    }

    /// The same without the content of its text.
    pub(super) fn without_content(self) -> Self {
        Self {
            truncated: true,
            text: self.text.map(|_| String::new()),
            ..self
        }
    }

    /// The file at ComfyUI.
    pub fn file(&self) -> ImageFile {
        ImageFile {
            name: self.filename.clone(),
            subfolder: self.subfolder.clone(),
            folder: self.r#type.clone(),
        }
    }

    /// The address of a file at the relay, by its place among those of its job.
    pub fn address(job: &JobId, number: usize) -> String {
        format!("/api/anime/jobs/{job}/outputs/{number}")
    }

    /// The file's path, relative to ComfyUI's output folder.
    pub fn path(&self) -> String {
        match self.subfolder.trim_matches('/') {
            "" => self.filename.clone(),
            folder => format!("{folder}/{}", self.filename),
        }
    }

    /// What it is, by the end of its name, else by the list in which ComfyUI names it.
    pub(super) fn medium(&self) -> Medium {
        let end = self.filename.rsplit_once('.');
        let end = end.map(|(_, end)| end.to_ascii_lowercase());
        match end.as_deref().unwrap_or_default() {
            "png" | "jpg" | "jpeg" | "webp" | "gif" | "apng" | "avif" | "bmp" | "tif" | "tiff"
            | "exr" | "hdr" | "svg" | "mp4" | "webm" | "mov" | "mkv" | "avi" | "m4v" => {
                Medium::Picture
            }
            "flac" | "mp3" | "wav" | "ogg" | "opus" | "m4a" | "aac" => Medium::Audio,
            "txt" | "json" | "csv" | "md" | "srt" => Medium::Text,
            _ => match self.kind.as_str() {
                "images" | "gifs" | "video" | "videos" => Medium::Picture,
                "audio" => Medium::Audio,
                "text" => Medium::Text,
                _ => Medium::Other,
            },
        }
    }

    /// Whether it is a file with a text.
    pub fn is_text_file(&self) -> bool {
        self.medium() == Medium::Text && !self.is_shown_text()
    }

    /// Whether the file is a result, not a preview.
    pub fn is_result(&self) -> bool {
        self.r#type == "output"
    }
}
