//! Reads the files that a job has made, from the ComfyUI server that has them.

use hyper::{HeaderMap, Response};

use crate::job::{ImageFile, JobId, Output};
use crate::relay::{Relay, RelayError};

impl Relay {
    /// The files that a known job has made so far.
    pub fn outputs(&self, id: &JobId) -> Option<Vec<Output>> {
        let registry = self.0.tracker.registry();
        let job = &registry.get(id)?.job;
        Some(job.outputs().iter().cloned().collect())
    }

    /// Begins to read one of the files that a known job has made, by its place among them, from 0. `headers` are those
    /// of the request for it. Nothing but these files can be read.
    pub async fn output(
        &self,
        id: &JobId,
        number: usize,
        headers: &HeaderMap,
    ) -> Result<(Output, Response<reqwest::Body>), RelayError> {
        let (output, backend) = {
            let registry = self.0.tracker.registry();
            let entry = registry.get(id);
            let output = entry.and_then(|entry| entry.job.outputs().get_index(number).cloned());
            let output = output.ok_or_else(|| RelayError::OutputNotFound(id.clone(), number))?;
            (output, entry.and_then(|entry| entry.backend.clone()))
        };
        let gone = || RelayError::OutputUnavailable(id.clone(), output.path());
        // A server that is not configured any more.
        let backend = backend.ok_or_else(gone)?;
        let file = ImageFile {
            name: output.filename.clone(),
            subfolder: output.subfolder.clone(),
            folder: output.r#type.clone(),
        };
        let read = backend.comfy.rest().file(&file, headers).await;
        match read.map_err(|error| RelayError::request_failed(backend.name(), error))? {
            Some(response) => Ok((output, response)),
            None => Err(gone()),
        }
    }
}
