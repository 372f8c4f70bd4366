//! Previews as relays exchange them: a line of JSON, then the image.
//!
//! ```text
//! {"owner":"…","epoch":1,"seq":4,"node":"3","mime":"image/jpeg"}\n<image>
//! ```

use std::borrow::Cow;
use std::collections::HashSet;

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

/// The jobs of which previews are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedJobs {
    /// Those that exist.
    pub known: HashSet<JobId>,
    /// Those that may still be to come.
    pub unknown: HashSet<JobId>,
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

impl WantedJobs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// All of them.
    pub fn all(&self) -> HashSet<JobId> {
        self.known.union(&self.unknown).cloned().collect()
    }

    /// At most `max` of them: a client that waits for jobs that do not exist does not crowd out those that do. Of each kind
    /// those that were selected `before` come first, so that the choice stays the same.
    pub(super) fn select(self, before: &HashSet<JobId>, max: usize) -> HashSet<JobId> {
        let by_age = |jobs: HashSet<JobId>| -> (Vec<JobId>, Vec<JobId>) {
            jobs.into_iter().partition(|job| before.contains(job))
        };
        let ((old, new), (old_unknown, new_unknown)) = (by_age(self.known), by_age(self.unknown));
        let all = old.into_iter().chain(new);
        let all = all.chain(old_unknown).chain(new_unknown);
        all.take(max).collect()
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

    #[test]
    fn jobs_that_exist_and_those_before_are_selected_first() {
        let ids = |name: &str, range: std::ops::Range<usize>| -> HashSet<JobId> {
            let ids = range.map(|number| JobId::parse(&format!("{name}-{number}")).unwrap());
            ids.collect()
        };
        let wanted = |known, unknown| WantedJobs {
            known: ids("known", known),
            unknown: ids("unknown", unknown),
        };
        let first = wanted(0..0, 0..100).select(&HashSet::new(), 10);
        assert_eq!(first.len(), 10);
        // It stays.
        assert_eq!(wanted(0..0, 0..200).select(&first, 10), first);
        let second = wanted(0..4, 0..200).select(&first, 10);
        assert!(second.is_superset(&ids("known", 0..4)));
        assert_eq!(second.intersection(&first).count(), 6);
        let third = wanted(0..100, 0..200).select(&second, 10);
        assert_eq!(third.len(), 10);
        assert!(third.is_subset(&ids("known", 0..100)));
        assert!(third.is_superset(&ids("known", 0..4)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = JobPreview::read(&JobId::parse("shot-12").unwrap(), &bytes);
        }
    }
}
