//! The calls of ComfyUI's HTTP API.

mod abilities;
mod cancel;
mod file;
mod forward;
mod image_size;
mod memory;
mod prompt_body;
mod queue;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use super::history::HistoryEntry;
use super::object_info::NodeClasses;
use super::prompt_options::PromptOptions;
use super::rejection::{self, Rejection, WrongInput};
use super::timings::{self, PromptTiming};
use crate::connector::Connector;
use crate::job::ImageFile;
use crate::python_json;
use abilities::Abilities;

pub use cancel::Cancellation;
use prompt_body::PromptBody;

/// How long establishing a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long ComfyUI may take to answer a prompt. Its event loop can stand still for minutes, and it runs what it has
/// received.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(300);

/// The longest answer that is read, in bytes. Queues of 50 MB have been seen.
const MAX_ANSWER: usize = 128 << 20;

/// How much memory is taken for an answer before any of it has come, in bytes: a server can announce more than it sends.
const MAX_RESERVED: u64 = 32 << 20;

/// Longer answers, in bytes, take so many milliseconds to parse that this is done on a thread that may
/// block.
const LONG_ANSWER: usize = 256 << 10;

/// The longest history of many prompts that is read, in bytes: a hundred with large graphs have 10 MB.
/// Servers that ignore `max_items` may send far more.
const MAX_TIMINGS: usize = 32 << 20;

/// Why a call to ComfyUI failed.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No answer, or an incomplete one.
    #[error("{call} got no answer")]
    Unreachable {
        /// Method and path.
        call: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("{call} got no answer in time")]
    Slow {
        /// Method and path.
        call: String,
    },
    /// An answer with a status other than success.
    #[error("{call} was answered with {status}")]
    Refused {
        /// Method and path.
        call: String,
        /// The status.
        status: StatusCode,
    },
    /// What is asked for is wrong: ComfyUI says why.
    #[error("{call} was answered with 400 Bad Request")]
    BadRequest {
        /// Method and path.
        call: String,
        /// Its answer.
        answer: Value,
    },
    /// An answer that does not follow ComfyUI's protocol.
    #[error("{call} was not answered with ComfyUI's JSON: {why}")]
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
        matches!(self, Self::Unreachable { .. } | Self::Slow { .. })
    }

    /// Whether no connection could be established.
    pub fn is_unconnected(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.is_connect())
    }

    /// Whether the server itself has said nothing: no answer came, or a gateway answered for it (502 to 504), as it does while the
    /// server is started.
    pub fn is_of_gateway(&self) -> bool {
        match self {
            Self::Refused { status, .. } => (502..=504).contains(&status.as_u16()),
            _ => self.is_unreachable(),
        }
    }

    /// Whether the server may have carried out the call: the connection was established, and what came is not
    /// ComfyUI's answer, but nothing, or the error or the page of a proxy before it.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_connect(),
            Self::Refused { status, .. } => status.is_server_error(),
            Self::BadRequest { .. } => false,
            Self::InvalidResponse { .. } | Self::Slow { .. } => true,
        }
    }
}

/// Why a prompt was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// ComfyUI's validation refused it.
    #[error("ComfyUI refuses the workflow: {0}")]
    Rejected(Rejection),
    /// The call itself failed.
    #[error(transparent)]
    Rest(#[from] RestError),
}

/// ComfyUI's answer to a prompt that it accepts.
#[derive(Debug, Clone, Deserialize)]
pub struct Submitted {
    /// The prompt's id, which may differ from the one that was asked for: servers from before the middle of
    /// 2025 make their own.
    pub prompt_id: String,
    /// The errors of outputs that will not run, although others will.
    #[serde(default)]
    pub node_errors: Value,
}

impl Submitted {
    /// Of a prompt that the server has, although its answer was lost.
    pub fn unanswered(prompt_id: String) -> Self {
        Self {
            prompt_id,
            node_errors: Value::Null,
        }
    }

    /// The wrong inputs because of which some outputs will not run.
    pub fn ignored(&self) -> Vec<WrongInput> {
        rejection::wrong_inputs(&self.node_errors)
    }
}

