//! Routes HTTP requests as ComfyUI does. Each route also exists under `/api`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::form_urlencoded;

use super::response::{json_response, text};
use super::state::SharedState;
use super::{view, websocket};

/// The largest request body, in bytes: graphs with embedded images are large.
const MAX_BODY: usize = websocket::MAX_MESSAGE;

/// The one route that exists only under `/api`.
const JOBS: &str = "/api/jobs";

/// The route for files that graphs load.
const UPLOAD: &str = "/upload/image";

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
            .filter(|rest| rest.starts_with('/') && !path.starts_with(JOBS))
            .unwrap_or(&path);
        // aiohttp responds to HEAD wherever it does to GET; hyper leaves out the body.
        if [Method::GET, Method::HEAD].contains(request.method()) {
            let query = request.uri().query().unwrap_or_default().to_owned();
            return self.get(path, &query, &mut request);
        }
        let is_post = request.method() == Method::POST;
        if is_post && let Some(id) = cancelled_id(request.uri().path()) {
            let answer = self.state.cancel(&id);
            return answer.map_or_else(not_found, |answer| json_response(200, &answer));
        }
        match path {
            "/prompt" | "/queue" | "/history" | "/interrupt" | UPLOAD if is_post => {}
            _ if is_route(path) => return method_not_allowed(),
            _ => return not_found(),
        }
        let form = request.headers().get(CONTENT_TYPE);
        let form = form.and_then(|form| form.to_str().ok()).map(str::to_owned);
        let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                "413: Request Entity Too Large",
            );
        };
        if path == UPLOAD {
            let form = form.unwrap_or_default();
            return self.state.uploads.take(&form, body.to_bytes()).await;
        }
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
            "/object_info" => json_response(200, &self.state.classes.all()),
            "/view" => view::view(&self.state, parameter, request.headers()),
            JOBS => match self.state.job_list(parameter) {
                Some(list) => json_response(200, &list),
                None => not_found(),
            },
            _ => self.get_one(path),
        }
    }

    /// A GET that names one thing in its path.
    fn get_one(&self, path: &str) -> Response<Full<Bytes>> {
        match (history_id(path), class(path), job_id(path)) {
            (Some(id), ..) => json_response(200, &self.state.history(&id)),
            (None, Some(class), _) => json_response(200, &self.state.classes.one(&class)),
            (None, None, Some(id)) => match self.state.job(&id) {
                Some(job) => json_response(200, &job),
                None => json_response(404, &json!({"error": "Job not found"})),
            },
            _ if is_route(path) => method_not_allowed(),
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
                let socket = websocket::serve(context.state.clone(), upgrade, client_id);
                self.tasks
                    .spawn(async move { context.run_while_alive(socket).await });
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
            | UPLOAD
    ) || history_id(path).is_some()
        || class(path).is_some()
}

/// The prompt id, decoded, of `/history/{id}`.
fn history_id(path: &str) -> Option<String> {
    last_segment(path, "/history/")
}

/// The job id, decoded, of `/api/jobs/{id}`.
fn job_id(path: &str) -> Option<String> {
    last_segment(path, "/api/jobs/")
}

/// The prompt id, decoded, of `/api/jobs/{id}/cancel`.
fn cancelled_id(path: &str) -> Option<String> {
    last_segment(path.strip_suffix("/cancel")?, "/api/jobs/")
}

/// The node class, decoded, of `/object_info/{class}`.
fn class(path: &str) -> Option<String> {
    last_segment(path, "/object_info/")
}

/// What follows `prefix`, decoded, if that is one segment of a path.
fn last_segment(path: &str, prefix: &str) -> Option<String> {
    let segment = path.strip_prefix(prefix)?;
    let is_one = !segment.is_empty() && !segment.contains('/');
    is_one.then(|| percent_decode_str(segment).decode_utf8_lossy().into_owned())
}

fn not_found() -> Response<Full<Bytes>> {
    text(StatusCode::NOT_FOUND, "404: Not Found")
}

fn method_not_allowed() -> Response<Full<Bytes>> {
    text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")
}
