//! A relay in this process, with the ComfyUI that it follows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comfy_relay::config::{ComfyConfig, RelayConfig, ServerConfig, StoreConfig};
use comfy_relay::recording::Recording;
use comfy_relay::relay::Relay;
use comfy_relay::replay::{PlaybackSpeed, Replay};
use comfy_relay::server::Server;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::recordings::{recording, replay, workflow};
use super::subscriber::Subscriber;

/// Nothing listens on port 1 of loopback.
pub(crate) const UNREACHABLE: &str = "http://127.0.0.1:1";

/// A relay and its server on loopback, and a replayed ComfyUI in most tests. All stop on drop.
pub(crate) struct TestRelay {
    comfyui: Option<Replay>,
    /// The relay itself, for what has no HTTP interface.
    pub(crate) handle: Relay,
    server: Server,
    client: Client,
}

/// What a test can set. The times are short, because the tests make happen what they guard against.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) comfy: ComfyConfig,
    pub(crate) server: ServerConfig,
    pub(crate) relay: RelayConfig,
    pub(crate) store: StoreConfig,
    pub(crate) speed: PlaybackSpeed,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            comfy: ComfyConfig {
                // Most tests count jobs, and play prompts of other clients beside them.
                discovery: false,
                discovery_grace: Duration::ZERO,
                min_backoff: Duration::from_millis(10),
                max_backoff: Duration::from_millis(100),
                poll_interval: Duration::from_millis(100),
                min_poll_pause: Duration::from_millis(10),
                // Longer than a busy machine delays a task.
                max_silence: Duration::from_secs(3),
                event_grace: Duration::from_secs(3),
                history_grace: Duration::from_secs(1),
                ..ComfyConfig::default()
            },
            server: ServerConfig::default(),
            relay: RelayConfig {
                workflows: PathBuf::from("comfy_workflows"),
                // No subscriber lags, so that all states can be compared.
                backlog: 4_096,
                // Recordings are played faster than real time; no state may be throttled away.
                publish_interval: Duration::ZERO,
                // Replayed servers wait for all prompts that were in the recorded queue.
                dispatch_depth: 1_000,
                ..RelayConfig::default()
            },
            store: StoreConfig::default(),
            speed: PlaybackSpeed::Fastest,
        }
    }
}

impl Settings {
    /// No heartbeat adds a state, for tests that count them.
    pub(crate) fn without_heartbeat() -> Self {
        let mut settings = Self::default();
        settings.relay.heartbeat = Duration::from_secs(3_600);
        settings
    }
}

impl From<ServerConfig> for Settings {
    fn from(server: ServerConfig) -> Self {
        Self {
            server,
            ..Self::default()
        }
    }
}

impl From<StoreConfig> for Settings {
    fn from(store: StoreConfig) -> Self {
        Self {
            store,
            ..Self::default()
        }
    }
}

impl From<PlaybackSpeed> for Settings {
    fn from(speed: PlaybackSpeed) -> Self {
        Self {
            speed,
            ..Self::default()
        }
    }
}

impl TestRelay {
    /// Connected to a ComfyUI that replays one recording.
    pub(crate) async fn replaying(name: &str) -> Self {
        Self::replaying_with(name, Settings::default()).await
    }

    /// Connected to a ComfyUI that replays one recording.
    pub(crate) async fn replaying_with(name: &str, settings: impl Into<Settings>) -> Self {
        Self::replaying_all(vec![recording(name).await], settings).await
    }

    /// Connected to a ComfyUI that replays several recordings.
    pub(crate) async fn replaying_all(
        recordings: Vec<Arc<Recording>>,
        settings: impl Into<Settings>,
    ) -> Self {
        let settings = settings.into();
        let comfyui = replay(recordings, settings.speed).await;
        let mut relay = Self::connected_to(&comfyui.url(), settings).await;
        relay.comfyui = Some(comfyui);
        relay
    }

    /// Connected to a ComfyUI at an address.
    pub(crate) async fn connected_to(url: &str, settings: impl Into<Settings>) -> Self {
        let relay = Self::start(url, settings).await;
        relay.connected().await;
        relay
    }

    /// Without any ComfyUI to connect to.
    pub(crate) async fn without_backend(settings: impl Into<Settings>) -> Self {
        Self::start(UNREACHABLE, settings).await
    }

    /// Follows a ComfyUI at an address, or several with commas between them, which need not answer yet.
    pub(crate) async fn start(url: &str, settings: impl Into<Settings>) -> Self {
        let mut settings = settings.into();
        settings.comfy.urls = url.split(',').map(|url| url.parse().unwrap()).collect();
        let relay = Relay::start(settings.relay, settings.comfy, &settings.store);
        let relay = relay.await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::start(listener, relay.clone(), settings.server).unwrap();
        Self {
            comfyui: None,
            handle: relay,
            server,
            client: client(),
        }
    }

    /// Serves ComfyUI's own API. Returns its URL.
    pub(crate) async fn serve_comfy(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = self.server.serve_comfy(listener).unwrap();
        format!("http://{address}")
    }

    /// Waits until the relay is connected to its ComfyUI.
    pub(crate) async fn connected(&self) {
        self.handle.connected().await;
    }