/// One ComfyUI server's HTTP API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rest {
    client: Client,
    base: Url,
    view: String,
    response_timeout: Duration,
    abilities: Arc<Abilities>,
}

impl Rest {
    /// The server at `base`, such as `http://127.0.0.1:8188/`. A call fails if its whole answer takes longer
    /// than `answer_timeout`.
    pub fn new(
        base: Url,
        connector: &Connector,
        answer_timeout: Duration,
    ) -> reqwest::Result<Self> {
        let client = connector
            .http_client()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(answer_timeout)
            .build()?;
        let view = format!("{}/view", base.as_str().trim_end_matches('/'));
        Ok(Self {
            client,
            base,
            view,
            response_timeout: answer_timeout,
            abilities: Arc::default(),
        })
    }

    /// The URL of the server's `/view`.
    pub fn view(&self) -> &str {
        &self.view
    }

    /// Submits a graph with what is passed on beside it. Its events go to the socket of `client_id`; `prompt_id` is a
    /// proposal.
    pub(super) async fn submit(
        &self,
        graph: &Map<String, Value>,
        client_id: &str,
        prompt_id: &str,
        options: &PromptOptions,
    ) -> Result<Submitted, SubmitError> {
        let call = "POST /prompt";
        let body = PromptBody::new(graph, client_id, prompt_id, options);
        let request = self.client.post(self.at("prompt")).json(&body);
        let request = request.timeout(SUBMIT_TIMEOUT);
        let (status, answer) = self.send(call, request, MAX_ANSWER).await?;
        if status == StatusCode::BAD_REQUEST {
            let refusal = serde_json::from_slice(&answer).unwrap_or(Value::Null);
            return Err(SubmitError::Rejected(Rejection::read(&refusal, graph)));
        }
        success(call, status)?;
        Ok(json_of(call, &answer)?)
    }

    /// A prompt's entry in the history; `None` as long as there is none.
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

    /// How long the newest prompts of the history took that succeeded: at most `count`, the oldest first.
    /// Entries without timestamps are left out.
    pub async fn timings(&self, count: usize) -> Result<Vec<PromptTiming>, RestError> {
        let call = "GET /history";
        let mut url = self.at("history");
        url.query_pairs_mut()
            .append_pair("max_items", &count.to_string());
        let (status, answer) = self.send(call, self.client.get(url), MAX_TIMINGS).await?;
        success(call, status)?;
        parse_blocking(answer.len(), call, move || timings::read(&answer, count)).await
    }

    /// The server's version; `None` from servers of 2023, which have none in their answer.
    pub async fn version(&self) -> Result<Option<String>, RestError> {
        let call = "GET /system_stats";
        let answer = self.get(call, self.at("system_stats")).await?;
        let stats: Value = json_of(call, &answer)?;
        let version = stats.pointer("/system/comfyui_version");
        Ok(version.and_then(Value::as_str).map(str::to_owned))
    }

    /// The server's node classes.
    pub async fn node_classes(&self) -> Result<NodeClasses, RestError> {
        let call = "GET /object_info";
        let answer = self.get(call, self.at("object_info")).await?;
        let length = answer.len();
        parse_blocking(length, call, move || python_json::read(&answer)).await
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let folder = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{path}"));
        url
    }

    /// Where a file in one of the server's folders is read.
    fn view_of(&self, file: &ImageFile) -> Url {
        let mut url = self.at("view");
        url.query_pairs_mut()
            .append_pair("filename", &file.name)
            .append_pair("subfolder", &file.subfolder)
            .append_pair("type", &file.folder);
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
        let announced = response.content_length().unwrap_or_default();
        let mut answer = BytesMut::with_capacity(announced.min(MAX_RESERVED) as usize);
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

fn success(call: &str, status: StatusCode) -> Result<(), RestError> {
    if status.is_success() {
        return Ok(());
    }
    Err(RestError::Refused {
        call: call.to_owned(),
        status,
    })
}

fn json_of<T: DeserializeOwned>(call: &str, answer: &[u8]) -> Result<T, RestError> {
    python_json::read(answer).map_err(|error| invalid_response(call, &error))
}

/// Parses an answer; a long one on a thread that may block, so that it delays no other task.
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
