//! Sends a file to the input folders of all servers, while it comes.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::join;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use crate::relay::ForwardedRequest;
use crate::server::error::ApiError;
use crate::server::state::ServerState;

/// The code of an error: what was to be sent has broken off.
pub(super) const BROKEN: &str = "body_broken";

/// The code of an error: what was sent is not what its client says.
pub(super) const OTHER_HASH: &str = "hash_mismatch";

/// The longest answer to an upload that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// The folder of models, into which ComfyUI takes no uploads.
const MODELS: &str = "models/";

/// The longest name that a client gives a file, in bytes.
const MAX_PATH: usize = 1_000;

/// The longest part of a name that is kept, in characters.
const MAX_STEM: usize = 40;

/// The longest end of a name that is kept, in characters.
const MAX_EXTENSION: usize = 10;

/// A file that servers have taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentFile {
    /// `blake3:` and hexadecimal digits.
    pub(super) hash: String,
    pub(super) size: u64,
    /// As servers call it.
    pub(super) filename: String,
}

/// How a server calls what it has taken.
#[derive(Deserialize)]
struct TakenFile {
    name: String,
}

/// Where a copy goes, and what it must be.
pub(super) struct Destination<'a> {
    /// As servers are to call it: nothing else is called so.
    pub(super) filename: String,
    /// What its hash is, as the client says.
    pub(super) expected_hash: Option<&'a str>,
}

impl Destination<'_> {
    /// A name for a file that a client calls so: one that no other file has, with the end that says what it is.
    pub(super) fn name(file_path: &str) -> String {
        name_with(file_path, &Uuid::new_v4().to_string())
    }
}

fn name_with(file_path: &str, id: &str) -> String {
    let name = file_path.rsplit(['/', '\\']).next().unwrap_or_default();
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let kept = |text: &str, most: usize| -> String {
        let characters = text.chars().map(|c| if plain(c) { c } else { '_' });
        characters.take(most).collect()
    };
    let stem = kept(stem, MAX_STEM);
    match kept(extension, MAX_EXTENSION) {
        extension if extension.is_empty() => format!("{stem}-{id}"),
        extension => format!("{stem}-{id}.{extension}"),
    }
}

/// Refuses what no file for graphs can be called.
pub(super) fn check_path(file_path: &str) -> Result<(), ApiError> {
    let is_long = file_path.len() > MAX_PATH;
    let message = if file_path.is_empty() || is_long || file_path.contains(char::is_control) {
        format!("file_path is the name of the file, of at most {MAX_PATH} bytes")
    } else if file_path.starts_with(MODELS) {
        "models cannot be uploaded: ComfyUI takes files for graphs to load".to_owned()
    } else {
        return Ok(());
    };
    Err(ApiError::bad_request("bad_upload", message))
}

/// Hashes a file, and sends it nowhere.
pub(super) async fn hash(
    content: impl Stream<Item = io::Result<Bytes>>,
) -> Result<(String, u64), ApiError> {
    let mut content = pin!(content);
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    while let Some(chunk) = content.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        hasher.update(&chunk);
        size += chunk.len() as u64;
    }
    Ok((text_of(&hasher), size))
}

/// Sends a file to all servers that answer. One whose hash is another one is taken by none.
pub(super) async fn send(
    state: &ServerState,
    destination: Destination<'_>,
    content: impl Stream<Item = io::Result<Bytes>> + Send,
) -> Result<SentFile, ApiError> {
    let (parts, receiver) = mpsc::channel(1);
    let boundary = Uuid::new_v4().simple().to_string();
    let body = StreamBody::new(ReceiverStream::new(receiver));
    let uploading = state.relay.upload(ForwardedRequest {
        method: Method::POST,
        path: "/upload/image".to_owned(),
        query: None,
        headers: form_header(&boundary),
        body: Some(reqwest::Body::wrap(body)),
    });
    let copying = copy(&destination, &boundary, content, parts);
    let (answer, copied) = join(uploading, copying).await;
    // Why it was broken off says more than that a server has not taken it.
    let copied = copied?;
    let answer = answer?;
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(match status {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
                status,
                "body_too_large",
                "the file is larger than ComfyUI takes (--max-upload-size)",
            ),
            _ => not_taken(&format!("it answers {status}")),
        });
    }
    let (hash, size) = copied.ok_or_else(|| not_taken("it has not read all of it"))?;
    let text = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let text = text.map_err(|error| not_taken(&error.to_string()))?;
    let taken: TakenFile =
        serde_json::from_slice(&text.to_bytes()).map_err(|error| not_taken(&error.to_string()))?;
    Ok(SentFile {
        hash,
        size,
        filename: taken.name,
    })
}

/// Copies a file into a form. Returns its hash and its size; `None` if it is not read to its end.
async fn copy(
    destination: &Destination<'_>,
    boundary: &str,
    content: impl Stream<Item = io::Result<Bytes>>,
    parts: Sender<io::Result<Frame<Bytes>>>,
) -> Result<Option<(String, u64)>, ApiError> {
    let send = async |bytes: Bytes| parts.send(Ok(Frame::data(bytes))).await.is_ok();
    let break_off = async |why: &str| {
        let _ = parts.send(Err(io::Error::other(why.to_owned()))).await;
    };
    let filename = &destination.filename;
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"overwrite\"\r\n\r\ntrue\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{filename}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    if !send(head.into()).await {
        return Ok(None);
    }
    let mut content = pin!(content);
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    while let Some(chunk) = content.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                break_off("the upload has broken off").await;
                return Err(broken(&error));
            }
        };
        hasher.update(&chunk);
        size += chunk.len() as u64;
        if !send(chunk).await {
            return Ok(None);
        }
    }
    let hash = text_of(&hasher);
    if let Some(expected) = destination.expected_hash
        && expected != hash
    {
        break_off("it is not what the client says").await;
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            OTHER_HASH,
            format!("the hash of the file is {hash}, not {expected}; upload it again"),
        ));
    }
    let is_sent = send(format!("\r\n--{boundary}--\r\n").into()).await;
    Ok(is_sent.then_some((hash, size)))
}

fn text_of(hasher: &blake3::Hasher) -> String {
    format!("blake3:{}", hasher.finalize())
}

fn form_header(boundary: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let form = format!("multipart/form-data; boundary={boundary}");
    // A UUID is a valid header.
    if let Ok(form) = HeaderValue::from_str(&form) {
        headers.insert(CONTENT_TYPE, form);
    }
    headers
}

fn broken(error: &io::Error) -> ApiError {
    ApiError::bad_request(BROKEN, format!("cannot read the file: {error}"))
}

fn not_taken(why: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_GATEWAY,
        "backend_failed",
        format!("no ComfyUI server has taken the file: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_name_of_its_own_that_is_a_header() {
        for (file_path, expected) in [
            ("photo.png", "photo-id.png"),
            ("a/b\\../\"x\r\ny.jp\"g", "_x__y-id.jp_g"),
            ("", "-id"),
            ("noextension", "noextension-id"),
            (".png", "-id.png"),
            ("é.webp", "_-id.webp"),
        ] {
            assert_eq!(name_with(file_path, "id"), expected, "{file_path:?}");
        }
    }
}
