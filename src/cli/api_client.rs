//! The relay as the other commands see it: over HTTP and WebSocket, like any client.

use anyhow::{Context, anyhow, bail};
use hyper::header;
use serde::Deserialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use url::Url;

use crate::config::Secret;

/// Where the relay is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ApiClient {
    /// The relay's address
    #[arg(long, env = "RELAY_URL", default_value = "http://127.0.0.1:8328", value_parser = super::serve::comfyui_url, value_name = "URL")]
    relay: Url,

    /// The token, where the relay wants one; better in the environment, where nobody sees it in a list
    /// of processes
    #[arg(
        id = "relay_token",
        long = "token",
        env = "RELAY_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<Secret>,
}

/// What a relay answers to a job that it takes.
#[derive(Debug, Deserialize)]
pub(super) struct SubmitResponse {
    pub(super) job_id: String,
    pub(super) prompt_id: String,
    pub(super) backend: String,
    #[serde(default)]
    pub(super) ignored: Vec<Value>,
}

/// A message of a job's socket, as far as it is shown here.
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
        let mut url = self.at(&format!("ws/{job}"));
        // A change between these schemes is always allowed.
        let _ = url.set_scheme("ws");
        let mut request = url.as_str().into_client_request()?;
        if let Some(token) = &self.token {
            let value = format!("Bearer {}", token.expose()).parse();
            let value = value.map_err(|_| anyhow!("the token is none (--token, RELAY_TOKEN)"))?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// Hands in a job.
    pub(super) async fn submit(&self, job: &Value) -> anyhow::Result<SubmitResponse> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut request = client.post(self.at("api/anime/jobs")).json(job);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.with_context(|| {
            format!(
                "the relay at {} does not answer (--relay, RELAY_URL)",
                self.relay
            )
        })?;
        let status = response.status();
        let answer: Value = response
            .json()
            .await
            .context("the answer is not that of a comfy-relay")?;
        if !status.is_success() {
            let error = &answer["error"];
            let word = |key| error[key].as_str().unwrap_or_default();
            bail!("{} ({})", word("message"), word("code"));
        }
        serde_json::from_value(answer).context("the answer is not that of a comfy-relay")
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.relay.clone();
        let folder = self.relay.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{path}"));
        url
    }
}
