//! Reads the files that a job has made, from the ComfyUI server that has them, or from the folder where they are kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::RANGE;
use hyper::{HeaderMap, Request, Response, StatusCode};
use tower_http::services::ServeFile;

use crate::job::{Job, JobId, Output};
use crate::relay::backend::Backend;
use crate::relay::{Relay, RelayError};

/// The largest text that is shown in the list of files, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// How many texts are shown in the list of files.
const MAX_TEXTS: usize = 20;

/// The content of a file.
pub type OutputBody = UnsyncBoxBody<Bytes, io::Error>;

/// One of the files of a job, as far as it identifies one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSource {
    job: JobId,
    prompt_id: Option<String>,
    backend: Option<String>,
    output: Output,
}

/// What is known of a file beside its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputDetails {
    /// In bytes.
    pub size: Option<u64>,
    /// The content of a short text.
    pub text: Option<String>,
}

impl OutputSource {
    /// The name of its ComfyUI server; empty if there is none.
    pub fn backend(&self) -> &str {
        self.backend.as_deref().unwrap_or_default()
    }
}

/// Where a file can be read.
pub(super) struct OutputPlace {
    /// What distinguishes it from the files of other jobs that have had the id of its job, and of other runs of that.
    pub(super) key: String,
    pub(super) output: Output,
    /// Where it is kept, if it was copied already.
    pub(super) kept: Option<PathBuf>,
    pub(super) backend: Option<Arc<Backend>>,
}

impl Relay {
    /// What a known job has made so far.
    pub fn outputs(&self, id: &JobId) -> Option<Vec<Output>> {
        let registry = self.0.tracker.registry();
        let job = &registry.get(id)?.job;
        Some(job.outputs().iter().cloned().collect())
    }

    /// What identifies one of the files of a known job.
    pub fn output_source(&self, id: &JobId, number: usize) -> Result<OutputSource, RelayError> {
        let registry = self.0.tracker.registry();
        let entry = registry.get(id);
        let source = entry.and_then(|entry| {
            let job = &entry.job;
            Some(OutputSource {
                job: id.clone(),
                prompt_id: job.prompt_id().map(str::to_owned),
                backend: job.backend().map(str::to_owned),
                output: job.outputs().get_index(number)?.clone(),
            })
        });
        source.ok_or_else(|| RelayError::OutputNotFound(id.clone(), number))
    }

    /// A text that tells one of the files or texts that a known job has made from all others, also from those of an earlier job of
    /// the same id. No job has it as its id.
    pub fn output_key(&self, id: &JobId, number: usize) -> Result<String, RelayError> {
        Ok(self.output_place(id, number)?.key)
    }

    /// Begins to read one of the files or texts that a known job has made, by its place among them, from 0. `headers` are those
    /// of the request for it. Nothing but these files can be read.
    pub async fn output(
        &self,
        id: &JobId,
        number: usize,
        headers: &HeaderMap,
    ) -> Result<(Output, Response<OutputBody>), RelayError> {
        let OutputPlace {
            output,
            kept,
            backend,
            ..
        } = self.output_place(id, number)?;
        if output.is_shown_text() {
            let text = Bytes::from(output.text.clone().unwrap_or_default());
            let body = Full::new(text).map_err(|never| match never {});
            return Ok((output, Response::new(body.boxed_unsync())));
        }
        if let Some(path) = kept
            && let Some(response) = read_kept(&path, headers).await
        {
            return Ok((output, response));
        }
        let gone = || RelayError::OutputUnavailable(id.clone(), output.path());
        // A server that is not configured any more.
        let backend = backend.ok_or_else(gone)?;
        let file = output.file();
        let read = backend.comfy.rest().file(&file, headers);
        match read
            .await
            .map_err(|error| RelayError::request_failed(backend.name(), error))?
        {
            Some(response) => {
                let response = response.map(|body| body.map_err(io::Error::other).boxed_unsync());
                Ok((output, response))
            }
            None => Err(gone()),
        }
    }

