//! A ComfyUI that answers each request with the request itself.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The header of an answer that holds the head of the request: method, target and headers.
pub(crate) const HEAD: &str = "x-request-head";

/// A ComfyUI that accepts sockets and uploads, and answers every other request with its own body, while that comes.
pub(crate) struct EchoComfy {
    pub(crate) address: SocketAddr,
    uploaded: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl EchoComfy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        let uploaded = Arc::<AtomicUsize>::default();
        serving.spawn(serve(listener, uploaded.clone()));
        Self {
            address,
            uploaded,
            _serving: serving,
        }
    }

    /// How many bytes were uploaded.
    pub(crate) fn uploaded(&self) -> usize {
        self.uploaded.load(Ordering::Acquire)
    }
}

async fn serve(listener: TcpListener, uploaded: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let uploaded = uploaded.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, uploaded.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Fails if the other side closes it.
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    uploaded: Arc<AtomicUsize>,
) -> Result<Response<EchoBody>, Infallible> {
    let head = head_of(&request).to_string();
    if request.uri().path().ends_with("/upload/image") {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            uploaded.fetch_add(frame.into_data().unwrap().len(), Ordering::AcqRel);
        }
        let answer = json!({"name": "a.png", "subfolder": "", "type": "input"});
        let answer = answer.to_string().into();
        let response = Response::builder().header(HEAD, head);
        return Ok(response.body(EchoBody::Text(answer)).unwrap());
    }
    if hyper_tungstenite::is_upgrade_request(&request) {
        let (response, socket) = hyper_tungstenite::upgrade(&mut request, None).unwrap();
        tokio::spawn(async move {
            let mut socket = socket.await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
        });
        return Ok(response.map(EchoBody::Text));
    }
    let response = Response::builder()
        .header(HEAD, head)
        .header("access-control-allow-origin", "*")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-kept", "1");
    Ok(response
        .body(EchoBody::Request(request.into_body()))
        .unwrap())
}

/// Method, target and headers.
fn head_of(request: &Request<Incoming>) -> Value {
    let headers = request.headers().iter();
    let headers: Map<String, Value> = headers
        .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
        .collect();
    json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": headers,
    })
}

/// The body of an answer.
enum EchoBody {
    Request(Incoming),
    Text(http_body_util::Full<hyper::body::Bytes>),
}

impl hyper::body::Body for EchoBody {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, hyper::Error>>> {
        match self.get_mut() {
            Self::Request(body) => std::pin::Pin::new(body).poll_frame(cx),
            Self::Text(body) => {
                let polled = std::pin::Pin::new(body).poll_frame(cx);
                polled.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
        }
    }
}