    /// Waits until a relay is connected to one of several ComfyUIs: this one, or another on its database.
    pub(crate) async fn connected_to_any(&self) {
        let is_connected = |server: &Value| server["connected"] == true;
        self.has_server(is_connected).await;
    }

    /// Waits until this relay is connected to one of several ComfyUIs.
    pub(crate) async fn follows_any(&self) {
        let is_own =
            |server: &Value| server["connected"] == true && server["followed_elsewhere"] != true;
        self.has_server(is_own).await;
    }

    /// Waits until one of its ComfyUIs is so.
    async fn has_server(&self, is_wanted: impl Fn(&Value) -> bool) {
        let has_one = |message: &Value| {
            let backends = message["backends"].as_array();
            backends.is_some_and(|all| all.iter().any(&is_wanted))
        };
        self.monitor().await.receive_until(has_one).await;
    }

    pub(crate) fn address(&self) -> String {
        self.server.address().to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Has ComfyUI play at another pace from now on.
    pub(crate) fn set_speed(&self, speed: PlaybackSpeed) {
        self.comfyui.as_ref().unwrap().set_speed(speed);
    }

    /// The URL of a WebSocket at a path.
    pub(crate) fn socket_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address())
    }

    pub(crate) fn comfyui_url(&self) -> String {
        self.comfyui.as_ref().unwrap().url()
    }

    /// A subscriber of a job, after its greeting. Its socket is closed at the end of the job, so that a test
    /// sees that nothing comes after the final state.
    pub(crate) async fn subscribe(&self, job: &str) -> Subscriber {
        let separator = if job.contains('?') { '&' } else { '?' };
        self.connect(&format!("/ws/{job}{separator}close=end"))
            .await
    }

    /// A subscriber of the monitor, after its greeting.
    pub(crate) async fn monitor(&self) -> Subscriber {
        self.connect("/ws/monitor").await
    }

    /// A WebSocket at a path, after its greeting.
    pub(crate) async fn connect(&self, path: &str) -> Subscriber {
        let mut subscriber = Subscriber::connect(self.socket_url(path)).await;
        subscriber.receive_greeting().await;
        subscriber
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url()))
    }

    /// A request with a bearer token.
    pub(crate) fn request_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(token)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        response(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        response(self.request(Method::POST, path).json(body)).await
    }

    /// A job as the HTTP API shows it.
    pub(crate) async fn job(&self, job: &str) -> (u16, Value) {
        self.get(&format!("/api/anime/jobs/{job}")).await
    }

    /// Submits the first prompt of a recording as a job, and returns its prompt id.
    pub(crate) async fn submit(&self, job: &str, recording: &str) -> String {
        self.submit_workflow(job, &workflow(recording).await).await
    }

    /// Submits a workflow as a job, and returns its prompt id.
    pub(crate) async fn submit_workflow(&self, job: &str, workflow: &Value) -> String {
        let body = json!({"job_id": job, "workflow": workflow});
        self.create_job(&body).await
    }

    /// Registers a prompt that ComfyUI has already as a job.
    pub(crate) async fn register(&self, job: &str, prompt_id: &str) {
        let body = json!({"job_id": job, "prompt_id": prompt_id});
        self.create_job(&body).await;
    }

    /// Submits the first prompt of a recording under an id of the relay's making, and returns the id. It need not be on
    /// the disk yet.
    pub(crate) async fn submit_unnamed(&self, recording: &str) -> String {
        let work = json!({"workflow": workflow(recording).await});
        let (status, created) = self.post("/api/anime/jobs", &work).await;
        assert!([201, 202].contains(&status), "{created}");
        created["job_id"].as_str().unwrap().to_owned()
    }

    async fn create_job(&self, body: &Value) -> String {
        let (status, created) = self.post("/api/anime/jobs", body).await;
        // 202 where the database is slow.
        assert!([201, 202].contains(&status), "{created}");
        created["prompt_id"].as_str().unwrap().to_owned()
    }

    /// Reports the progress of a job as a producer.
    pub(crate) async fn report(&self, job: &str, report: &Value) {
        let path = format!("/api/anime/jobs/{job}/progress");
        let (status, answer) = self.post(&path, report).await;
        assert_eq!(status, 202, "{answer}");
    }

    /// Posts to ComfyUI itself, as another client would.
    pub(crate) async fn post_to_comfyui(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.comfyui_url());
        response(self.client.post(url).json(body)).await
    }

    /// Reads from ComfyUI itself, as another client would.
    pub(crate) async fn get_from_comfyui(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.comfyui_url());
        response(self.client.get(url)).await
    }

    /// Starts to stop the server, as SIGTERM does.
    pub(crate) fn start_shutdown(&self) {
        self.server.start_shutdown();
    }

    /// Stops as SIGTERM does, and waits until everything is written.
    pub(crate) async fn stop(self) {
        self.start_shutdown();
        self.handle.shutdown().await;
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        self.server.start_shutdown();
        self.handle.start_shutdown();
    }
}

/// A client that reuses no connection which the relay may be closing, because nothing came over it for ten seconds.
fn client() -> Client {
    let client = Client::builder().no_proxy();
    let client = client.pool_idle_timeout(Duration::from_secs(5));
    client.build().unwrap()
}

/// The status and the JSON of a response; `null` for a body that is not JSON.
pub(crate) async fn response(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}
