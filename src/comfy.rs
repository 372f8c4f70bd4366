//! One ComfyUI server, as a client sees it: its WebSocket and its HTTP API.
//!
//! Deliberately absent: what a job is to the relay, and who waits for it.

mod error;
mod history;
mod message;
mod output;
mod preview;
mod python_json;
mod queue;
mod rejection;
mod rest;
mod socket;
mod timings;

pub use history::HistoryEntry;
pub use message::Message;
pub use preview::PreviewImage;
pub use queue::{Queue, QueueEntry, QueuePosition};
pub use rejection::{Rejection, WrongInput};
pub use rest::{Cancellation, Rest, RestError, SubmitError, Submitted};
pub use socket::{Incoming, Socket};
pub use timings::PromptTiming;

use url::Url;
use uuid::Uuid;

use crate::config::ComfyConfig;

/// A ComfyUI server that is configured: its name, its address, and who we are to it.
///
/// Its HTTP calls are those of [`Rest`]; its events come over [`ComfyClient::socket`].
#[derive(Debug, Clone)]
pub struct ComfyClient {
    name: String,
    url: Url,
    client_id: String,
    rest: Rest,
}

impl ComfyClient {
    /// The server at `url`, which is dialled as `config` says. It need not run yet.
    pub fn new(url: Url, config: &ComfyConfig) -> reqwest::Result<Self> {
        let port = url
            .port()
            .map_or_else(String::new, |port| format!(":{port}"));
        let path = url.path().trim_end_matches('/');
        Ok(Self {
            name: format!("{}{port}{path}", url.host_str().unwrap_or_default()),
            // Prompts in flight are ours by this id: it stays the same over reconnects.
            client_id: Uuid::new_v4().simple().to_string(),
            rest: Rest::new(url.clone(), config.response_timeout)?,
            url,
        })
    }

    /// The same server, where we are known as `client_id`.
    pub fn with_client_id(mut self, client_id: String) -> Self {
        self.client_id = client_id;
        self
    }

    /// What the server is called in messages: host, port and path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's address, without user and password.
    pub fn address(&self) -> String {
        rest::address(&self.url)
    }

    /// The client id of our socket and of our prompts.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The HTTP API.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// The one socket to the server. Never open two.
    pub fn socket(&self, config: &ComfyConfig) -> Socket {
        Socket::new(&self.url, &self.client_id, config)
    }
}
