//! [`ApiClient`]: the other commands use the relay over HTTP and WebSocket, as any client does.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use super::exit_code::WrongSetting;
use crate::config::{Secret, ServerUrl, ServerUrlParser};
use crate::connector::{self, Connector, WebSocket};

/// The setting that helps if a relay's certificate is refused.
pub(super) const CA_OPTION: &str = "--ca-file, RELAY_CA_FILE";

/// How to reach a relay.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RelayOptions {
    /// The relay's address
    #[arg(
        long,
        env = "RELAY_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8328",
        value_parser = ServerUrlParser::RELAY,
        value_name = "URL"
    )]
    relay: ServerUrl,

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

    /// A PEM file with certificate authorities that may sign the relay's certificate, in addition to the
    /// system's
    #[arg(long, env = "RELAY_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A client of a relay's API.
#[derive(Debug, Clone)]
pub(super) struct ApiClient {
    base: Url,
    connector: Connector,
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
    pub(super) timestamp: Option<Timestamp>,
    #[serde(default)]
    pub(super) estimated_remaining: Option<u64>,
    /// The moment in which `estimated_remaining` ends, by the relay's clock.
    #[serde(default)]
    pub(super) estimated_completion: Option<Timestamp>,
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) output_path: Option<String>,
    #[serde(default)]
    pub(super) code: Option<String>,
}

impl RelayOptions {
    /// A client of the relay. An unusable CA file is a [`WrongSetting`].
    pub(super) fn client(&self) -> anyhow::Result<ApiClient> {
        let url = self.relay.url();
        let connector = Connector::new(self.ca_file.as_deref(), url.scheme() == "https")
            .with_context(|| format!("cannot use the relay's CA file ({CA_OPTION})"))
            .map_err(WrongSetting)?;
        let token = self
            .token
            .as_ref()
            .map(|token| connector::bearer(token.expose()));
        let token = token
            .transpose()
            .context("the token cannot be sent in a header (--token, RELAY_TOKEN)")?;
        Ok(ApiClient::new(
            url.clone(),
            connector.with_authorization(token),
        ))
    }
}

impl ApiClient {
    pub(super) fn new(base: Url, connector: Connector) -> Self {
        Self { base, connector }
    }

    /// Opens a job's socket.
    pub(super) async fn socket(&self, job: &str) -> tungstenite::Result<WebSocket> {
        let url = self.url_of(&format!("ws/{job}"));
        self.connector
            .websocket(&url, WebSocketConfig::default())
            .await
    }

    /// Submits a job.
    pub(super) async fn submit(&self, job: &Value) -> anyhow::Result<SubmitResponse> {
        let client = self.connector.http_client().build()?;
        let request = client.post(self.url_of("api/anime/jobs")).json(job);
        let response = request.send().await.map_err(|error| {
            let base = &self.base;
            match connector::explain_certificate(&error, CA_OPTION) {
                Some(why) => anyhow!("cannot connect to the relay at {base}: {why}"),
                None => anyhow!(error).context(format!(
                    "the relay at {base} does not respond (--relay, RELAY_URL)"
                )),
            }
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
        let mut url = self.base.clone();
        let folder = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{path}"));
        url
    }
}
