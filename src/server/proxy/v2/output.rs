//! [`V2Output`]: a file or text that a job has made, as an asset.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use crate::auth::Permissions;
use crate::job::{JobId, Output};
use crate::server::api::outputs::{file_name, link_end, media_type};
use crate::server::security::PublicAddress;
use crate::server::state::ServerState;

/// The sizes of so many files are asked for at the same time.
const AT_ONCE: usize = 8;

/// How long servers may take to say how large the files of one answer are: a client waits for the rest of the answer.
const SIZE_PATIENCE: Duration = Duration::from_secs(2);

/// The media type of what browsers do not show.
const BINARY: &str = "application/octet-stream";

/// A file or text that a job has made.
#[derive(Debug, Clone, Serialize)]
pub(super) struct V2Output {
    node_id: String,
    pub(super) name: String,
    r#type: OutputType,
    pub(super) content_type: &'static str,
    /// 0 if its server does not say.
    pub(super) size_bytes: u64,
    /// The id of the asset.
    pub(super) id: String,
    /// Outputs are not hashed.
    pub(super) hash: Option<String>,
    pub(super) url: String,
    pub(super) url_expires_at: Timestamp,
    pub(super) job_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum OutputType {
    Image,
    Video,
    Audio,
    Text,
    File,
    Latent,
}

/// The output that an asset id names: the job, and the place among its outputs. The id says both, so that it holds as long as the
/// job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutputAsset {
    pub(super) job: JobId,
    pub(super) number: usize,
}

/// Makes assets of outputs.
#[derive(Clone)]
pub(super) struct OutputLinks {
    address: PublicAddress,
    expires_at: Timestamp,
}

impl OutputAsset {
    /// `None` for the id of another asset.
    pub(super) fn parse(id: &str) -> Option<Self> {
        let (job, number) = id.rsplit_once('.')?;
        let job = JobId::parse(job).ok().filter(|job| job.group().is_none())?;
        let number = number.parse().ok()?;
        let asset = Self { job, number };
        // Each output has one id: `+0` and `00` are numbers, too.
        (asset.id() == id).then_some(asset)
    }

    fn id(&self) -> String {
        format!("{}.{}", self.job, self.number)
    }
}

impl OutputLinks {
    /// Links at this address, for a caller with these permissions.
    pub(super) fn new(address: &PublicAddress, permissions: &Permissions) -> Self {
        Self {
            address: address.clone(),
            expires_at: link_end(permissions, Timestamp::now()),
        }
    }

    /// Outputs of a job, each with its number.
    pub(super) async fn outputs(
        &self,
        state: &ServerState,
        job: &JobId,
        outputs: Vec<(usize, &Output)>,
    ) -> Vec<V2Output> {
        let deadline = Instant::now() + SIZE_PATIENCE;
        let mut shown = Vec::with_capacity(outputs.len());
        for (number, output) in outputs {
            // Boxed: many of them are held at the same time.
            shown.push(Box::pin(
                self.output_by(state, job, number, output, deadline),
            ));
        }
        stream::iter(shown).buffered(AT_ONCE).collect().await
    }

    /// One output of a job.
    pub(super) async fn output(
        &self,
        state: &ServerState,
        job: &JobId,
        number: usize,
        output: &Output,
    ) -> V2Output {
        let deadline = Instant::now() + SIZE_PATIENCE;
        self.output_by(state, job, number, output, deadline).await
    }

    /// The same, without its size if its server does not say that before this moment.
    async fn output_by(
        &self,
        state: &ServerState,
        job: &JobId,
        number: usize,
        output: &Output,
        deadline: Instant,
    ) -> V2Output {
        let size = state.relay.output_size(job, number, deadline).await;
        let link = state.verifier.link(job, number, self.expires_at);
        let query = link.map(|link| format!("?exp={}&sig={}", link.expires_at, link.signature));
        let asset = OutputAsset {
            job: job.clone(),
            number,
        };
        let id = asset.id();
        let path = format!("/api/v2/assets/{id}/content{}", query.unwrap_or_default());
        V2Output {
            node_id: output.node.clone(),
            name: file_name(output).into_owned(),
            r#type: OutputType::of(output),
            content_type: media_type(output).unwrap_or(BINARY),
            size_bytes: size.unwrap_or_default(),
            id,
            hash: None,
            url: self.address.url(&path),
            url_expires_at: self.expires_at,
            job_id: job.to_string(),
        }
    }
}

impl OutputType {
    fn of(output: &Output) -> Self {
        if output.is_shown_text() {
            return Self::Text;
        }
        if output.filename.ends_with(".latent") {
            return Self::Latent;
        }
        let medium = media_type(output).and_then(|it| it.split('/').next());
        match (medium, output.kind.as_str()) {
            (Some("image"), _) | (None, "images") => Self::Image,
            (Some("video"), _) | (None, "gifs" | "video" | "videos") => Self::Video,
            (Some("audio"), _) | (None, "audio") => Self::Audio,
            (Some("text"), _) => Self::Text,
            _ => Self::File,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_output_names_its_job_and_its_place() {
        let asset = OutputAsset::parse("shot.7.12").unwrap();
        assert_eq!((asset.job.as_str(), asset.number), ("shot.7", 12));
        assert_eq!(asset.id(), "shot.7.12");
        for id in [
            "",
            "a",
            ".1",
            "a.",
            "a.x",
            "a.+0",
            "a.00",
            "9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b",
        ] {
            assert_eq!(OutputAsset::parse(id), None, "{id}");
        }
    }

    #[test]
    fn outputs_have_a_kind_by_their_name_and_their_list() {
        for (filename, kind, expected) in [
            ("a.png", "images", OutputType::Image),
            ("a.webm", "images", OutputType::Video),
            ("a.mp4", "gifs", OutputType::Video),
            ("a.exr", "images", OutputType::Image),
            ("a.flac", "audio", OutputType::Audio),
            ("a.txt", "files", OutputType::Text),
            ("a.latent", "latents", OutputType::Latent),
            ("a.glb", "3d", OutputType::File),
        ] {
            let output = Output {
                node: "9".to_owned(),
                kind: kind.to_owned(),
                filename: filename.to_owned(),
                subfolder: String::new(),
                r#type: "output".to_owned(),
                url: String::new(),
                text: None,
                truncated: false,
            };
            assert_eq!(OutputType::of(&output), expected, "{filename}");
        }
    }
}
