//! [`ApiClient`]: the other commands use the relay over HTTP and WebSocket, as any client does.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use super::exit_code::WrongSetting;
use crate::cli::output::printable_line;
use crate::config::{Secret, ServerUrl, parse_relay_url};
use crate::connector::{self, Connector, WebSocket};
use crate::job::Status;

/// The setting that helps if a relay's certificate is refused.
pub(super) const CA_OPTION: &str = "--ca-file, RELAY_CA_FILE";

/// The setting that helps if a relay asks for a token.
const TOKEN_OPTION: &str = "--token, RELAY_TOKEN";

/// The path of the jobs.
pub(super) const JOBS: &str = "api/anime/jobs";

/// How to reach a relay.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RelayOptions {
    /// The relay's address
    #[arg(
        long,
        env = "RELAY_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8328",
        value_parser = parse_relay_url,
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

/// The fields of a job's state that are shown: of a message on a socket, or of an answer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct JobMessage {
    #[serde(default)]
    pub(super) r#type: String,
    #[serde(default)]
    pub(super) job_id: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) progress: u64,
    #[serde(default)]
    pub(super) message: String,
    /// The name of the ComfyUI server.
    #[serde(default)]
    pub(super) backend: Option<String>,
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
    /// The 10th and the 90th percentile of `estimated_remaining`.
    #[serde(default)]
    pub(super) estimated_low: Option<u64>,
    #[serde(default)]
    pub(super) estimated_high: Option<u64>,
    /// The node that runs.
    #[serde(default)]
    pub(super) node: Option<NodeMessage>,
    /// For how many seconds the relay waits for a job that nobody has registered.
    #[serde(default)]
    pub(super) job_wait: Option<u64>,
}

/// The node that runs, with its own progress.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct NodeMessage {
    pub(super) title: Option<String>,
    pub(super) class_type: Option<String>,
    pub(super) step: Option<f64>,
    pub(super) steps: Option<f64>,
}

/// The relay refuses a request.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
pub(super) struct ApiRefusal {
    status: StatusCode,
    /// A stable word.
    pub(super) code: String,
    message: String,
    /// What it says of each of several things.
    pub(super) details: Value,
}

impl ApiRefusal {
    /// Whether what is asked for does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// Whether the same request may be answered later.
    pub(super) fn passes(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }
}

impl JobMessage {
    /// The message with texts that can be shown: names of files and nodes may hold any character.
    pub(super) fn printable(mut self) -> Self {
        self.message = printable_line(&self.message);
        let names = self
            .node
            .as_mut()
            .map(|node| [&mut node.title, &mut node.class_type]);
        let texts = [&mut self.error, &mut self.output_path, &mut self.backend];
        for text in texts.into_iter().chain(names.into_iter().flatten()) {
            *text = text.take().map(|text| printable_line(&text));
        }
        self
    }

    /// How the job has ended, if it has.
    pub(super) fn outcome(&self) -> Option<Status> {
        Status::from_word(&self.status).filter(|status| status.is_final())
    }
}

impl RelayOptions {
    /// A client of the relay. An unusable CA file or token is a [`WrongSetting`].
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
            .with_context(|| format!("the token cannot be sent in a header ({TOKEN_OPTION})"))
            .map_err(WrongSetting)?;
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

    /// The relay's address.
    pub(super) fn address(&self) -> &Url {
        &self.base
    }

    /// Opens the socket at a path below `ws/`: that of a job, or of many.
    pub(super) async fn socket(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> tungstenite::Result<WebSocket> {
        let url = self.url_of(&format!("ws/{path}"), query);
        self.connector
            .websocket(&url, WebSocketConfig::default())
            .await
    }

    /// Submits a job.
    pub(super) async fn submit(&self, job: &Value) -> anyhow::Result<SubmitResponse> {
        let body = self.send(Method::POST, JOBS, &[], Some(job)).await?;
        serde_json::from_value(body).context("the relay's answer to a submission is incomplete")
    }

    /// Asks the relay for what is at a path.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        self.send(Method::GET, path, query, None).await
    }

    /// Asks the relay what a path stands for of `body`.
    pub(super) async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    /// Sends the relay bytes, as they are.
    pub(super) async fn post_bytes(&self, path: &str, bytes: Vec<u8>) -> anyhow::Result<Value> {
        let with_bytes = |request: RequestBuilder| request.body(bytes);
        self.send_with(Method::POST, path, &[], with_bytes).await
    }

    /// Asks the relay to do what a path stands for.
    pub(super) async fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::POST, path, &[], None).await
    }

    /// Asks the relay to remove what a path stands for.
    pub(super) async fn delete(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<Value> {
        self.send(Method::DELETE, path, query, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let with_body = |request: RequestBuilder| match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.send_with(method, path, query, with_body).await
    }

    async fn send_with(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        with_body: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Value> {
        let client = self.connector.http_client().build()?;
        let request = with_body(client.request(method, self.url_of(path, query)));
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
        let body: Value = response.json().await.unwrap_or_default();
        if let (Some(code), Some(message)) = (
            body["error"]["code"].as_str(),
            body["error"]["message"].as_str(),
        ) {
            let code = code.to_owned();
            let message = explain_status(&printable_line(message), status);
            let details = body["error"]["details"].clone();
            return Err(ApiRefusal {
                status,
                code,
                message,
                details,
            }
            .into());
        }
        if status.is_success() && body.is_object() {
            return Ok(body);
        }
        let answer = format!(
            "the server at {} answers {status}, and is not a comfy-relay",
            self.base
        );
        Err(anyhow!(explain_status(&answer, status)))
    }

    /// The URL of `path` on the relay, which may itself be served under a path.
    fn url_of(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        let folder = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

/// Why a request is refused, with the setting that helps if a token is needed.
pub(super) fn explain_status(why: &str, status: StatusCode) -> String {
    if status == StatusCode::UNAUTHORIZED && !why.contains("RELAY_TOKEN") {
        format!("{why} ({TOKEN_OPTION})")
    } else {
        why.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::relay_socket::SocketEnd;

    #[test]
    fn a_refusal_that_passes_loses_the_connection_and_another_one_ends_it() {
        for (status, passes) in [
            (503, true),
            (500, true),
            (429, true),
            (400, false),
            (403, false),
            (404, false),
        ] {
            let refusal = ApiRefusal {
                status: StatusCode::from_u16(status).unwrap(),
                code: "code".to_owned(),
                message: "a reason".to_owned(),
                details: Value::Null,
            };
            assert_eq!(refusal.is_not_found(), status == 404);
            let end = SocketEnd::of_request(refusal.into());
            assert_eq!(matches!(end, Ok(SocketEnd::Lost(_))), passes, "{status}");
        }
        let unreachable = SocketEnd::of_request(anyhow!("nothing listens there"));
        assert!(matches!(unreachable, Ok(SocketEnd::Lost(_))));
    }
}
