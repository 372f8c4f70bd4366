use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A TCP line to a server that is never closed, but can stop to bring anything.
pub(crate) struct TcpProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    _forwarding: JoinSet<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// How often all that were open were frozen.
    freezes: usize,
    /// New connections are taken, and nothing is brought.
    is_held: bool,
}

impl TcpProxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::default();
        let mut forwarding = JoinSet::new();
        forwarding.spawn(accept(listener, target, state.subscribe()));
        Self {
            address,
            state,
            _forwarding: forwarding,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// No connection that is open now brings anything any more, either way, for ever.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| state.freezes += 1);
    }

    /// Whether new connections are held up.
    pub(crate) fn hold(&self, is_held: bool) {
        self.state.send_modify(|state| state.is_held = is_held);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let mut state = state.clone();
        connections.spawn(async move {
            let freezes = state.borrow().freezes;
            if state.wait_for(|state| !state.is_held).await.is_err() {
                return;
            }
            let far = TcpStream::connect(target).await.unwrap();
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            let there = bring(from_near, to_far, state.clone(), freezes);
            let back = bring(from_far, to_near, state, freezes);
            tokio::join!(there, back);
        });
    }
}

/// Brings what comes, until the line is frozen: then both ends are kept, and nothing is said.
async fn bring(
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
