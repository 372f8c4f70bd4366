//! The size of an image or a video on the server.

use bytes::BytesMut;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, RANGE};

use super::{Rest, RestError, success};
use crate::comfy::image_header;
use crate::comfy::video_header::{self, VideoHead};
use crate::job::{ImageFile, ImageSize};

/// How many bytes of a file are read at once. The metadata before the size of a photograph, with its preview,
/// are seldom longer.
const PART: usize = 64 << 10;

/// A part of a file.
struct Part {
    bytes: BytesMut,
    /// How many bytes the file has, if that is known.
    whole: Option<u64>,
}

impl Rest {
    /// The size of an image or a video in one of the server's folders, from the head of its file; of a video that
    /// describes itself at its end, from the part where it does. `None` if there is no such file, or if it does not
    /// show a size.
    pub async fn image_size(&self, file: &ImageFile) -> Result<Option<ImageSize>, RestError> {
        let Some(head) = self.part(file, 0).await? else {
            return Ok(None);
        };
        // An image may be in a file of the same kind as a video.
        let image = image_header::read(&head.bytes, head.whole);
        if image.is_some() || !video_header::is_video(&head.bytes) {
            return Ok(image);
        }
        match video_header::read(&head.bytes) {
            VideoHead::Size(size) => Ok(Some(size)),
            VideoHead::Unknown => Ok(None),
            VideoHead::Beyond(start) => {
                let part = self.part(file, start).await?;
                Ok(part.and_then(|part| match video_header::read(&part.bytes) {
                    VideoHead::Size(size) => Some(size),
                    VideoHead::Beyond(_) | VideoHead::Unknown => None,
                }))
            }
        }
    }

    /// The bytes of a file from `start` on, at most [`PART`] of them. `None` if there are none.
    async fn part(&self, file: &ImageFile, start: u64) -> Result<Option<Part>, RestError> {
        let call = "GET /view";
        let end = start.saturating_add(PART as u64 - 1);
        let request = self.client.get(self.view_of(file));
        let request = request.header(RANGE, format!("bytes={start}-{end}"));
        let unreachable = |source| RestError::Unreachable {
            call: call.to_owned(),
            source,
        };
        let mut response = request.send().await.map_err(unreachable)?;
        match response.status() {
            // Of an empty file there is no such range.
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => return Ok(None),
            // A server that ignores the range sends the start.
            status if start > 0 && status != StatusCode::PARTIAL_CONTENT => {
                success(call, status)?;
                return Ok(None);
            }
            status => success(call, status)?,
        }
        // `bytes 0-65535/200000`
        let range = response.headers().get(CONTENT_RANGE);
        let range = range.and_then(|range| range.to_str().ok()?.rsplit_once('/'));
        let whole = range.and_then(|(_, whole)| whole.parse().ok());
        let mut bytes = BytesMut::new();
        // Dropping the response ends what a server that ignores the range sends.
        while bytes.len() < PART
            && let Some(chunk) = response.chunk().await.map_err(unreachable)?
        {
            bytes.extend_from_slice(&chunk);
        }
        bytes.truncate(PART);
        Ok(Some(Part { bytes, whole }))
    }
}
