//! [`ApiClient`]: the other commands use the relay over HTTP and WebSocket, as any client does.

use anyhow::{Context, anyhow, bail};
use hyper::header;
use serde::Deserialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use url::Url;

use crate::config::{Secret, comfyui_url};

/// A client of a relay, set up by flags.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ApiClient {
    /// The relay's address
    #[arg(long, env = "RELAY_URL", default_value = "http://127.0.0.1:8328", value_parser = comfyui_url, value_name = "URL")]
    relay: Url,

    /// The token, if the relay requires one. Better set in the environment: a list of processes shows
    /// flags
    #[arg(
        id = "relay_token",
        long = "token",
        env = "RELAY_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<Secret>,
}

/// The relay's response to a job that it accepts.
#[derive(Debug, Deserialize)]
pub(super) struct SubmitResponse {
    pub(super) job_id: String,
    pub(super) prompt_id: String,
    pub(super) backend: String,
    #[serde(default)]
    pub(super) ignored: Vec<Value>,
}

/// The fields of a message on a job's socket that are shown.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct JobMessage {
    pub(super) r#type: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) progress: u64,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) estimated_remaining: Option<u64>,
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) output_path: Option<String>,
    #[serde(default)]
    pub(super) code: Option<String>,
}

impl ApiClient {
    pub(super) fn new(relay: Url) -> Self {
        Self { relay, token: None }
    }

    /// The request for a job's socket.
    pub(super) fn socket(&self, job: &str) -> anyhow::Result<Request> {
        let mut url = self.url_of(&format!("ws/{job}"));
        // A change from http to ws is always allowed.
        let _ = url.set_scheme("ws");
        let mut request = url.as_str().into_client_request()?;
        if let Some(token) = &self.token {
            let value = format!("Bearer {}", token.expose()).parse();
            let value = value.map_err(|_| {
                anyhow!("the token cannot be sent in a header (--token, RELAY_TOKEN)")
            })?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// Submits a job.
    pub(super) async fn submit(&self, job: &Value) -> anyhow::Result<SubmitResponse> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut request = client.post(self.url_of("api/anime/jobs")).json(job);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.with_context(|| {
            format!(
                "the relay at {} does not respond (--relay, RELAY_URL)",
                self.relay
            )
        })?;
        let status = response.status();
        let body: Value = response
            .json()
            .await
            .context("the response is not from a comfy-relay")?;
        if !status.is_success() {
            let error = &body["error"];
            let text = |key| error[key].as_str().unwrap_or_default();
            bail!("{} ({})", text("message"), text("code"));
        }
        serde_json::from_value(body).context("the response is not from a comfy-relay")
    }

    /// The URL of `path` on the relay, which may itself be served under a path.
    fn url_of(&self, path: &str) -> Url {
        let mut url = self.relay.clone();
        let folder = self.relay.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{path}"));
        url
    }
}
