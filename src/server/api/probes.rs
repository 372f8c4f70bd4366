//! `GET /healthz` and `GET /readyz`: what supervisors and load balancers ask, without a token.

use hyper::{Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::relay::NotReady;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// What a probe asks. It is answered whatever the limits on clients are: a relay that refused its probes under load would be
/// restarted for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Probe {
    /// Whether the process answers. It says nothing of the database and of ComfyUI, which no restart of the relay mends.
    Alive,
    /// Whether a job can be taken.
    Ready,
}

/// The answer to a probe.
#[derive(Debug, JsonSchema, Serialize)]
struct ProbeAnswer {
    /// `alive` or `ready`.
    #[schemars(extend("enum" = ["alive", "ready"]))]
    status: &'static str,
}

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let reasons = [
        "going_away",
        "database_unreachable",
        "paused",
        "backend_unreachable",
    ];
    vec![
        Endpoint::get("alive", "/healthz", "Whether the process answers")
            .answers::<ProbeAnswer>(200, "It does."),
        Endpoint::get("ready", "/readyz", "Whether a job can be taken")
            .answers::<ProbeAnswer>(200, "It can.")
            .fails(503, &reasons),
    ]
}

impl Probe {
    /// The probe with this path.
    pub(in crate::server) fn find(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Alive),
            "/readyz" => Some(Self::Ready),
            _ => None,
        }
    }

    /// The probe of a request that only asks.
    pub(in crate::server) fn asked(method: &Method, path: &str) -> Option<Self> {
        let only_asks = matches!(*method, Method::GET | Method::HEAD);
        Self::find(path).filter(|_| only_asks)
    }

    /// The answer: 200, or 503 with the reason.
    pub(in crate::server) fn answer(self, state: &ServerState) -> Result<Response<Body>, ApiError> {
        let status = match self {
            Self::Alive => "alive",
            Self::Ready if state.stop.is_cancelled() => return Err(NotReady::Stopping.into()),
            Self::Ready => {
                state.relay.readiness()?;
                "ready"
            }
        };
        Ok(response::json(StatusCode::OK, &ProbeAnswer { status }))
    }
}
