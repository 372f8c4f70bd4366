//! The answer to a request that makes a job.

use hyper::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::comfy::WrongInput;
use crate::job::JobId;
use crate::relay::Accepted;
use crate::server::response::{self, Body};
use crate::server::security::PublicAddress;

/// A job that was accepted, and where it is found.
#[derive(Debug, JsonSchema, Serialize)]
pub(in crate::server::api) struct CreateAnswer<'a> {
    job_id: &'a JobId,
    /// ComfyUI's id of the prompt.
    prompt_id: &'a str,
    /// The name of the ComfyUI server.
    backend: &'a str,
    /// Where its messages come on a WebSocket.
    ws_url: String,
    urls: JobUrls,
    /// What it waits for, where ComfyUI does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// What ComfyUI leaves out.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ignored: &'a [WrongInput],
    /// The job that it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<&'a JobId>,
    /// It is the answer to an earlier request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
}

/// Where a job is found.
#[derive(Debug, JsonSchema, Serialize)]
struct JobUrls {
    #[serde(rename = "self")]
    own: String,
    events: String,
    cancel: String,
    ws: String,
}

impl<'a> CreateAnswer<'a> {
    pub(in crate::server::api) fn new(accepted: &'a Accepted, address: &PublicAddress) -> Self {
        let id = &accepted.job_id;
        let ws_url = address.socket_url(&format!("/ws/{id}"));
        let own = address.url(&format!("/api/anime/jobs/{id}"));
        Self {
            job_id: id,
            prompt_id: &accepted.prompt_id,
            backend: &accepted.backend,
            urls: JobUrls {
                events: format!("{own}/events"),
                cancel: format!("{own}/cancel"),
                own,
                ws: ws_url.clone(),
            },
            ws_url,
            message: accepted
                .is_unanswered
                .then_some("Waiting for ComfyUI to answer"),
            ignored: &accepted.ignored,
            retry_of: None,
            replayed: accepted.is_replayed,
        }
    }

    /// The same, of a job that repeats another one.
    pub(super) fn repeating(self, retry_of: &'a JobId) -> Self {
        Self {
            retry_of: Some(retry_of),
            ..self
        }
    }

    /// The response.
    pub(super) fn response(&self, accepted: &Accepted) -> Response<Body> {
        let status = if accepted.is_replayed {
            StatusCode::OK
        } else if accepted.is_unanswered || !accepted.is_written {
            StatusCode::ACCEPTED
        } else {
            StatusCode::CREATED
        };
        response::json(status, self)
    }
}
