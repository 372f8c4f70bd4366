//! The calls that read the queue. Newer servers list its jobs without their graphs, which can be many megabytes.

use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;

use super::{MAX_ANSWER, Rest, RestError, parse_blocking, success};
use crate::comfy::queue::{Queue, QueueEntry};

impl Rest {
    /// The queue with the graphs of its prompts.
    pub async fn queue(&self) -> Result<Queue, RestError> {
        let call = "GET /queue";
        let answer = self.get(call, self.at("queue")).await?;
        parse_blocking(answer.len(), call, move || Queue::parse(answer)).await
    }

    /// The queue, without graphs where the server can leave them out. It is not read again if the answer has not changed since
    /// `last`.
    pub async fn positions(&self, last: Option<Arc<Queue>>) -> Result<Arc<Queue>, RestError> {
        if let Some(queue) = self.job_list(last.as_ref()).await? {
            return Ok(queue);
        }
        let call = "GET /queue";
        let answer = self.get(call, self.at("queue")).await?;
        if let Some(last) = last.filter(|last| last.is_of(&answer)) {
            return Ok(last);
        }
        let queue = parse_blocking(answer.len(), call, move || Queue::parse(answer)).await?;
        Ok(Arc::new(queue))
    }

    /// A prompt of the queue with its graph; `None` if the server does not show it alone: it may be in [`Rest::queue`].
    pub async fn queued_prompt(&self, prompt_id: &str) -> Result<Option<QueueEntry>, RestError> {
        if !self.abilities.lists_jobs() || !self.abilities.shows_graphs() {
            return Ok(None);
        }
        let id = utf8_percent_encode(prompt_id, NON_ALPHANUMERIC);
        let request = self.client.get(self.at(&format!("api/jobs/{id}")));
        let (status, answer) = self
            .send("GET /api/jobs/{prompt_id}", request, MAX_ANSWER)
            .await?;
        if !status.is_success() {
            return Ok(None);
        }
        let entry = QueueEntry::parse_job(&answer);
        if entry.is_none() {
            self.abilities.note_no_graphs();
        }
        Ok(entry)
    }

    /// Records that the list of jobs has left out a prompt of the queue: it is not asked for again.
    pub fn distrust_list(&self) {
        self.abilities.note_no_list();
    }

    /// Forgets what the server cannot do: it may be a newer one now.
    pub fn forget_abilities(&self) {
        self.abilities.forget();
    }

    /// The list of the jobs that run and wait; `None` if the server has none, or shows only a part of it.
    async fn job_list(&self, last: Option<&Arc<Queue>>) -> Result<Option<Arc<Queue>>, RestError> {
        if !self.abilities.lists_jobs() {
            return Ok(None);
        }
        let call = "GET /api/jobs";
        let mut url = self.at("api/jobs");
        url.set_query(Some("status=in_progress,pending"));
        let (status, answer) = match self.send(call, self.client.get(url), MAX_ANSWER).await {
            // It breaks off, or does not come: the queue may.
            Err(error) if error.may_be_done() => {
                tracing::debug!(%error, "reading the whole queue");
                if error.is_unreachable() {
                    self.abilities.note_late_list();
                } else {
                    self.abilities.note_no_list();
                }
                return Ok(None);
            }
            sent => sent?,
        };
        self.abilities.note_answered_list();
        if let Some(last) = last.filter(|last| status.is_success() && last.is_of(&answer)) {
            return Ok(Some(last.clone()));
        }
        let read = |answer: Bytes| move || Queue::parse_job_list(&answer);
        let listed = match success(call, status) {
            Ok(()) => parse_blocking(answer.len(), call, read(answer)).await,
            Err(error) => Err(error),
        };
        match listed {
            Ok(queue) => Ok(queue.map(Arc::new)),
            Err(error) => {
                tracing::debug!(%error, "reading the whole queue");
                // An error of a server that has the list passes.
                let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                if !passes {
                    self.abilities.note_no_list();
                }
                Ok(None)
            }
        }
    }
}
