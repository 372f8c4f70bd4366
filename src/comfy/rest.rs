//! The HTTP calls.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use url::Url;

use super::history::HistoryEntry;
use super::python_json;
use super::queue::{Queue, QueuePosition};
use super::rejection::{self, Rejection, WrongInput};
use super::timings::{self, PromptTiming};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read. Queues of 50 MB have been seen.
const MAX_ANSWER: usize = 128 << 20;

/// From this length on, reading an answer takes so many milliseconds that it is done beside the
/// runtime's threads.
const LONG_ANSWER: usize = 256 << 10;

/// The longest history of many prompts that is read: a hundred with large graphs have 10 MB. Who
/// sends more, as servers do that know no `max_items`, is not heard out.
const MAX_TIMINGS: usize = 32 << 20;

/// Why a call to ComfyUI failed.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No answer, or one that broke off.
    #[error("{call} got no answer")]
    Unreachable {
        /// Method and path.
        call: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// An answer with a status that means no success.
    #[error("{call} was answered with {status}")]
    Refused {
        /// Method and path.
        call: String,
        /// The status.
        status: StatusCode,
    },
    /// An answer that is not what ComfyUI answers.
    #[error("{call} was answered with something else than ComfyUI's JSON: {why}")]
    InvalidResponse {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        why: String,
    },
}

impl RestError {
    /// Whether the server did not answer at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether the server may have done what it was asked, although no answer came: the call broke
    /// off when the connection was there.
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if !source.is_connect())
    }
}

/// Why a prompt was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// ComfyUI's validation says no.
    #[error("ComfyUI refuses the workflow: {0}")]
    Rejected(Rejection),
    /// The call itself failed.
    #[error(transparent)]
    Rest(#[from] RestError),
}

/// What ComfyUI answers to a prompt that it takes.
#[derive(Debug, Clone, Deserialize)]
pub struct Submitted {
    /// The prompt's id: the one that counts, whatever was asked for.
    pub prompt_id: String,
    /// The outputs that it ignores, where some are wrong and others are not.
    #[serde(default)]
    pub node_errors: Value,
}

impl Submitted {
    /// The inputs for which some outputs are ignored.
    pub fn ignored(&self) -> Vec<WrongInput> {
        rejection::wrong_inputs(&self.node_errors)
    }
}

/// How a cancellation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// The server was told to interrupt it, or to take it out of its queue.
    Asked,
    /// The server has it neither running nor waiting.
    NotThere,
}

/// One ComfyUI server's HTTP API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rest {
    client: Client,
    base: Url,
    view: String,
}

