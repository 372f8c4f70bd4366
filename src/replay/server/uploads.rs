//! [`Uploads`]: what clients have uploaded for graphs to load, in memory.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use multer::Multipart;
use serde_json::json;

use super::response::{json_response, text};

/// How many bytes are kept. Those before are forgotten when more come.
const MAX_TOTAL: usize = 64 << 20;

/// The files of the input folder by their names.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Bytes>>);

impl Uploads {
    /// The file of this name.
    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(name).cloned()
    }

    /// `POST /upload/image`, with a form. A file with the name of another one replaces it.
    pub(super) async fn take(&self, content_type: &str, form: Bytes) -> Response<Full<Bytes>> {
        let Some((name, content)) = image(content_type, form).await else {
            return text(StatusCode::BAD_REQUEST, "");
        };
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.values().map(Bytes::len).sum::<usize>() + content.len() > MAX_TOTAL {
            files.clear();
        }
        files.insert(name.clone(), content);
        json_response(
            200,
            &json!({"name": name, "subfolder": "", "type": "input"}),
        )
    }
}

/// The file of a form, with its name.
async fn image(content_type: &str, form: Bytes) -> Option<(String, Bytes)> {
    let boundary = multer::parse_boundary(content_type).ok()?;
    let form = stream::iter([Ok::<_, Infallible>(form)]);
    let mut form = Multipart::new(form, boundary);
    while let Some(field) = form.next_field().await.ok()? {
        if field.name() == Some("image") {
            let name = field.file_name()?.to_owned();
            return Some((name, field.bytes().await.ok()?));
        }
    }
    None
}
