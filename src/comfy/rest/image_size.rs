//! The size of an image on the server.

use bytes::BytesMut;
use reqwest::StatusCode;
use reqwest::header::RANGE;

use super::{Rest, RestError, success};
use crate::comfy::image_header;
use crate::job::{ImageFile, ImageSize};

/// How many bytes of a file are read. The metadata before the size of a photograph, with its preview, are
/// seldom longer.
const HEAD: usize = 64 << 10;

impl Rest {
    /// The size of an image in one of the server's folders, from the head of its file. `None` if there is no
    /// such file, or if its head does not show a size.
    pub async fn image_size(&self, file: &ImageFile) -> Result<Option<ImageSize>, RestError> {
        let call = "GET /view";
        let mut url = self.at("view");
        url.query_pairs_mut()
            .append_pair("filename", &file.name)
            .append_pair("subfolder", &file.subfolder)
            .append_pair("type", &file.folder);
        let request = self.client.get(url);
        let request = request.header(RANGE, format!("bytes=0-{}", HEAD - 1));
        let unreachable = |source| RestError::Unreachable {
            call: call.to_owned(),
            source,
        };
        let mut response = request.send().await.map_err(unreachable)?;
        match response.status() {
            // Of an empty file there is no such range.
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => return Ok(None),
            status => success(call, status)?,
        }
        let mut head = BytesMut::new();
        // A server that ignores the range sends the whole file: dropping the response ends that.
        while head.len() < HEAD
            && let Some(chunk) = response.chunk().await.map_err(unreachable)?
        {
            head.extend_from_slice(&chunk);
        }
        head.truncate(HEAD);
        Ok(image_header::read(&head))
    }
}
