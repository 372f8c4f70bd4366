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

    /// Has the place of a job in memory of its own, under this copy of its id. Returns where its prompt is.
    pub(super) fn renew(&mut self, entry: &Entry, id: &JobId) -> Option<(usize, Arc<str>)> {
        let (backend, prompt) = place(entry)?;
        let prompts = self.0.get_mut(&backend)?;
        let jobs = prompts.remove(prompt)?;
        let renewed = |job| if job == id { id } else { job };
        let jobs = jobs.iter().map(renewed).cloned().collect();
        let prompt: Arc<str> = prompt.into();
        prompts.insert(prompt.clone(), jobs);
        Some((backend, prompt))
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
