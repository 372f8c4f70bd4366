use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comfy_relay::config::{ComfyConfig, RelayConfig, ServerConfig, StoreConfig};
use comfy_relay::recording::Recording;
use comfy_relay::relay::Relay;
use comfy_relay::replay::{PlaybackSpeed, Replay, ReplayOptions};
use comfy_relay::server::Server;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::net::TcpListener;
use url::Url;

use super::subscriber::{Heard, Subscriber};

/// A replayed ComfyUI, a relay, and its server, all on loopback. All stop when this is dropped.
pub(crate) struct TestRelay {
    comfyui: Option<Replay>,
    pub(crate) relay: Relay,
    server: Server,
    client: Client,
}

/// What can be set for a test. The times are short, because what they guard against is made to happen.
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
                min_backoff: Duration::from_millis(10),
                max_backoff: Duration::from_millis(100),
                poll_interval: Duration::from_millis(100),
                min_poll_pause: Duration::from_millis(10),
                // Longer than a busy machine holds up a task.
                max_silence: Duration::from_secs(3),
                event_grace: Duration::from_secs(3),
                history_grace: Duration::from_secs(1),
                ..ComfyConfig::default()
            },
            server: ServerConfig::default(),
            relay: RelayConfig {
                workflows: PathBuf::from("comfy_workflows"),
                // So that nobody lags, and all states can be compared.
                backlog: 4_096,
                // Recordings are played faster than anybody could read: all that is to be seen is seen.
                publish_interval: Duration::ZERO,
                ..RelayConfig::default()
            },
            store: StoreConfig::default(),
            speed: PlaybackSpeed::Fastest,
        }
    }
}

/// Reads a recording by its folder below `fixtures`.
pub(crate) async fn recording(name: &str) -> Arc<Recording> {
    let dir = Path::new("fixtures").join(name);
    let reading = tokio::task::spawn_blocking(move || Recording::read(&dir));
    Arc::new(reading.await.unwrap().unwrap())
}

/// All recordings, by their folders below `fixtures`.
pub(crate) fn names() -> Vec<String> {
    let folders = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let mut names: Vec<String> = folders(Path::new("fixtures"))
        .iter()
        .flat_map(|version| folders(version))
        .map(|dir| {
            dir.strip_prefix("fixtures")
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

impl TestRelay {
    /// With one recording, and a relay that is connected to it.
    pub(crate) async fn of(name: &str) -> Self {
        Self::with(vec![recording(name).await], Settings::default()).await
    }

    pub(crate) async fn with(recordings: Vec<Arc<Recording>>, settings: Settings) -> Self {
        let options = ReplayOptions {
            speed: settings.speed,
            repeat: true,
            ..ReplayOptions::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let comfyui = Replay::start(listener, recordings, options);
        let url = comfyui.url();
        let world = Self::at(&url, Some(comfyui), settings).await;
        world.relay.connected().await;
        world
    }

    /// With a relay that finds nobody at its ComfyUI's address.
    pub(crate) async fn without_comfyui(url: &str, settings: Settings) -> Self {
        Self::at(url, None, settings).await
    }

    async fn at(url: &str, comfyui: Option<Replay>, mut settings: Settings) -> Self {
        settings.comfy.urls = vec![Url::parse(url).unwrap()];
        let relay = Relay::start(settings.relay, settings.comfy, &settings.store);
        let relay = relay.await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::start(listener, relay.clone(), settings.server).unwrap();
        Self {
            comfyui,
            relay,
            server,
            client: Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub(crate) fn address(&self) -> String {
        self.server.address().to_string()
    }

    pub(crate) fn comfyui_url(&self) -> String {
        self.comfyui.as_ref().unwrap().url()
    }

    /// A subscriber at a path such as `/ws/job`, which has been greeted.
    pub(crate) async fn subscribe(&self, path: &str) -> Subscriber {
        let mut subscriber = Subscriber::connect(&format!("ws://{}{path}", self.address())).await;
        match subscriber.hear().await {
            Heard::Text(greeting) => assert_eq!(greeting["type"], "connection"),
            other => panic!("no greeting, but {other:?}"),
        }
        subscriber
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address()))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// Posts a prompt to ComfyUI itself, as another client would.
    pub(crate) async fn post_elsewhere(&self, body: &Value) -> (u16, Value) {
        let url = format!("{}/prompt", self.comfyui_url());
        answer(self.client.post(url).json(body)).await
    }

    /// Asks the server to stop, as SIGTERM does.
    pub(crate) fn start_shutdown(&self) {
        self.server.start_shutdown();
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        self.server.start_shutdown();
        self.relay.start_shutdown();
    }
}

/// Status and JSON of an answer; `null` for a body that is none.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}
