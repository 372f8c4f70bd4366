//! How large the files of jobs are.

use std::time::Duration;

use tokio::time::timeout;

use crate::job::JobId;
use crate::relay::Relay;
use crate::relay::requests::output::OutputPlace;

/// How long a server may take to say how large a file is: a client waits for what it is told beside it.
const PATIENCE: Duration = Duration::from_secs(2);

impl Relay {
    /// How large one of the files or texts is that a known job has made, in bytes; `None` if its server does not say so in time.
    pub async fn output_size(&self, id: &JobId, number: usize) -> Option<u64> {
        let OutputPlace {
            output,
            kept,
            backend,
        } = self.output_place(id, number).ok()?;
        if output.is_shown_text() {
            return output.text.map(|text| text.len() as u64);
        }
        if let Some(path) = kept
            && let Ok(file) = tokio::fs::metadata(path).await
        {
            return Some(file.len());
        }
        let sizes = &self.0.output_sizes;
        if let Some(size) = sizes.get(id, number) {
            return Some(size);
        }
        let backend = backend?;
        let answers = {
            let state = backend.state();
            state.api.reachable && !state.api.hangs()
        };
        if !answers {
            return None;
        }
        let file = output.file();
        let asked = timeout(PATIENCE, backend.comfy.rest().file_size(&file)).await;
        let size = asked.ok()?.ok()??;
        sizes.add(id, number, size);
        Some(size)
    }
}