impl Rest {
    /// For the server at `base`, such as `http://127.0.0.1:8188/`. No answer may take longer than
    /// `answer_timeout`.
    pub fn new(base: Url, answer_timeout: Duration) -> reqwest::Result<Self> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(answer_timeout)
            // Only the configured server is ever dialled.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        let view = format!("{}/view", address(&base));
        Ok(Self { client, base, view })
    }

    /// The address of the server's `/view`.
    pub fn view(&self) -> &str {
        &self.view
    }

    /// Hands in a graph, with events going to the socket `client_id`, asking for `prompt_id`.
    pub async fn submit(
        &self,
        graph: &Map<String, Value>,
        client_id: &str,
        prompt_id: &str,
    ) -> Result<Submitted, SubmitError> {
        let call = "POST /prompt";
        let body = json!({"prompt": graph, "client_id": client_id, "prompt_id": prompt_id});
        let request = self.client.post(self.at("prompt")).json(&body);
        let (status, answer) = self.send(call, request, MAX_ANSWER).await?;
        if status == StatusCode::BAD_REQUEST {
            let refusal = serde_json::from_slice(&answer).unwrap_or(Value::Null);
            return Err(SubmitError::Rejected(Rejection::read(&refusal)));
        }
        success(call, status)?;
        Ok(json_of(call, &answer)?)
    }

    /// The queue.
    pub async fn queue(&self) -> Result<Queue, RestError> {
        let call = "GET /queue";
        let answer = self.get(call, self.at("queue")).await?;
        parse_blocking(answer.len(), call, move || Queue::parse(answer)).await
    }

    /// A prompt's entry in the history; `None` while there is none.
    pub async fn history(&self, prompt_id: &str) -> Result<Option<HistoryEntry>, RestError> {
        let path = format!(
            "history/{}",
            utf8_percent_encode(prompt_id, NON_ALPHANUMERIC)
        );
        let call = "GET /history/{prompt_id}";
        let answer = self.get(call, self.at(&path)).await?;
        let (length, prompt_id, view) = (answer.len(), prompt_id.to_owned(), self.view.clone());
        let read = move || {
            let mut entries: Map<String, Value> = python_json::read(&answer)?;
            let entry = entries.remove(&prompt_id);
            Ok(entry.and_then(|entry| HistoryEntry::read(entry, &view)))
        };
        parse_blocking(length, call, read).await
    }

    /// The newest prompts of the history that succeeded, at most `count`, the oldest first. Those of
    /// which the server does not tell how long they took are left out.
    pub async fn timings(&self, count: usize) -> Result<Vec<PromptTiming>, RestError> {
        let call = "GET /history";
        let mut url = self.at("history");
        url.query_pairs_mut()
            .append_pair("max_items", &count.to_string());
        let (status, answer) = self.send(call, self.client.get(url), MAX_TIMINGS).await?;
        success(call, status)?;
        parse_blocking(answer.len(), call, move || timings::read(&answer, count)).await
    }

    /// The server's version; `None` where it does not say, as in 2023.
    pub async fn version(&self) -> Result<Option<String>, RestError> {
        let call = "GET /system_stats";
        let answer = self.get(call, self.at("system_stats")).await?;
        let stats: Value = json_of(call, &answer)?;
        let version = stats.pointer("/system/comfyui_version");
        Ok(version.and_then(Value::as_str).map(str::to_owned))
    }

    /// Interrupts a prompt where it runs, removes it where it waits.
    ///
    /// Newer servers do both by id. For the others the queue is read first, because they interrupt
    /// whatever runs, whichever id they are given.
    pub async fn cancel(&self, prompt_id: &str) -> Result<Cancellation, RestError> {
        let id = utf8_percent_encode(prompt_id, NON_ALPHANUMERIC);
        let newer = self.client.post(self.at(&format!("api/jobs/{id}/cancel")));
        let (status, _) = self
            .send("POST /api/jobs/{prompt_id}/cancel", newer, MAX_ANSWER)
            .await?;
        if status.is_success() {
            return Ok(Cancellation::Asked);
        }
        let (call, path, body) = match self.queue().await?.position(prompt_id) {
            Some(QueuePosition::Running) => (
                "POST /interrupt",
                "interrupt",
                json!({"prompt_id": prompt_id}),
            ),
            Some(QueuePosition::Pending { .. }) => {
                ("POST /queue", "queue", json!({"delete": [prompt_id]}))
            }
            None => return Ok(Cancellation::NotThere),
        };
        let (status, _) = self
            .send(
                call,
                self.client.post(self.at(path)).json(&body),
                MAX_ANSWER,
            )
            .await?;
        success(call, status)?;
        Ok(Cancellation::Asked)
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let folder = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{path}"));
        url
    }

    async fn get(&self, call: &str, url: Url) -> Result<Bytes, RestError> {
        let (status, answer) = self.send(call, self.client.get(url), MAX_ANSWER).await?;
        success(call, status)?;
        Ok(answer)
    }

    async fn send(
        &self,
        call: &str,
        request: RequestBuilder,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), RestError> {
        let unreachable = |source| RestError::Unreachable {
            call: call.to_owned(),
            source,
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let mut answer = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if answer.len() + chunk.len() > limit {
                return Err(invalid_response(
                    call,
                    &format!("it is longer than {limit} bytes"),
                ));
            }
            answer.extend_from_slice(&chunk);
        }
        Ok((response.status(), answer.freeze()))
    }
}

/// An address without its user and password, and without a slash at its end.
pub(super) fn address(url: &Url) -> String {
    let mut url = url.clone();
    // Only addresses that have no host refuse this, and they have no user either.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.as_str().trim_end_matches('/').to_owned()
}

fn success(call: &str, status: StatusCode) -> Result<(), RestError> {
    match status.is_success() {
        true => Ok(()),
        false => Err(RestError::Refused {
            call: call.to_owned(),
            status,
        }),
    }
}

fn json_of<T: DeserializeOwned>(call: &str, answer: &[u8]) -> Result<T, RestError> {
    python_json::read(answer).map_err(|error| invalid_response(call, &error))
}

/// Reads an answer, beside the runtime's threads where it is long: they have better things to do.
async fn parse_blocking<T: Send + 'static>(
    length: usize,
    call: &str,
    read: impl FnOnce() -> serde_json::Result<T> + Send + 'static,
) -> Result<T, RestError> {
    if length < LONG_ANSWER {
        return read().map_err(|error| invalid_response(call, &error));
    }
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(|error| invalid_response(call, &error)),
        Err(error) => Err(invalid_response(call, &error)),
    }
}

fn invalid_response(call: &str, why: &dyn std::fmt::Display) -> RestError {
    RestError::InvalidResponse {
        call: call.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_files_holds_no_password() {
        let base = Url::parse("http://me:secret@gpu:8188/comfy/").unwrap();
        let rest = Rest::new(base, Duration::from_secs(1)).unwrap();
        assert_eq!(rest.view(), "http://gpu:8188/comfy/view");
    }
}
