//! How connections come in.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::router;
use super::security::{LimitExceeded, Peer};
use super::state::ServerState;
use crate::session::HeldHandshake;

/// How long the listener rests after the machine refused it a connection, as it does when file
/// descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The longest head of a request that is read, in bytes. A token may have sixteen thousand.
const MAX_HEAD: usize = 64 << 10;

/// How many clients are told at a time why they are not served. More are turned away without a word.
const MAX_REFUSALS: usize = 256;

/// How long a client that is not served may take to ask, and to leave.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take to tell a client that its request took too long.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(1);

impl ServerState {
    /// Takes connections until the server is to stop.
    pub(super) async fn accept(self, listener: TcpListener) {
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        let mut is_refused = false;
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    if is_refused {
                        tracing::info!("connections are accepted again");
                        is_refused = false;
                    }
                    self.receive(stream, address, &refusals);
                }
                // Told once, and not ten times a second while it lasts.
                Err(error) => {
                    if !is_refused {
                        tracing::error!(%error, "no connection can be accepted; trying on");
                        is_refused = true;
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn receive(&self, stream: TcpStream, address: SocketAddr, refusals: &Arc<Semaphore>) {
        let ip = address.ip().to_canonical();
        let (permit, exceeded, refusal) = match self.security.connect(ip) {
            Ok(permit) => (permit, None, None),
            Err(exceeded) => {
                let Ok(permit) = refusals.clone().try_acquire_owned() else {
                    return;
                };
                (
                    self.security.no_permit(),
                    Some(exceeded),
                    Some(Arc::new(permit)),
                )
            }
        };
        let peer = Peer {
            address: ip,
            permit,
            _refusal: refusal,
        };
        self.tasks.spawn(self.clone().open(stream, peer, exceeded));
    }

    async fn open(self, stream: TcpStream, peer: Peer, exceeded: Option<LimitExceeded>) {
        // Messages are small and must not wait for each other. Who takes nothing for too long is gone:
        // the system gives the connection up, whatever is to be sent on it.
        let set = stream.set_nodelay(true).and_then(|()| {
            let patience = Some(self.config.connection_timeout);
            SockRef::from(&stream).set_tcp_user_timeout(patience)
        });
        if let Err(error) = set {
            return tracing::debug!(peer = %peer.address, %error, "the connection was gone at once");
        }
        let Some(tls) = &self.tls else {
            return self.serve(stream, peer, exceeded).await;
        };
        let handshake = timeout(self.config.handshake_timeout, tls.acceptor().accept(stream));
        match handshake.await {
            Ok(Ok(stream)) => self.serve(stream, peer, exceeded).await,
            Ok(Err(error)) => tracing::debug!(peer = %peer.address, %error, "no TLS handshake"),
            Err(_) => tracing::debug!(peer = %peer.address, "the TLS handshake took too long"),
        }
    }

    /// Serves one connection, encrypted or not.
    async fn serve<S>(self, stream: S, peer: Peer, exceeded: Option<LimitExceeded>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stop, done) = (self.stop.clone(), self.served.clone());
        let (address, head_timeout) = (peer.address, self.config.head_timeout);
        let service = service_fn(move |request| {
            let (state, peer) = (self.clone(), peer.clone());
            async move {
                Ok::<_, Infallible>(match exceeded {
                    None => router::answer(state, peer, request).await,
                    Some(exceeded) => router::reject(state, peer, exceeded, request).await,
                })
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(HeldHandshake::new(stream)), service)
            .with_upgrades();
        let refused = async {
            match exceeded {
                Some(_) => sleep(REFUSAL_TIMEOUT).await,
                None => std::future::pending().await,
            }
        };
        let served = tokio::select! {
            served = &mut connection => served,
            () = refused => return,
            () = stop.cancelled() => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        done.send_modify(|served| *served += 1);
        let Err(error) = served else {
            return;
        };
        tracing::debug!(peer = %address, %error, "a connection broke off");
        // Who has begun a request is told; who said nothing, as between two requests, is left.
        if error.is_timeout()
            && let Some(parts) = connection.into_parts()
            && !parts.read_buf.is_empty()
        {
            let (mut stream, _) = parts.io.into_inner().into_parts();
            let last_word = async {
                stream.write_all(too_slow().as_bytes()).await?;
                stream.shutdown().await
            };
            let _ = timeout(LAST_WORD_TIMEOUT, last_word).await;
        }
    }
}

/// What is sent to a client whose request does not come to an end: no request, so no answer of hyper's.
fn too_slow() -> String {
    let error = json!({
        "code": "head_timeout",
        "message": "the head of the request did not come in time",
    });
    let body = json!({"error": error}).to_string();
    format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
