//! A TCP proxy in front of a server, for faults below HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards TCP connections to a server, and can cut, hold or freeze them.
pub(crate) struct TcpProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    /// How many connections were closed at once.
    refused: Arc<AtomicUsize>,
    _forwarding: JoinSet<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// Open connections are closed, new ones at once.
    is_cut: bool,
    /// New connections are accepted and forward nothing.
    is_held: bool,
    /// How often the connections of the moment were frozen.
    freezes: usize,
}

impl TcpProxy {
    /// A proxy that forwards to the server at `target`.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::default();
        let refused = Arc::new(AtomicUsize::new(0));
        let mut forwarding = JoinSet::new();
        forwarding.spawn(accept(listener, target, state.subscribe(), refused.clone()));
        Self {
            address,
            state,
            refused,
            _forwarding: forwarding,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes every connection, and every new one at once.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.is_cut = true);
    }

    /// Forwards new connections again after [`Self::cut`].
    pub(crate) fn restore(&self) {
        self.state.send_modify(|state| state.is_cut = false);
    }

    /// How many connections were closed at once since the start, because it was cut.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Leaves the connections of this moment open for ever, forwarding nothing in either direction.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| state.freezes += 1);
    }

    /// Whether new connections are accepted without being forwarded.
    pub(crate) fn hold(&self, is_held: bool) {
        self.state.send_modify(|state| state.is_held = is_held);
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<State>,
    refused: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        connections.spawn(forward(client, target, state.clone(), refused.clone()));
    }
}

async fn forward(
    client: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<State>,
    refused: Arc<AtomicUsize>,
) {
    let freezes = state.borrow().freezes;
    let is_cut = match state.wait_for(|state| state.is_cut || !state.is_held).await {
        Ok(state) => state.is_cut,
        Err(_) => return,
    };
    if is_cut {
        refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let upstream = copy(from_client, to_server, state.clone(), freezes);
    let downstream = copy(from_server, to_client, state.clone(), freezes);
    tokio::select! {
        _ = async { tokio::join!(upstream, downstream) } => {}
        _ = state.wait_for(|state| state.is_cut) => {}
    }
}

/// Copies until the end of the stream; once frozen, never returns and keeps both ends open.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    freezes: usize,
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = tokio::select! {
            biased;
            _ = state.wait_for(|state| state.freezes > freezes) => None,
            read = from.read(&mut buffer) => Some(read),
        };
        let Some(read) = read else {
            return std::future::pending().await;
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
