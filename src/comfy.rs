//! A client of one ComfyUI server: its WebSocket and its HTTP API.
//!
//! Knows nothing of the relay's jobs or of subscribers. The wire format is that of ComfyUI's `server.py` and
//! `execution.py`, versions 0.0.8 to 0.38.

mod api_key;
mod choices;
mod error;
mod history;
mod image_header;
mod known_types;
mod message;
mod node_definition;
mod node_text;
mod object_info;
mod output;
mod picture;
mod preview;
mod prompt_options;
mod queue;
mod rejection;
mod rest;
mod socket;
mod timings;
mod validation;
mod video_header;

pub use api_key::ApiKeyError;
pub use history::HistoryEntry;
pub use message::{EventKind, FrameHead, Message};
pub use node_text::{NodeSign, NodeText};
pub use object_info::{InputKind, NodeClasses};
pub use picture::Picture;
pub use preview::{PreviewImage, plain_preview};
pub use prompt_options::{PreviewMethod, PromptOptions, QueuePlace, StoredOptions};
pub use queue::{Queue, QueueEntry, QueuePosition};
pub use rejection::{Rejection, WrongInput, refused_outputs};
pub use rest::{Cancellation, Rest, RestError, SubmitError, Submitted};
pub use socket::{Incoming, Socket};
pub use timings::PromptTiming;
pub use validation::{Missing, Problem, ProblemKind, Validation, Verdict};

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::Notify;
use url::Url;
use uuid::Uuid;

use crate::config::{ComfyConfig, ServerUrl};
use crate::connector::{self, CaFileError, Connector, Networks};
use api_key::ApiKey;

/// Why no client for a configured ComfyUI server can be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The CA file cannot be used.
    #[error("cannot use ComfyUI's CA file (--comfyui-ca-file, COMFYUI_CA_FILE)")]
    CaFile(#[from] CaFileError),
    /// The token holds characters that no HTTP header can.
    #[error("ComfyUI's token holds characters that no header can (--comfyui-token, COMFYUI_TOKEN)")]
    Token,
    /// The file with the key of partner nodes cannot be used.
    #[error(
        "cannot use the file of the API key of partner nodes (--comfy-api-key-file, COMFY_API_KEY_FILE)"
    )]
    ApiKey(#[from] ApiKeyError),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Http(#[from] reqwest::Error),
}

/// One configured ComfyUI server: its name, its address, our client id, and how to connect to it.
///
/// Its HTTP API is [`ComfyClient::rest`]; its events come over [`ComfyClient::socket`].
#[derive(Debug, Clone)]
pub struct ComfyClient {
    name: String,
    url: Url,
    client_id: String,
    connector: Connector,
    api_key: Option<Arc<ApiKey>>,
    rest: Rest,
}

impl ComfyClient {
    /// A client for each server of `config`, in the same order. Nothing is connected yet.
    pub fn all(config: &ComfyConfig) -> Result<Vec<Self>, SetupError> {
        let is_encrypted = config.urls.iter().any(|url| url.url().scheme() == "https");
        let tls = Connector::new(config.connection.ca_file.as_deref(), is_encrypted)?;
        let api_key = ApiKey::new(config)?.map(Arc::new);
        let clients = config.urls.iter().map(|url| {
            let client = Self::new(url, &tls, config)?;
            Ok(Self {
                api_key: api_key.clone(),
                ..client
            })
        });
        clients.collect()
    }

    /// A client for a server that is added under this name while the relay runs. It connects to addresses in these networks alone.
    pub fn added(
        name: &str,
        server: &ServerUrl,
        config: &ComfyConfig,
        networks: Networks,
    ) -> Result<Self, SetupError> {
        let is_encrypted = server.url().scheme() == "https";
        let tls = Connector::new(config.connection.ca_file.as_deref(), is_encrypted)?;
        let client = Self::new(server, &tls.within(networks), config)?;
        Ok(Self {
            name: name.to_owned(),
            api_key: ApiKey::new(config)?.map(Arc::new),
            ..client
        })
    }

    fn new(server: &ServerUrl, tls: &Connector, config: &ComfyConfig) -> Result<Self, SetupError> {
        // Credentials in a URL are meant for that server, the token for all others.
        let authorization = match (server.credentials(), &config.connection.token) {
            (Some(credentials), _) => Some(connector::basic(credentials.expose())),
            (None, Some(token)) => Some(connector::bearer(token.expose())),
            (None, None) => None,
        };
        let authorization = authorization.transpose().map_err(|_| SetupError::Token)?;
        let connector = tls.clone().with_authorization(authorization);
        let url = server.url().clone();
        Ok(Self {
            name: server.name(),
            // The events of our prompts go to this id: it stays the same across reconnects.
            client_id: Uuid::new_v4().simple().to_string(),
            rest: Rest::new(url.clone(), &connector, config.response_timeout)?,
            connector,
            api_key: None,
            url,
        })
    }

    /// The same server, with the client id `client_id`.
    pub fn with_client_id(mut self, client_id: String) -> Self {
        self.client_id = client_id;
        self
    }

    /// What the server is called in messages: host, port and path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's URL without credentials and without a slash at its end.
    pub fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The server's URL without credentials.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The client id of our socket and of our prompts.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Opens connections to the server, with its credentials.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The HTTP API.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Submits a graph. Its events go to our socket; `prompt_id` is a proposal. The configured key for partner nodes is
    /// added to `options` that have none.
    pub async fn submit(
        &self,
        graph: &Map<String, Value>,
        prompt_id: &str,
        mut options: PromptOptions,
    ) -> Result<Submitted, SubmitError> {
        if let Some(api_key) = self.api_key.as_ref().filter(|_| !options.has_credentials()) {
            options = options.with_api_key(api_key.read().await.expose());
        }
        let client_id = &self.client_id;
        self.rest
            .submit(graph, client_id, prompt_id, &options)
            .await
    }

    /// The socket to the server, not yet connected. There must never be two with one client id.
    /// `dial_now` cuts the pause before the next attempt to connect short.
    pub fn socket(&self, config: &ComfyConfig, dial_now: Arc<Notify>) -> Socket {
        let connector = self.connector.clone();
        Socket::new(&self.url, &self.client_id, connector, config, dial_now)
    }
}
