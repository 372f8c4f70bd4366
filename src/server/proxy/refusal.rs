//! [`PromptRefusal`]: why a prompt is not taken, in the words of ComfyUI's answer.

use std::collections::BTreeMap;

use hyper::header::RETRY_AFTER;
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::comfy::{Rejection, WrongInput};
use crate::relay::RelayError;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};

/// What is wrong with each node: `{"7": {"errors": […], "dependent_outputs": [], "class_type": "KSampler"}}`.
pub(super) type NodeErrors = BTreeMap<String, WrongNode>;

/// A prompt that is not taken.
#[derive(Debug, Serialize)]
pub(super) struct PromptRefusal {
    #[serde(skip)]
    status: StatusCode,
    error: PromptFailure,
    node_errors: NodeErrors,
}

#[derive(Debug, Serialize)]
struct PromptFailure {
    /// A stable word for programs.
    r#type: String,
    message: String,
    details: String,
    extra_info: NoInfo,
}

/// `{}`.
#[derive(Debug, Serialize)]
struct NoInfo {}

/// What is wrong with a node.
#[derive(Debug, Serialize)]
pub(super) struct WrongNode {
    errors: Vec<InputFailure>,
    dependent_outputs: [String; 0],
    class_type: String,
}

#[derive(Debug, Serialize)]
struct InputFailure {
    r#type: String,
    message: String,
    details: String,
    extra_info: InputPlace,
}

#[derive(Debug, Serialize)]
struct InputPlace {
    #[serde(skip_serializing_if = "String::is_empty")]
    input_name: String,
}

impl PromptRefusal {
    /// A body that is wrong in itself.
    pub(super) fn new(kind: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status: StatusCode::BAD_REQUEST,
            error: PromptFailure {
                r#type: kind.to_owned(),
                details: message.clone(),
                message,
                extra_info: NoInfo {},
            },
            node_errors: NodeErrors::new(),
        }
    }

    /// The answer to a prompt that is not taken for this reason.
    pub(super) fn answer(error: RelayError) -> Response<Body> {
        if let RelayError::Rejected(rejection) = error {
            let refusal = Self {
                node_errors: node_errors(rejection.inputs),
                ..Self::new(&rejection.kind, rejection.message)
            };
            return refusal.response();
        }
        let is_wrong = matches!(
            error,
            RelayError::NoBackendCanRun { .. } | RelayError::JobExists(_)
        );
        let rejection = first_rejection(&error);
        let error = ApiError::from(error);
        let mut refusal = Self::new(error.code(), error.message());
        if let Some((rejection, is_same_kind)) = rejection {
            refusal.node_errors = node_errors(rejection.inputs);
            if is_same_kind {
                refusal.error.r#type = rejection.kind;
            }
        }
        if !is_wrong {
            refusal.status = error.status();
        }
        let mut answer = refusal.response();
        if let Some(wait) = error.response().headers().get(RETRY_AFTER) {
            answer.headers_mut().insert(RETRY_AFTER, wait.clone());
        }
        answer
    }

    pub(super) fn response(&self) -> Response<Body> {
        response::json(self.status, self)
    }
}

/// What the first of several servers would answer to a prompt that none of them can run, and whether the others have the same word
/// for it.
pub(super) fn first_rejection(error: &RelayError) -> Option<(Rejection, bool)> {
    let RelayError::NoBackendCanRun { rejections, .. } = error else {
        return None;
    };
    let first = rejections.first()?;
    let is_same_kind = rejections.iter().all(|other| other.kind == first.kind);
    Some((first.clone(), is_same_kind))
}

/// Wrong inputs, by their nodes.
pub(super) fn node_errors(inputs: Vec<WrongInput>) -> NodeErrors {
    let mut nodes = NodeErrors::new();
    for input in inputs {
        let node = nodes.entry(input.node).or_insert_with(|| WrongNode {
            errors: Vec::new(),
            dependent_outputs: [],
            class_type: input.class_type,
        });
        node.errors.push(InputFailure {
            r#type: input.code,
            details: input.input.clone(),
            message: input.message,
            extra_info: InputPlace {
                input_name: input.input,
            },
        });
    }
    nodes
}
