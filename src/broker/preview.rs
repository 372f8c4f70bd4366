//! Previews as relays exchange them: a line of JSON, then the image.
//!
//! ```text
//! {"owner":"…","epoch":1,"seq":4,"node":"3","mime":"image/jpeg"}\n<image>
//! ```

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::job_state::{Position, Positioned};
use super::message::{MAX_NAME, MAX_NUMBER, MessageError, SEPARATOR, text};
use crate::job::JobId;

/// The largest image that is sent or read, in bytes. ComfyUI's own previews have a hundredth of it; those of some extensions
/// are videos.
const MAX_IMAGE: usize = 4 << 20;

/// The longest line of JSON, in bytes.
const MAX_HEAD: usize = 4 << 10;

/// The first bytes of files of the two types.
const SIGNATURES: [(&str, &[u8]); 2] = [
    ("image/jpeg", b"\xff\xd8\xff"),
    ("image/png", b"\x89PNG\r\n\x1a\n"),
];

/// A preview image of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPreview {
    /// The job.
    pub job: JobId,
    /// How often the job was taken over, and the number of the preview.
    pub position: Position,
    /// The node that made the image, if that is known.
    pub node: Option<String>,
    /// `image/jpeg` or `image/png`.
    pub mime: &'static str,
    /// The image as ComfyUI made it.
    pub image: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
struct PreviewLine<'a> {
    #[serde(borrow)]
    owner: Cow<'a, str>,
    epoch: u64,
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Cow<'a, str>>,
    mime: Cow<'a, str>,
}

impl JobPreview {
    /// Whether it is passed on to other relays.
    pub(super) fn fits(&self) -> bool {
        self.image.len() <= MAX_IMAGE
    }

    /// The message of the relay `owner`.
    pub(super) fn encode(&self, owner: &str) -> serde_json::Result<Vec<u8>> {
        let mut message = serde_json::to_vec(&PreviewLine {
            owner: owner.into(),
            epoch: self.position.epoch,
            seq: self.position.seq,
            node: self.node.as_deref().map(Cow::from),
            mime: self.mime.into(),
        })?;
        message.push(SEPARATOR);
        message.extend_from_slice(&self.image);
        Ok(message)
    }

    /// Reads what came on the channel of a job, and from which relay.
    pub(super) fn read(job: &JobId, message: &[u8]) -> Result<(String, Self), MessageError> {
        if message.len() > MAX_HEAD + MAX_IMAGE {
            let most = MAX_HEAD + MAX_IMAGE;
            return Err(MessageError::TooLarge(message.len(), most));
        }
        let end = message
            .iter()
            .take(MAX_HEAD)
            .position(|&it| it == SEPARATOR);
        let (head, image) = message.split_at(end.ok_or(MessageError::NoState)?);
        let (head, image) = (text(head)?, &image[1..]);
        let head: PreviewLine<'_> = serde_json::from_str(head)?;
        let mut types = SIGNATURES.iter();
        let (mime, signature) = types
            .find(|(mime, _)| *mime == head.mime)
            .ok_or(MessageError::Field("mime"))?;
        if !image.starts_with(signature) {
            return Err(MessageError::NoImage);
        }
        let is_long = |name: &str| name.len() > MAX_NAME;
        if is_long(&head.owner) || head.node.as_deref().is_some_and(is_long) {
            return Err(MessageError::Field("node"));
        }
        if head.epoch > MAX_NUMBER || head.seq > MAX_NUMBER {
            return Err(MessageError::Field("seq"));
        }
        let preview = Self {
            job: job.clone(),
            position: Position {
                epoch: head.epoch,
                seq: head.seq,
            },
            node: head.node.map(Cow::into_owned),
            mime,
            image: Bytes::copy_from_slice(image),
        };
        Ok((head.owner.into_owned(), preview))
    }
}

impl Positioned for JobPreview {
    fn job(&self) -> &JobId {
        &self.job
    }

    fn position(&self) -> Position {
        self.position
    }

    fn is_final(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn preview(mime: &'static str, image: &[u8]) -> JobPreview {
        JobPreview {
            job: JobId::parse("shot-12").unwrap(),
            position: Position { epoch: 2, seq: 4 },
            node: Some("3".to_owned()),
            mime,
            image: Bytes::copy_from_slice(image),
        }
    }

    #[test]
    fn what_is_sent_is_read() {
        for (mime, signature) in SIGNATURES {
            let sent = preview(mime, &[signature, b"\n more\n"].concat());
            let message = sent.encode("relay-a").unwrap();
            let (owner, read) = JobPreview::read(&sent.job, &message).unwrap();
            assert_eq!((owner.as_str(), read), ("relay-a", sent));
        }
    }

    #[test]
    fn what_is_no_image_of_its_type_is_refused() {
        let large = [SIGNATURES[0].1, &vec![0; MAX_IMAGE + MAX_HEAD]].concat();
        for sent in [
            preview("image/png", b"\xff\xd8\xff"),
            preview("image/jpeg", b"<svg/>"),
            preview("image/jpeg", b""),
            preview("text/html", b"\xff\xd8\xff"),
            preview("image/jpeg", &large),
        ] {
            let message = sent.encode("relay-a").unwrap();
            assert!(JobPreview::read(&sent.job, &message).is_err());
        }
        assert!(!preview("image/jpeg", &large).fits());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = JobPreview::read(&JobId::parse("shot-12").unwrap(), &bytes);
        }
    }
}
