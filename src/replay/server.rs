//! The served edge: accepts connections and routes requests as ComfyUI does, each route also under `/api`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::picture::PICTURE;
use super::socket;
use super::stage::Stage;
use super::wording::dumps;

/// The largest body of a request, in bytes: graphs with pictures in them are large.
pub(super) const MAX_BODY: usize = 64 << 20;

/// How long a failed accept (no file descriptors, most likely) keeps us from the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until told to stop. While the played server is down, they are dropped at once.
pub(super) async fn accept(
    listener: TcpListener,
    stage: Arc<Stage>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        if let Some(life) = stage.life() {
            let _ = stream.set_nodelay(true);
            let host = Host {
                stage: stage.clone(),
                tasks: tasks.clone(),
                life,
                stop: stop.clone(),
            };
            tasks.spawn(host.serve(stream));
        }
    }
}

/// What a connection needs to answer.
#[derive(Clone)]
struct Host {
    stage: Arc<Stage>,
    tasks: TaskTracker,
    life: CancellationToken,
    stop: CancellationToken,
}

impl Host {
    async fn serve(self, stream: TcpStream) {
        let host = self.clone();
        let service = hyper::service::service_fn(move |request| {
            let host = host.clone();
            async move { Ok::<_, Infallible>(host.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        self.while_alive(async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        })
        .await;
    }

    /// Does `work` until the played server dies, or we stop.
    async fn while_alive(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = self.life.cancelled() => {}
            () = self.stop.cancelled() => {}
            () = work => {}
        }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let path = path
            .strip_prefix("/api")
            .filter(|rest| rest.starts_with('/'))
            .unwrap_or(&path);
        let query = request.uri().query().unwrap_or_default().to_owned();
        let asked = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(key, value)| {
                (key == name && !value.is_empty()).then(|| value.into_owned())
            })
        };
        let (get, post) = (
            request.method() == Method::GET,
            request.method() == Method::POST,
        );
        match path {
            "/ws" if get => return self.upgrade(&mut request, asked("clientId")),
            "/queue" if get => return answer(200, &self.stage.queue()),
            "/prompt" if get => return answer(200, &self.stage.exec_info()),
            "/history" if get => {
                let count = asked("max_items").and_then(|count| count.parse().ok());
                return answer(200, &self.stage.recent_history(count.unwrap_or(usize::MAX)));
            }
            "/system_stats" if get => return answer(200, &self.stage.system_stats()),
            "/object_info" if get => return answer(200, &json!({})),
            "/view" if get && asked("filename").is_some() => return picture(),
            "/view" if get => return text(StatusCode::NOT_FOUND, ""),
            "/prompt" | "/queue" | "/history" | "/interrupt" if post => {}
            "/ws" | "/queue" | "/prompt" | "/history" | "/system_stats" | "/object_info"
            | "/view" | "/interrupt" => {
                return text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
            }
            _ => {
                let id = path
                    .strip_prefix("/history/")
                    .filter(|id| !id.is_empty() && !id.contains('/'));
                return match id.map(|id| percent_decode_str(id).decode_utf8_lossy()) {
                    Some(id) if get => answer(200, &self.stage.history(&id)),
                    Some(_) => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
                    None => text(StatusCode::NOT_FOUND, "404: Not Found"),
                };
            }
        }
        let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                "413: Request Entity Too Large",
            );
        };
        self.deed(path, &body.to_bytes())
    }

    /// A POST with all its body.
    fn deed(&self, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
        let body = match serde_json::from_slice::<Value>(body) {
            Ok(body) if body.is_object() => body,
            // An interrupt needs no body.
            _ if path == "/interrupt" => json!({}),
            _ => return text(StatusCode::BAD_REQUEST, "400: Bad Request"),
        };
        match path {
            "/prompt" => {
                let (status, value) = self.stage.post(&body);
                return answer(status, &value);
            }
            "/queue" => self.stage.delete_pending(&body),
            "/history" => self.stage.delete_history(&body),
            _ => self.stage.interrupt(&body),
        }
        text(StatusCode::OK, "")
    }

    fn upgrade(
        &self,
        request: &mut Request<Incoming>,
        client: Option<String>,
    ) -> Response<Full<Bytes>> {
        if !hyper_tungstenite::is_upgrade_request(&*request) {
            return text(StatusCode::BAD_REQUEST, "No WebSocket UPGRADE hdr: None");
        }
        match hyper_tungstenite::upgrade(request, Some(socket::config())) {
            Ok((response, upgrade)) => {
                let host = self.clone();
                self.tasks.spawn(async move {
                    host.while_alive(socket::serve(host.stage.clone(), upgrade, client))
                        .await
                });
                response
            }
            Err(_) => text(StatusCode::BAD_REQUEST, "400: Bad Request"),
        }
    }
}

fn answer(status: u16, value: &Value) -> Response<Full<Bytes>> {
    let mut response = text(
        StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
        &dumps(value),
    );
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn picture() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(PICTURE)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
    response
}
