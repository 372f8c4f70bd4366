use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::frame::Frame;
use crate::job::{JobError, JobId, Progress};

/// One state of a job, encoded once for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The state's number within the job.
    pub seq: u64,
    /// The `progress` message.
    pub frame: Frame,
    /// Set on the last publication of a job.
    pub end: Option<End>,
}

/// That a job has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why it failed, if it did.
    pub error: Option<JobError>,
}

/// A preview image, framed once for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Grows with each preview of a job.
    pub seq: u64,
    /// `image/jpeg` or `image/png`.
    pub mime: &'static str,
    /// The image as ComfyUI made it.
    pub image: Bytes,
    /// The documented binary message: a 4-byte big-endian length, that many bytes of JSON, the image.
    pub frame: Frame,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "preview")]
struct PreviewHead<'a> {
    job_id: &'a JobId,
    node: Option<&'a str>,
    mime: &'a str,
    seq: u64,
}

impl Publication {
    /// Encodes a state. `end` is there for a final one.
    pub fn encode(progress: &Progress, end: Option<End>) -> serde_json::Result<Self> {
        Ok(Self {
            seq: progress.seq,
            frame: Frame::text(&serde_json::to_string(progress)?),
            end,
        })
    }
}

impl Preview {
    /// Frames an image that `node` made.
    pub fn encode(
        job: &JobId,
        node: Option<&str>,
        mime: &'static str,
        seq: u64,
        image: Bytes,
    ) -> serde_json::Result<Self> {
        let head = PreviewHead {
            job_id: job,
            node,
            mime,
            seq,
        };
        let head = serde_json::to_vec(&head)?;
        let mut message = BytesMut::with_capacity(4 + head.len() + image.len());
        message.put_u32(head.len() as u32);
        message.extend_from_slice(&head);
        message.extend_from_slice(&image);
        Ok(Self {
            seq,
            mime,
            image,
            frame: Frame::binary(&message),
        })
    }
}
