use std::borrow::Cow;

use crate::job::Output;

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// The media type of an output that browsers show without running anything in it, by its name.
pub(in crate::server) fn media_type(output: &Output) -> Option<&'static str> {
    if output.is_shown_text() {
        return Some(PLAIN_TEXT);
    }
    let (_, extension) = output.filename.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" | "apng" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "avif" => "image/avif",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        "mkv" => "video/x-matroska",
        "flac" => "audio/flac",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "opus" | "ogg" => "audio/ogg",
        "txt" => PLAIN_TEXT,
        _ => return None,
    })
}

/// The name under which it is saved.
pub(in crate::server) fn file_name(output: &Output) -> Cow<'_, str> {
    if output.is_shown_text() {
        Cow::Owned(format!("text-{}.txt", output.node))
    } else {
        Cow::Borrowed(&output.filename)
    }
}
