use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{MAX_ANSWER, Rest, RestError, success};
use crate::comfy::queue::QueuePosition;
use crate::python_json;

/// What came of a call that cancels a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// The server accepted the call to interrupt it or to remove it from its queue.
    Requested,
    /// The prompt has ended.
    Ended,
    /// The server has it neither in its queue nor in its history.
    Unknown,
}

/// Where a server has a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    Runs,
    Waits,
    Ended,
    Unknown,
}

/// The answer to `GET /api/jobs/{prompt_id}`, as far as it is read.
#[derive(Deserialize)]
struct PromptStatus {
    status: String,
}

impl Rest {
    /// Interrupts a running prompt, or removes a waiting one from the queue.
    ///
    /// Servers since 0.25 do both by id, and answer whether they have. Older ones, and those that have not, are asked where
    /// the prompt is first: older ones interrupt whatever runs, whichever id they are given.
    pub async fn cancel(&self, prompt_id: &str) -> Result<Cancellation, RestError> {
        let whereabouts = match self.cancel_by_id(prompt_id).await? {
            Some(true) => return Ok(Cancellation::Requested),
            Some(false) => self.look_up(prompt_id).await?,
            None => self.search(prompt_id).await?,
        };
        let whereabouts = match whereabouts {
            Whereabouts::Waits => {
                self.delete_waiting(&[prompt_id.to_owned()]).await?;
                // It may have begun before that, and what runs stays as it is.
                match self.search(prompt_id).await? {
                    Whereabouts::Waits | Whereabouts::Unknown => {
                        return Ok(Cancellation::Requested);
                    }
                    has_begun => has_begun,
                }
            }
            other => other,
        };
        match whereabouts {
            Whereabouts::Runs | Whereabouts::Waits => self.interrupt(prompt_id).await,
            Whereabouts::Ended => Ok(Cancellation::Ended),
            Whereabouts::Unknown => Ok(Cancellation::Unknown),
        }
    }

    async fn interrupt(&self, prompt_id: &str) -> Result<Cancellation, RestError> {
        let call = "POST /interrupt";
        let body = json!({"prompt_id": prompt_id});
        let request = self.client.post(self.at("interrupt")).json(&body);
        let (status, _) = self.send(call, request, MAX_ANSWER).await?;
        success(call, status)?;
        Ok(Cancellation::Requested)
    }

    /// Removes prompts from the queue that wait in it. Those that run, or that the server does not have, stay as they are.
    pub async fn delete_waiting(&self, prompt_ids: &[String]) -> Result<(), RestError> {
        let call = "POST /queue";
        let request = self.client.post(self.at("queue"));
        let request = request.json(&json!({"delete": prompt_ids}));
        let (status, _) = self.send(call, request, MAX_ANSWER).await?;
        success(call, status)
    }

    /// Removes all prompts from the queue that have not begun, whoever has submitted them.
    pub async fn clear_waiting(&self) -> Result<(), RestError> {
        self.post_done("queue", &json!({"clear": true})).await
    }

    /// Interrupts what runs, whatever that is.
    pub async fn interrupt_running(&self) -> Result<(), RestError> {
        self.post_done("interrupt", &json!({})).await
    }

    /// Removes prompts from the history; all of them, if none is named.
    pub async fn delete_history(&self, prompt_ids: Option<&[String]>) -> Result<(), RestError> {
        let body = prompt_ids.map_or_else(|| json!({"clear": true}), |ids| json!({"delete": ids}));
        self.post_done("history", &body).await
    }

    async fn post_done(&self, path: &str, body: &Value) -> Result<(), RestError> {
        let call = format!("POST /{path}");
        let request = self.client.post(self.at(path)).json(body);
        let (status, _) = self.send(&call, request, MAX_ANSWER).await?;
        success(&call, status)
    }

    /// Whether the server has cancelled the prompt: `{"cancelled": true}`, or nothing that denies it. `None` from one that
    /// cannot do so by id, and where something else answers for it.
    async fn cancel_by_id(&self, prompt_id: &str) -> Result<Option<bool>, RestError> {
        let id = utf8_percent_encode(prompt_id, NON_ALPHANUMERIC);
        let request = self.client.post(self.at(&format!("api/jobs/{id}/cancel")));
        let call = "POST /api/jobs/{prompt_id}/cancel";
        let (status, answer) = self.send(call, request, MAX_ANSWER).await?;
        if !status.is_success() {
            return Ok(None);
        }
        let answer: Option<Value> = python_json::read(&answer).ok();
        Ok(answer.map(|answer| answer["cancelled"] != false))
    }

    /// Where a server that cancels by id has a prompt. It has a route for one prompt, so its queue need not be read.
    async fn look_up(&self, prompt_id: &str) -> Result<Whereabouts, RestError> {
        let id = utf8_percent_encode(prompt_id, NON_ALPHANUMERIC);
        let request = self.client.get(self.at(&format!("api/jobs/{id}")));
        let call = "GET /api/jobs/{prompt_id}";
        let (status, answer) = self.send(call, request, MAX_ANSWER).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(Whereabouts::Unknown);
        }
        let prompt: Option<PromptStatus> = python_json::read(&answer).ok();
        match prompt.as_ref().map(|prompt| prompt.status.as_str()) {
            Some("in_progress") => Ok(Whereabouts::Runs),
            Some("pending") => Ok(Whereabouts::Waits),
            Some("completed" | "failed" | "cancelled") => Ok(Whereabouts::Ended),
            _ => self.search(prompt_id).await,
        }
    }

    /// Where a server of any version has a prompt: its queue is read, then its history.
    async fn search(&self, prompt_id: &str) -> Result<Whereabouts, RestError> {
        match self.positions(None).await?.position(prompt_id) {
            Some(QueuePosition::Running) => Ok(Whereabouts::Runs),
            Some(QueuePosition::Pending { .. }) => Ok(Whereabouts::Waits),
            None => Ok(match self.history(prompt_id).await? {
                Some(_) => Whereabouts::Ended,
                None => Whereabouts::Unknown,
            }),
        }
    }
}
