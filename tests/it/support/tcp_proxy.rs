use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A TCP line to a server, which can be cut and mended.
pub(crate) struct TcpProxy {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
    _forwarding: JoinSet<()>,
}

impl TcpProxy {
    /// A line to the server at `target`, cut for the time being.
    pub(crate) async fn cut_from(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_whole = watch::Sender::new(false);
        let mut forwarding = JoinSet::new();
        forwarding.spawn(forward(listener, target, is_whole.subscribe()));
        Self {
            address,
            is_whole,
            _forwarding: forwarding,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn mend(&self) {
        self.is_whole.send_replace(true);
    }

    /// Ends every connection, and every new one at once.
    pub(crate) fn cut(&self) {
        self.is_whole.send_replace(false);
    }
}

async fn forward(listener: TcpListener, target: SocketAddr, is_whole: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut is_whole = is_whole.clone();
        connections.spawn(async move {
            if !*is_whole.borrow() {
                return;
            }
            let Ok(mut far) = TcpStream::connect(target).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = is_whole.wait_for(|whole| !whole) => {}
            }
        });
    }
}
