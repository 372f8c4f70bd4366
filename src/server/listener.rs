//! Accepts connections, performs the TLS handshake, and serves HTTP on them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::answer::answer;
use super::error::ApiError;
use super::security::{LimitExceeded, Peer};
use super::state::ServerState;
use crate::session::HeldHandshake;

/// How long the listener pauses after a failed accept, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The longest head of a request, in bytes. A token may have 16 KiB.
const MAX_HEAD: usize = 64 << 10;

/// How many connections over a limit are answered at a time. Further ones are closed without an answer.
const MAX_REJECTIONS: usize = 256;

/// How long a connection over a limit stays open for its request and the answer.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How long sending the answer 408 may take.
const HEAD_TIMEOUT_ANSWER: Duration = Duration::from_secs(1);

impl ServerState {
    /// Accepts connections until the server is to stop. They share one state: a copy for each would cost more than
    /// what is read of it.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let rejections = Arc::new(Semaphore::new(MAX_REJECTIONS));
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    if is_failing {
                        tracing::info!("accepting connections again");
                        is_failing = false;
                    }
                    self.admit(stream, address, &rejections);
                }
                Err(error) => {
                    // Once, and not ten times a second.
                    if !is_failing {
                        tracing::error!(%error, "cannot accept connections; trying again");
                        is_failing = true;
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Spawns the task of a connection, unless there are too many to answer even with a refusal.
    fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        rejections: &Arc<Semaphore>,
    ) {
        let address = address.ip().to_canonical();
        let (peer, exceeded) = match self.security.connect(address) {
            Ok(permit) => (Peer::new(address, permit), None),
            Err(exceeded) => {
                let Ok(rejection) = rejections.clone().try_acquire_owned() else {
                    return;
                };
                let permit = self.security.no_permit();
                (Peer::rejected(address, permit, rejection), Some(exceeded))
            }
        };
        self.tasks.spawn(self.clone().open(stream, peer, exceeded));
    }

    async fn open(self: Arc<Self>, stream: TcpStream, peer: Peer, exceeded: Option<LimitExceeded>) {
        // Messages are small and must not wait for each other (TCP_NODELAY).
        let configured = stream
            .set_nodelay(true)
            .and_then(|()| limit_silence(&stream, self.config.connection_timeout));
        if let Err(error) = configured {
            return tracing::debug!(peer = %peer.address, %error, "the connection was closed at once");
        }
        let Some(tls) = &self.tls else {
            return self.serve(stream, peer, exceeded).await;
        };
        let handshake = timeout(self.config.handshake_timeout, tls.acceptor().accept(stream));
        match handshake.await {
            Ok(Ok(stream)) => self.serve(stream, peer, exceeded).await,
            Ok(Err(error)) => {
                tracing::debug!(peer = %peer.address, %error, "the TLS handshake failed")
            }
            Err(_) => tracing::debug!(peer = %peer.address, "the TLS handshake took too long"),
        }
    }

    /// Serves one connection, encrypted or not.
    async fn serve<S>(self: Arc<Self>, stream: S, peer: Peer, exceeded: Option<LimitExceeded>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stop = self.stop.clone();
        let (address, head_timeout) = (peer.address, self.config.head_timeout);
        let service = service_fn(move |request| {
            let (state, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, Infallible>(answer(state, peer, exceeded, request).await) }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(HeldHandshake::new(stream)), service)
            .with_upgrades();
        let rejected = async {
            match exceeded {
                Some(_) => sleep(REJECTION_TIMEOUT).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            result = &mut connection => result,
            () = rejected => return,
            () = stop.cancelled() => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        let Err(error) = result else {
            return;
        };
        tracing::debug!(peer = %address, %error, "a connection failed");
        // A client that has begun a request gets an answer. Between two requests there is none to answer.
        if error.is_timeout()
            && let Some(parts) = connection.into_parts()
            && !parts.read_buf.is_empty()
        {
            let (stream, _) = parts.io.into_inner().into_parts();
            let _ = timeout(HEAD_TIMEOUT_ANSWER, answer_head_timeout(stream)).await;
        }
    }
}

/// Answers 408 to a request whose head is incomplete, which hyper does not answer.
async fn answer_head_timeout(mut stream: impl AsyncWrite + Unpin) -> anyhow::Result<()> {
    let error = ApiError::new(
        StatusCode::REQUEST_TIMEOUT,
        "head_timeout",
        "the head of the request did not come in time",
    );
    let body = serde_json::to_string(&error.body())?;
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// If the peer acknowledges nothing for `longest`, the kernel drops the connection (TCP_USER_TIMEOUT).
#[cfg(target_os = "linux")]
fn limit_silence(stream: &TcpStream, longest: Duration) -> std::io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(longest))
}

/// Other systems have no such limit: pings find a peer that is gone.
#[cfg(not(target_os = "linux"))]
fn limit_silence(_stream: &TcpStream, _longest: Duration) -> std::io::Result<()> {
    Ok(())
}
