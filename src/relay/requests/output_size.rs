//! How large the files of jobs are.

use tokio::time::{Instant, timeout_at};

use crate::job::JobId;
use crate::relay::Relay;
use crate::relay::requests::output::OutputPlace;

impl Relay {
    /// How large one of the files or texts is that a known job has made, in bytes; `None` if its server does not say so before
    /// this moment.
    pub async fn output_size(&self, id: &JobId, number: usize, deadline: Instant) -> Option<u64> {
        let OutputPlace {
            key,
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
        if let Some(size) = sizes.get(&key) {
            return Some(size);
        }
        let backend = backend?;
        let may_answer = backend.answers() || backend.stands_by();
        if !may_answer || Instant::now() >= deadline {
            return None;
        }
        let file = output.file();
        let asked = timeout_at(deadline, backend.comfy.rest().file_size(&file)).await;
        let size = asked.ok()?.ok()??;
        sizes.add(key, size);
        Some(size)
    }
}
