//! An HTTP and WebSocket proxy in front of a ComfyUI, which disconnects, delays, corrupts and invents traffic
//! as a list of faults says.

pub(crate) mod fault;
mod http;
mod malformed_frames;
mod socket;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;

use comfy_relay::recording::Recording;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::test_relay::response;
use fault::Fault;
pub(crate) use state::Observed;
use state::State;

/// The proxy, with the replayed ComfyUI behind it.
pub(crate) struct ChaosProxy {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

impl ChaosProxy {
    /// A proxy in front of a ComfyUI that replays a recording.
    pub(crate) async fn start(recording: Arc<Recording>, faults: Vec<Fault>) -> Self {
        let state = Arc::new(State::new(recording, faults).await);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, state.clone()));
        Self {
            address,
            state,
            _serving: serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Posts a prompt to the ComfyUI behind it, as another client would, and returns the answer; `None` if the
    /// server has been restarted and accepts no more.
    pub(crate) async fn post_directly(&self, body: &Value) -> Option<Value> {
        // Not during a restart.
        let _guard = self.state.restart_lock.lock().await;
        if self.state.observed().accepts_no_more {
            return None;
        }
        self.state.add_prompt();
        let url = format!("{}/prompt", self.state.comfyui_url());
        Some(response(self.state.client.post(url).json(body)).await.1)
    }

    /// How many prompts ComfyUI has accepted, also if the relay has not received the answer.
    pub(crate) async fn accepted(&self) -> usize {
        let _guard = self.state.restart_lock.lock().await;
        self.state.observed().accepted
    }

    /// What the proxy has forwarded so far.
    pub(crate) fn observed(&self) -> Observed {
        self.state.observed()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut tasks = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Some(connections) = state.connections() else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let state = state.clone();
        tasks.spawn(async move {
            let answer =
                service_fn(|request| http::answer(state.clone(), connections.clone(), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // Fails if a fault disconnects it.
            let connection = connection.with_upgrades();
            let _ = connections.run_until_cancelled(connection).await;
        });
    }
}
