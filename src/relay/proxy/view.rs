//! Finds the server that has a file.

use std::sync::Arc;

use hyper::{Response, StatusCode};

use super::forward::ForwardedRequest;
use crate::job::JobId;
use crate::relay::backend::Backend;
use crate::relay::registry::Remembered;
use crate::relay::requests::output::OutputBody;
use crate::relay::{Relay, RelayError};

/// Among the outputs of so many of the newest jobs a file is looked for. Others, and those of jobs that ended some time ago, are
/// asked of all servers.
const MAX_JOBS: usize = 1_000;

/// A file as ComfyUI names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewedFile {
    /// Its name.
    pub filename: String,
    /// The folder in the folder that `type` names; empty for that itself.
    pub subfolder: String,
    /// `output`, `temp` or `input`.
    pub r#type: String,
}

/// The job that has made a file.
struct MadeFile {
    job: JobId,
    /// Its place among the job's outputs.
    number: usize,
    backend: Option<Arc<Backend>>,
}

impl Relay {
    /// Passes the request for a file on to the server that has it: the one whose job made it last, or else the first that has a
    /// file of this name. A file of a server that is gone comes from where it is kept, if it was.
    ///
    /// # Errors
    ///
    /// If no server answers.
    pub async fn view(
        &self,
        file: &ViewedFile,
        request: &ForwardedRequest,
    ) -> Result<Response<OutputBody>, RelayError> {
        let made = self.maker(file);
        let maker = made.as_ref().and_then(|made| made.backend.as_ref());
        let is_maker = |it: &Arc<Backend>| maker.is_some_and(|maker| maker.index == it.index);
        let (makers, mut others): (Vec<_>, Vec<_>) =
            self.answering_backends().into_iter().partition(is_maker);
        if makers.is_empty() {
            // It does not answer, as far as is known: whatever is there comes first.
            others.extend(maker.cloned());
        }
        let unreachable = RelayError::BackendUnreachable(super::NO_SERVER.to_owned());
        let mut missed = Err(unreachable);
        if let Some(found) = self.first_with(&makers, request, &mut missed).await {
            return Ok(found);
        }
        if let Some(made) = &made {
            let kept = self.kept_output(&made.job, made.number, &request.headers);
            if let Some(kept) = kept.await {
                return Ok(kept);
            }
        }
        match self.first_with(&others, request, &mut missed).await {
            Some(found) => Ok(found),
            None => missed,
        }
    }

    /// Asks servers one after another for a file. Of those that do not have it, or fail, `missed` is the answer.
    async fn first_with(
        &self,
        backends: &[Arc<Backend>],
        request: &ForwardedRequest,
        missed: &mut Result<Response<OutputBody>, RelayError>,
    ) -> Option<Response<OutputBody>> {
        for backend in backends {
            match self.forward_bodiless(backend, request).await {
                Ok(response) if response.status() != StatusCode::NOT_FOUND => {
                    return Some(response);
                }
                Ok(response) => *missed = Ok(response),
                Err(error) if missed.is_err() => {
                    *missed = Err(RelayError::request_failed(backend.name(), error));
                }
                Err(_) => {}
            }
        }
        None
    }

    /// The newest job that has made a file.
    fn maker(&self, file: &ViewedFile) -> Option<MadeFile> {
        let registry = self.0.tracker.registry();
        let mut newest = registry.newest_first().take(MAX_JOBS);
        newest.find_map(|job| {
            let Remembered::Whole(entry) = job else {
                return None;
            };
            let mut outputs = entry.job.outputs().iter();
            let number = outputs.position(|output| {
                output.filename == file.filename
                    && output.subfolder == file.subfolder
                    && output.r#type == file.r#type
            })?;
            Some(MadeFile {
                job: entry.job.id().clone(),
                number,
                backend: entry.backend.clone(),
            })
        })
    }
}
