//! A target of webhooks that answers what a test scripts, and keeps everything that it receives.

use std::net::SocketAddr;
use std::sync::Arc;

use comfy_relay::config::Secret;
use comfy_relay::webhook::SigningKeys;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::message_description::MessageDescription;
use super::wait::PATIENCE;

/// The secret of all tests.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the receiver answers to a message: by how many it has received before, and the message.
type Script = dyn Fn(usize, &ReceivedWebhook) -> Reaction + Send + Sync;

/// A status, and another header.
#[derive(Clone)]
pub(crate) struct Reaction {
    status: u16,
    header: Option<(&'static str, String)>,
}

impl Reaction {
    pub(crate) fn status(status: u16) -> Self {
        let header = None;
        Self { status, header }
    }

    pub(crate) fn with(self, name: &'static str, value: &str) -> Self {
        let header = Some((name, value.to_owned()));
        Self { header, ..self }
    }
}

/// A message as it came.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedWebhook {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl ReceivedWebhook {
    pub(crate) fn event(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    pub(crate) fn job(&self) -> &str {
        self.body["data"]["job_id"].as_str().unwrap_or_default()
    }
}

/// A target of webhooks. Each message must be signed, and documented.
pub(crate) struct WebhookReceiver {
    address: SocketAddr,
    received: watch::Sender<Vec<ReceivedWebhook>>,
    _serving: JoinSet<()>,
}

impl WebhookReceiver {
    /// One that accepts everything.
    pub(crate) async fn start() -> Self {
        Self::answering(|_, _| Reaction::status(204)).await
    }

    pub(crate) async fn answering(
        script: impl Fn(usize, &ReceivedWebhook) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = watch::Sender::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, received.clone(), Arc::new(script)));
        Self {
            address,
            received,
            _serving: serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook?key=hidden", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything that was received so far, in its order.
    pub(crate) fn received(&self) -> Vec<ReceivedWebhook> {
        self.received.borrow().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.received.borrow().len()
    }

    /// Waits until what was received is enough, and returns it.
    pub(crate) async fn wait_for(
        &self,
        what: &str,
        is_enough: impl Fn(&[ReceivedWebhook]) -> bool,
    ) -> Vec<ReceivedWebhook> {
        let mut received = self.received.subscribe();
        let waiting = timeout(PATIENCE, received.wait_for(|all| is_enough(all)));
        let is_met = waiting.await.is_ok_and(|met| met.is_ok());
        assert!(is_met, "{what}: {:?}", self.received());
        self.received()
    }

    pub(crate) async fn wait_for_count(&self, count: usize) -> Vec<ReceivedWebhook> {
        self.wait_for("so many messages", |all| all.len() >= count)
            .await
    }
}

async fn serve(
    listener: TcpListener,
    received: watch::Sender<Vec<ReceivedWebhook>>,
    script: Arc<Script>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (received, script) = (received.clone(), script.clone());
        connections.spawn(async move {
            let service = service_fn(|request| answer(&received, &*script, request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Fails if the relay is killed.
            let _ = connection.await;
        });
    }
}

async fn answer(
    received: &watch::Sender<Vec<ReceivedWebhook>>,
    script: &Script,
    request: Request<Incoming>,
) -> hyper::Result<Response<Empty<Bytes>>> {
    assert_eq!(request.headers()["content-type"], "application/json");
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    let (id, timestamp, signature) = (
        header("webhook-id"),
        header("webhook-timestamp"),
        header("webhook-signature"),
    );
    let bytes = request.into_body().collect().await?.to_bytes();
    let keys = SigningKeys::parse(&Secret::from(WEBHOOK_SECRET.to_owned())).unwrap();
    keys.verify(&id, &timestamp, &signature, &bytes, Timestamp::now())
        .unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap();
    let checked = MessageDescription::kept().check_sent("webhooks", &body);
    checked.unwrap();
    let message = ReceivedWebhook {
        body,
        id,
        timestamp,
        signature,
        text,
    };
    let mut reaction = Reaction::status(500);
    received.send_modify(|all| {
        reaction = script(all.len(), &message);
        all.push(message);
    });
    let mut response = Response::builder().status(reaction.status);
    if let Some((name, value)) = reaction.header {
        response = response.header(name, value);
    }
    Ok(response.body(Empty::new()).unwrap())
}
