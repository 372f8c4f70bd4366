//! `/openapi.json` and `/asyncapi.json`: what is served, for programs.

use std::sync::LazyLock;

use hyper::{HeaderMap, Response};

use crate::server::contract::{asyncapi, openapi};
use crate::server::pages::Asset;
use crate::server::response::Body;

static OPENAPI: LazyLock<String> = LazyLock::new(|| openapi::document().to_string());
static ASYNCAPI: LazyLock<String> = LazyLock::new(|| asyncapi::document().to_string());

/// A document that describes what is served.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) enum ApiDocument {
    /// What can be requested over HTTP.
    OpenApi,
    /// The messages on sockets, event streams, Redis and to webhooks.
    AsyncApi,
}

impl ApiDocument {
    /// The document, or 304 for a client that has this one.
    pub(in crate::server) fn response(self, request: &HeaderMap) -> Response<Body> {
        let text: &'static str = match self {
            Self::OpenApi => &OPENAPI,
            Self::AsyncApi => &ASYNCAPI,
        };
        Asset::json(text).response(request)
    }
}
