use std::collections::HashMap;
use std::sync::Arc;

use super::entry::Entry;
use crate::job::JobId;

/// The jobs by the backend that has their prompt, and the prompt. Several jobs can follow one prompt.
#[derive(Debug, Default)]
pub(super) struct PromptIndex(HashMap<usize, HashMap<Arc<str>, Vec<JobId>>>);

impl PromptIndex {
    pub(super) fn add(&mut self, entry: &Entry) {
        if let Some((backend, prompt)) = place(entry) {
            let prompts = self.0.entry(backend).or_default();
            let jobs = prompts.entry(prompt.into());
            // Nearly always one job follows a prompt.
            let jobs = jobs.or_insert_with(|| Vec::with_capacity(1));
            jobs.push(entry.job.id().clone());
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        if let Some((backend, prompt)) = place(entry) {
            self.remove_from(backend, prompt, entry.job.id());
        }
    }

    pub(super) fn remove_from(&mut self, backend: usize, prompt: &str, id: &JobId) {
        if let Some(prompts) = self.0.get_mut(&backend)
            && let Some(jobs) = prompts.get_mut(prompt)
        {
            jobs.retain(|job| job != id);
            if jobs.is_empty() {
                prompts.remove(prompt);
            }
        }
    }

    /// Where the prompt of a job is.
    pub(super) fn place(&self, entry: &Entry) -> Option<(usize, Arc<str>)> {
        let (backend, prompt) = place(entry)?;
        let (prompt, _) = self.0.get(&backend)?.get_key_value(prompt)?;
        Some((backend, prompt.clone()))
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
