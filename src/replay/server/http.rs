//! Routes HTTP requests as ComfyUI does, each route also under `/api`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::state::SharedState;
use super::websocket;
use crate::replay::substitution::dumps;

/// The largest request body, in bytes: graphs with embedded images are large.
const MAX_BODY: usize = websocket::MAX_MESSAGE;

/// The image that `GET /view` returns for every file, because recordings hold no images: 64 × 64 pixels.
const IMAGE: &[u8] = include_bytes!("image.png");

/// What is needed to serve one connection.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    pub(super) state: Arc<SharedState>,
    pub(super) tasks: TaskTracker,
    /// Cancelled when the simulated server dies.
    pub(super) incarnation: CancellationToken,
    /// Cancelled when the replay stops.
    pub(super) stop: CancellationToken,
}

impl ConnectionContext {
    pub(super) async fn serve(self, stream: TcpStream) {
        let context = self.clone();
        let service = hyper::service::service_fn(move |request| {
            let context = context.clone();
            async move { Ok::<_, Infallible>(context.answer(request).await) }
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
            () = self.incarnation.cancelled() => {}
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
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
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
            "/queue" if get => return answer(200, &self.state.queue()),
            "/prompt" if get => return answer(200, &self.state.exec_info()),
            "/history" if get => {
                let count = asked("max_items").and_then(|count| count.parse().ok());
                return answer(200, &self.state.recent_history(count.unwrap_or(usize::MAX)));
            }
            "/system_stats" if get => return answer(200, &self.state.system_stats()),
            "/object_info" if get => return answer(200, &json!({})),
            "/view" if get && asked("filename").is_some() => return image(),
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
                    Some(id) if get => answer(200, &self.state.history(&id)),
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
        self.post(path, &body.to_bytes())
    }

    /// A POST with all its body.
    fn post(&self, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
        let body = match serde_json::from_slice::<Value>(body) {
            Ok(body) if body.is_object() => body,
            // An interrupt needs no body.
            _ if path == "/interrupt" => json!({}),
            _ => return text(StatusCode::BAD_REQUEST, "400: Bad Request"),
        };
        match path {
            "/prompt" => {
                let (status, value) = self.state.post(&body);
                return answer(status, &value);
            }
            "/queue" => self.state.delete_pending(&body),
            "/history" => self.state.delete_history(&body),
            _ => self.state.interrupt(&body),
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
        match hyper_tungstenite::upgrade(request, Some(websocket::config())) {
            Ok((response, upgrade)) => {
                let context = self.clone();
                self.tasks.spawn(async move {
                    context
                        .while_alive(websocket::serve(context.state.clone(), upgrade, client))
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

fn image() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(IMAGE)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
    response
}