    /// Begins to read the copy of a file that a known job has made; `None` if none is kept.
    pub(in crate::relay) async fn kept_output(
        &self,
        id: &JobId,
        number: usize,
        headers: &HeaderMap,
    ) -> Option<Response<OutputBody>> {
        let kept = self.output_place(id, number).ok()?.kept?;
        read_kept(&kept, headers).await
    }

    /// Reads one of the files that a known job has made, of at most `limit` bytes.
    pub async fn read_output(
        &self,
        id: &JobId,
        number: usize,
        limit: usize,
    ) -> Result<Bytes, RelayError> {
        let (output, response) = self.output(id, number, &HeaderMap::new()).await?;
        let content = Limited::new(response.into_body(), limit).collect().await;
        match content {
            Ok(content) => Ok(content.to_bytes()),
            Err(_) => Err(RelayError::OutputUnreadable(id.clone(), output.path())),
        }
    }

    /// What is known of the files of a known job, in their order.
    pub async fn output_details(&self, id: &JobId) -> Vec<OutputDetails> {
        let (outputs, mut kept) = {
            let tracker = &self.0.tracker;
            let registry = tracker.registry();
            let Some(entry) = registry.get(id) else {
                return Vec::new();
            };
            let outputs: Vec<Output> = entry.job.outputs().iter().cloned().collect();
            let kept = tracker.kept.paths_of(&entry.job).into_iter().flatten();
            (outputs, kept.collect::<Vec<PathBuf>>().into_iter())
        };
        let mut details = Vec::with_capacity(outputs.len());
        let mut texts_left = MAX_TEXTS;
        for (number, output) in outputs.iter().enumerate() {
            let size = match kept.next() {
                Some(path) => tokio::fs::metadata(path).await.ok().map(|it| it.len()),
                None => None,
            };
            let mut text = output.text.clone();
            if output.is_text_file() && texts_left > 0 {
                texts_left -= 1;
                match self.read_output(id, number, MAX_TEXT).await {
                    Ok(content) => text = String::from_utf8(content.to_vec()).ok(),
                    // One that is gone or too long says nothing of the others.
                    Err(RelayError::OutputUnavailable(..) | RelayError::OutputUnreadable(..)) => {}
                    // Each of the others would be waited for as long.
                    Err(_) => texts_left = 0,
                }
            }
            let size = size.or(text.as_ref().map(|text| text.len() as u64));
            details.push(OutputDetails { size, text });
        }
        details
    }

    pub(super) fn output_place(
        &self,
        id: &JobId,
        number: usize,
    ) -> Result<OutputPlace, RelayError> {
        let tracker = &self.0.tracker;
        let registry = tracker.registry();
        let entry = registry.get(id);
        let place = entry.and_then(|entry| {
            Some(OutputPlace {
                key: output_key(&entry.job, number),
                output: entry.job.outputs().get_index(number)?.clone(),
                kept: tracker.kept.path(&entry.job, number),
                backend: entry.backend.clone(),
            })
        });
        place.ok_or_else(|| RelayError::OutputNotFound(id.clone(), number))
    }
}

/// Ids of jobs can be chosen, and are free again once a job was deleted.
fn output_key(job: &Job, number: usize) -> String {
    let created_at = job.created_at().as_millisecond();
    let prompt_id = job.prompt_id().unwrap_or_default();
    format!("{}/{created_at}/{prompt_id}/{number}", job.id())
}

/// Begins to read a file of this machine; `None` if it cannot be read.
async fn read_kept(path: &Path, headers: &HeaderMap) -> Option<Response<OutputBody>> {
    let mut request = Request::new(http_body_util::Empty::<Bytes>::new());
    request.headers_mut().clone_from(headers);
    let response = ServeFile::new(path).try_call(request).await.ok()?;
    let is_read = match response.status() {
        StatusCode::RANGE_NOT_SATISFIABLE => headers.contains_key(RANGE),
        status => status.is_success() || status == StatusCode::NOT_MODIFIED,
    };
    is_read.then(|| response.map(|body| body.boxed_unsync()))
}
