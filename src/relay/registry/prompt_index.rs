use std::collections::HashMap;

use super::entry::Entry;
use crate::job::JobId;

/// The jobs by the backend that has their prompt, and the prompt. Several jobs can follow one prompt.
#[derive(Debug, Default)]
pub(super) struct PromptIndex(HashMap<usize, HashMap<String, Vec<JobId>>>);

impl PromptIndex {
    pub(super) fn add(&mut self, entry: &Entry) {
        if let Some((backend, prompt)) = place(entry) {
            let prompts = self.0.entry(backend).or_default();
            let jobs = prompts.entry(prompt.to_owned()).or_default();
            jobs.push(entry.job.id().clone());
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        let Some((backend, prompt)) = place(entry) else {
            return;
        };
        if let Some(prompts) = self.0.get_mut(&backend)
            && let Some(jobs) = prompts.get_mut(prompt)
        {
            jobs.retain(|job| job != entry.job.id());
            if jobs.is_empty() {
                prompts.remove(prompt);
            }
        }
    }

    /// The jobs that follow a prompt of a backend.
    pub(super) fn of(&self, backend: usize, prompt: &str) -> &[JobId] {
        let jobs = self.0.get(&backend).and_then(|prompts| prompts.get(prompt));
        jobs.map(Vec::as_slice).unwrap_or_default()
    }
}

fn place(entry: &Entry) -> Option<(usize, &str)> {
    entry.backend_index().zip(entry.job.prompt_id())
}
