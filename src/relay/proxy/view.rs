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
        let maker = made.as_ref().and_then(|made| made.backend.clone());
        let others = self.answering_backends().into_iter();
        let others = others.filter(|it| maker.as_ref().is_none_or(|maker| maker.index != it.index));
        let asked: Vec<Arc<Backend>> = maker.iter().cloned().chain(others).collect();
        let mut refused = None;
        let mut failure = RelayError::BackendUnreachable(super::NO_SERVER.to_owned());
        for backend in asked {
            match self.forward_bodiless(&backend, request).await {
                Ok(response) if response.status() != StatusCode::NOT_FOUND => return Ok(response),
                Ok(response) => refused = Some(response),
                Err(error) => failure = RelayError::request_failed(backend.name(), error),
            }
            let is_maker = maker
                .as_ref()
                .is_some_and(|maker| maker.index == backend.index);
            if let Some(made) = made.as_ref().filter(|_| is_maker)
                && let Ok((_, kept)) = self.output(&made.job, made.number, &request.headers).await
            {
                return Ok(kept);
            }
        }
        refused.ok_or(failure)
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
