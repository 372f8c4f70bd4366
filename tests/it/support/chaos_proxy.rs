//! A gate before a ComfyUI: all that the relay and the server tell each other goes through it, and is
//! cut, held up, spoilt or made up as a test's faults say.

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
use state::State;
pub(crate) use state::Told;

/// A gate, and the replayed ComfyUI behind it.
pub(crate) struct ChaosProxy {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

impl ChaosProxy {
    /// Before a ComfyUI that plays this recording.
    pub(crate) async fn before(recording: Arc<Recording>, faults: Vec<Fault>) -> Self {
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

    /// Posts a prompt to the ComfyUI behind it, as somebody else does, and tells the answer. None where the
    /// server was restarted and takes no more.
    pub(crate) async fn post_elsewhere(&self, body: &Value) -> Option<Value> {
        // Not while the server is being replaced.
        let _turn = self.state.turn.lock().await;
        if self.state.told().is_over {
            return None;
        }
        self.state.takes_prompt();
        let url = format!("{}/prompt", self.state.comfyui_url());
        Some(response(self.state.client.post(url).json(body)).await.1)
    }

    /// How many prompts the server has taken, those included whose answer did not go through.
    pub(crate) async fn taken(&self) -> usize {
        let _turn = self.state.turn.lock().await;
        self.state.told().taken
    }

    /// What has gone through so far.
    pub(crate) fn told(&self) -> Told {
        self.state.told()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Some(life) = state.life() else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let state = state.clone();
        connections.spawn(async move {
            let answer = service_fn(|request| http::answer(state.clone(), life.clone(), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // Fails where a fault breaks it off.
            let connection = connection.with_upgrades();
            let _ = life.run_until_cancelled(connection).await;
        });
    }
}
