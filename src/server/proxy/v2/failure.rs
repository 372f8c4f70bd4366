//! Why a request for Comfy API v2 fails, in the words that it has published.

use std::collections::BTreeMap;

use hyper::header::CONTENT_LENGTH;
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::relay::UnsuitableBackend;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};

/// The codes of workflows that no server runs.
const OF_WORKFLOW: [&str; 5] = [
    "bad_target",
    "bad_workflow",
    "no_backend_can_run",
    "not_api_format",
    "workflow_rejected",
];

/// The body of an answer to a request that failed.
#[derive(Serialize)]
struct FailureEnvelope<'a> {
    error: V2Failure<'a>,
}

#[derive(Serialize)]
struct V2Failure<'a> {
    /// A stable word for programs.
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<FailureDetails<'a>>,
}

#[derive(Serialize)]
struct FailureDetails<'a> {
    /// What is wrong with each node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    node_errors: BTreeMap<&'a str, Vec<NodeFailure<'a>>>,
    /// Why each server cannot run the workflow.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    backends: &'a [UnsuitableBackend],
}

#[derive(Serialize)]
struct NodeFailure<'a> {
    /// The input; empty if the whole node is wrong.
    field: &'a str,
    reason: &'a str,
    message: &'a str,
}

/// The answer to a request for Comfy API v2 that fails for this reason.
pub(in crate::server::proxy) fn failure(error: &ApiError) -> Response<Body> {
    let (status, code) = published(error.status(), error.code());
    let mut node_errors: BTreeMap<&str, Vec<NodeFailure<'_>>> = BTreeMap::new();
    for input in error.inputs() {
        let wrong = NodeFailure {
            field: &input.input,
            reason: &input.code,
            message: &input.message,
        };
        node_errors.entry(&input.node).or_default().push(wrong);
    }
    let details = FailureDetails {
        node_errors,
        backends: error.backends(),
    };
    let has_details = !details.node_errors.is_empty() || !details.backends.is_empty();
    let envelope = FailureEnvelope {
        error: V2Failure {
            code,
            message: error.message(),
            details: has_details.then_some(details),
        },
    };
    // Its headers say when to try again, and how to authenticate.
    let mut answer = error.response();
    let (head, body) = response::json(status, &envelope).into_parts();
    *answer.status_mut() = head.status;
    answer.headers_mut().remove(CONTENT_LENGTH);
    *answer.body_mut() = body;
    answer
}

/// The status and the code that Comfy API v2 has for one of the relay's.
fn published(status: StatusCode, code: &'static str) -> (StatusCode, &'static str) {
    match (status, code) {
        (_, "editor_format") => (StatusCode::UNPROCESSABLE_ENTITY, "workflow_format_ui"),
        (_, "idempotency_conflict") => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reuse"),
        (_, code) if OF_WORKFLOW.contains(&code) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid_workflow")
        }
        (StatusCode::UNAUTHORIZED, _) => (status, "unauthorized"),
        (StatusCode::FORBIDDEN, _) => (status, "forbidden"),
        (StatusCode::TOO_MANY_REQUESTS, "too_many_requests") => (status, "rate_limited"),
        (StatusCode::NOT_FOUND, "blob_not_found") => (status, code),
        // What is gone and what never was there have the same answer.
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) => (StatusCode::NOT_FOUND, "not_found"),
        (StatusCode::BAD_REQUEST, _) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request"),
        (status, _) if status.is_server_error() => {
            (StatusCode::INTERNAL_SERVER_ERROR, "upstream_error")
        }
        (status, code) => (status, code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_published_status_and_code() {
        for (status, code, expected) in [
            (400, "editor_format", (422, "workflow_format_ui")),
            (400, "workflow_rejected", (422, "invalid_workflow")),
            (422, "no_backend_can_run", (422, "invalid_workflow")),
            (409, "idempotency_conflict", (422, "idempotency_key_reuse")),
            (401, "unauthenticated", (401, "unauthorized")),
            (403, "origin_not_allowed", (403, "forbidden")),
            (404, "job_not_found", (404, "not_found")),
            (410, "output_unavailable", (404, "not_found")),
            (429, "queue_full", (429, "queue_full")),
            (429, "too_many_requests", (429, "rate_limited")),
            (503, "backend_unreachable", (500, "upstream_error")),
            (400, "bad_json", (422, "invalid_request")),
            (413, "body_too_large", (413, "body_too_large")),
        ] {
            let (found, word) = published(StatusCode::from_u16(status).unwrap(), code);
            assert_eq!((found.as_u16(), word), expected, "{code}");
        }
    }
}
