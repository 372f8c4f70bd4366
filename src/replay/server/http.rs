//! Routes HTTP requests as ComfyUI does. Each route also exists under `/api`.

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
use url::form_urlencoded;

use super::state::SharedState;
use super::websocket;
use crate::replay::python_json::dumps;

/// The largest request body, in bytes: graphs with embedded images are large.
const MAX_BODY: usize = websocket::MAX_MESSAGE;

/// What `GET /view` returns for every file, because recordings hold no images: a disc on a chequered ground.
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
    /// Serves a connection until it ends, the simulated server dies, or the replay stops.
    pub(super) async fn serve(self, stream: TcpStream) {
        let context = self.clone();
        let service = hyper::service::service_fn(move |request| {
            let context = context.clone();
            async move { Ok::<_, Infallible>(context.respond(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        self.run_while_alive(async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        })
        .await;
    }

    /// Runs `work` until the simulated server dies or the replay stops.
    async fn run_while_alive(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = self.incarnation.cancelled() => {}
            () = self.stop.cancelled() => {}
            () = work => {}
        }
    }

    async fn respond(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let path = path
            .strip_prefix("/api")
            .filter(|rest| rest.starts_with('/'))
            .unwrap_or(&path);
        if request.method() == Method::GET {
            let query = request.uri().query().unwrap_or_default().to_owned();
            return self.get(path, &query, &mut request);
        }
        let is_post = request.method() == Method::POST;
        match path {
            "/prompt" | "/queue" | "/history" | "/interrupt" if is_post => {}
            _ if is_route(path) => return method_not_allowed(),
            _ => return not_found(),
        }
        let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                "413: Request Entity Too Large",
            );
        };
        self.post(path, &body.to_bytes())
    }

    fn get(
        &self,
        path: &str,
        query: &str,
        request: &mut Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let parameter = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(key, value)| {
                (key == name && !value.is_empty()).then(|| value.into_owned())
            })
        };
        match path {
            "/ws" => self.upgrade(request, parameter("clientId")),
            "/queue" => json_response(200, &self.state.queue()),
            "/prompt" => json_response(200, &self.state.exec_info()),
            "/history" => {
                let count = parameter("max_items").and_then(|count| count.parse().ok());
                let history = self.state.recent_history(count.unwrap_or(usize::MAX));
                json_response(200, &history)
            }
            "/system_stats" => json_response(200, &self.state.system_stats()),
            "/object_info" => json_response(200, &json!({})),
            "/view" if parameter("filename").is_some() => image(),
            "/view" => text(StatusCode::NOT_FOUND, ""),
            _ if is_route(path) => match history_id(path) {
                Some(id) => json_response(200, &self.state.history(&id)),
                None => method_not_allowed(),
            },
            _ => not_found(),
        }
    }

    /// A POST with its whole body.
    fn post(&self, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
        let body = match serde_json::from_slice::<Value>(body) {
            Ok(body) if body.is_object() => body,
            // An interrupt needs no body.
            _ if path == "/interrupt" => json!({}),
            _ => return text(StatusCode::BAD_REQUEST, "400: Bad Request"),
        };
        match path {
            "/prompt" => {
                let (status, value) = self.state.post_prompt(&body);
                return json_response(status, &value);
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
        client_id: Option<String>,
    ) -> Response<Full<Bytes>> {
        if !hyper_tungstenite::is_upgrade_request(&*request) {
            return text(StatusCode::BAD_REQUEST, "No WebSocket UPGRADE hdr: None");
        }
        match hyper_tungstenite::upgrade(request, Some(websocket::config())) {
            Ok((response, upgrade)) => {
                let context = self.clone();
                self.tasks.spawn(async move {
                    let socket = websocket::serve(context.state.clone(), upgrade, client_id);
                    context.run_while_alive(socket).await
                });
                response
            }
            Err(_) => text(StatusCode::BAD_REQUEST, "400: Bad Request"),
        }
    }
}

/// Whether there is a route of this path, for some method.
fn is_route(path: &str) -> bool {
    matches!(
        path,
        "/ws"
            | "/queue"
            | "/prompt"
            | "/history"
            | "/system_stats"
            | "/object_info"
            | "/view"
            | "/interrupt"
    ) || history_id(path).is_some()
}

/// The prompt id, decoded, of `/history/{id}`.
fn history_id(path: &str) -> Option<String> {
    let id = path.strip_prefix("/history/")?;
    let is_one_segment = !id.is_empty() && !id.contains('/');
    is_one_segment.then(|| percent_decode_str(id).decode_utf8_lossy().into_owned())
}

fn json_response(status: u16, value: &Value) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response(
        status,
        "application/json; charset=utf-8",
        dumps(value).into(),
    )
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.into())
}

fn not_found() -> Response<Full<Bytes>> {
    text(StatusCode::NOT_FOUND, "404: Not Found")
}

fn method_not_allowed() -> Response<Full<Bytes>> {
    text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")
}

fn image() -> Response<Full<Bytes>> {
    response(StatusCode::OK, "image/png", Bytes::from_static(IMAGE))
}

fn response(status: StatusCode, mime: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(mime));
    response
}
