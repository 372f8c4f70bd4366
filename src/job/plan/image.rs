use std::fmt;

use serde_json::Value;

use super::graph::{Graph, inputs};

/// The longest name of a file that is read from a graph, in bytes.
const MAX_NAME: usize = 512;

/// The inputs under which nodes name the file that they load.
const FILE_INPUTS: [&str; 7] = [
    "image",
    "file",
    "video",
    "image_file",
    "image_path",
    "video_path",
    "filename",
];

/// The endings of files that have a size in pixels.
const ENDINGS: [&str; 17] = [
    "apng", "avif", "avi", "bmp", "gif", "jpeg", "jpg", "m4v", "mkv", "mov", "mp4", "png", "qoi",
    "tif", "tiff", "webm", "webp",
];

/// A file that a graph loads, in one of the server's folders, as `GET /view` names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageFile {
    /// Its name, without folders.
    pub name: String,
    /// The subfolder of `folder`; empty if there is none.
    pub subfolder: String,
    /// `input`, `output` or `temp`.
    pub folder: String,
}

/// Its name as it is in a graph.
impl fmt::Display for ImageFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.subfolder.is_empty() {
            write!(formatter, "{}/", self.subfolder)?;
        }
        formatter.write_str(&self.name)?;
        if self.folder != "input" {
            write!(formatter, " [{}]", self.folder)?;
        }
        Ok(())
    }
}

/// The size of an image, or of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageSize {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// 1 for an image.
    pub frames: u32,
    /// How long a video plays, in milliseconds; 0 if that is not known.
    pub milliseconds: u32,
}

impl ImageFile {
    /// Reads a name as it is in a graph: `folder/photo.png`, or `photo.png [output]` for a file in
    /// another folder than `input`.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, folder) = ["input", "output", "temp"]
            .into_iter()
            .find_map(|folder| {
                let path = text.strip_suffix(&format!("[{folder}]"))?;
                Some((path.trim_end(), folder))
            })
            .unwrap_or((text, "input"));
        let (subfolder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (_, ending) = name.rsplit_once('.')?;
        let is_known = ENDINGS
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known));
        (is_known && text.len() <= MAX_NAME).then(|| Self {
            name: name.to_owned(),
            subfolder: subfolder.to_owned(),
            folder: folder.to_owned(),
        })
    }

    /// The file that a node loads, with its name in the graph.
    pub(super) fn loaded_by<'a>(node: &'a Value, graph: Graph<'a>) -> Option<(&'a str, Self)> {
        let named = inputs(node).filter(|(input, _)| FILE_INPUTS.contains(input));
        named
            .filter_map(|(input, _)| graph.long_text(node, input))
            .find_map(|text| Some((text, Self::parse(text)?)))
    }
}

/// The name of the file that a node loads, or what it has in its place, such as the file itself.
pub(super) fn text(node: &Value) -> Option<&str> {
    let mut named = inputs(node).filter(|(input, _)| FILE_INPUTS.contains(input));
    named.find_map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, String, String)> {
        let file = ImageFile::parse(text)?;
        Some((file.subfolder, file.name, file.folder))
    }

    fn file(subfolder: &str, name: &str, folder: &str) -> Option<(String, String, String)> {
        Some((subfolder.to_owned(), name.to_owned(), folder.to_owned()))
    }

    #[test]
    fn a_name_may_hold_a_subfolder_and_a_folder() {
        assert_eq!(parsed("a.png"), file("", "a.png", "input"));
        assert_eq!(parsed("x/y/a.JPG"), file("x/y", "a.JPG", "input"));
        assert_eq!(parsed("x/a.webp [output]"), file("x", "a.webp", "output"));
        assert_eq!(parsed("a.mp4 [temp]"), file("", "a.mp4", "temp"));
        assert_eq!(parsed("a [b].png"), file("", "a [b].png", "input"));
    }

    #[test]
    fn other_texts_are_no_files() {
        let long = format!("{}.png", "a".repeat(MAX_NAME));
        for text in ["", "a", "model.safetensors", "png", "a.png.txt", &long] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn the_name_of_a_file_is_read_and_written_alike() {
        for name in [
            "photo.png",
            "a/b/photo.PNG",
            "photo.webp [output]",
            "a/clip.mp4 [temp]",
        ] {
            let file = ImageFile::parse(name).map(|file| file.to_string());
            assert_eq!(file.as_deref(), Some(name));
        }
        let file = ImageFile::parse("photo.png [input]").map(|file| file.to_string());
        assert_eq!(file.as_deref(), Some("photo.png"));
    }
}
