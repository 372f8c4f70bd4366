//! Forwards HTTP requests and their answers.

use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::LOCATION;
use hyper::{Request, Response};
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;

use super::fault::{BadAnswer, Call};
use super::socket;
use super::state::State;

/// The parts of an answer; an error closes the connection.
type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Disconnected>>>>;

/// Answers a call as the server does or as a fault says.
pub(super) async fn answer(
    state: Arc<State>,
    connections: CancellationToken,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Disconnected> {
    let path = request.uri().path().to_owned();
    state.add_first_bad_answers();
    if path == "/ws" {
        if let Some(how) = state.take_bad_answer(Call::Socket, false) {
            return Ok(bad_answer(how, &Bytes::new()));
        }
        let upgraded = socket::upgrade(state, connections, &mut request).await?;
        let (parts, _) = upgraded.into_parts();
        return Ok(Response::from_parts(parts, whole(Bytes::new())));
    }
    let call = match path.as_str() {
        "/queue" => Some(Call::Queue),
        "/prompt" => Some(Call::Prompt),
        "/system_stats" => Some(Call::Stats),
        path if path.starts_with("/history/") => Some(Call::History),
        _ => None,
    };
    if call == Some(Call::Prompt) {
        // The server does not receive it.
        if let Some(how) = state.take_bad_answer(Call::Prompt, false) {
            return Ok(bad_answer(how, &Bytes::new()));
        }
        if state.observed().accepts_no_more {
            return Ok(answer_of(503, "another server".into()));
        }
    }
    let (status, text) = match call {
        Some(Call::Prompt) => submit(&state, request).await?,
        _ => forward(&state, request).await?,
    };
    let prompt_id = path.strip_prefix("/history/").map(|id| {
        let id = percent_decode_str(id).decode_utf8_lossy();
        id.into_owned()
    });
    let text = match prompt_id.as_deref().and_then(|id| state.kept_entry(id)) {
        Some(entry) if &text[..] == b"{}" => {
            serde_json::json!({ prompt_id.clone().unwrap(): entry })
                .to_string()
                .into()
        }
        _ => text,
    };
    let is_in_history = prompt_id.is_some() && text.len() > 2;
    match call.and_then(|call| state.take_bad_answer(call, is_in_history)) {
        None => {}
        Some(BadAnswer::Slow(time)) => tokio::time::sleep(time).await,
        Some(how) => return Ok(bad_answer(how, &text)),
    }
    if let Some(prompt_id) = prompt_id.filter(|_| is_in_history) {
        state.add_end(&prompt_id);
    }
    Ok(answer_of(status, text))
}

/// Submits a prompt, even if the relay disconnects before the answer.
async fn submit(
    state: &Arc<State>,
    request: Request<Incoming>,
) -> Result<(u16, Bytes), Disconnected> {
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(|_| Disconnected)?;
    let guard = state.restart_lock.clone().lock_owned().await;
    if state.observed().accepts_no_more {
        return Err(Disconnected);
    }
    let state = state.clone();
    let submitted = tokio::spawn(async move {
        let _guard = guard;
        let url = format!("{}/prompt", state.comfyui_url());
        let call = state.client.post(url).body(body.to_bytes());
        let answer = call.send().await.map_err(|_| Disconnected)?;
        let status = answer.status().as_u16();
        if status == 200 {
            state.add_prompt();
        }
        Ok((status, answer.bytes().await.map_err(|_| Disconnected)?))
    });
    submitted.await.map_err(|_| Disconnected)?
}

async fn forward(state: &State, request: Request<Incoming>) -> Result<(u16, Bytes), Disconnected> {
    // Not during a restart.
    let url = {
        let _guard = state.restart_lock.lock().await;
        let path = request.uri().path_and_query().unwrap();
        format!("{}{path}", state.comfyui_url())
    };
    let method = request.method().clone();
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(|_| Disconnected)?;
    let call = state.client.request(method, url).body(body.to_bytes());
    // Fails if the server is replaced meanwhile.
    let answer = call.send().await.map_err(|_| Disconnected)?;
    let status = answer.status().as_u16();
    Ok((status, answer.bytes().await.map_err(|_| Disconnected)?))
}

fn bad_answer(how: BadAnswer, text: &Bytes) -> Response<Body> {
    match how {
        BadAnswer::Status(status) => answer_of(status, "out of order".into()),
        BadAnswer::Redirect(port) => {
            let mut response = answer_of(302, Bytes::new());
            let to = format!("http://127.0.0.1:{port}/").parse().unwrap();
            response.headers_mut().insert(LOCATION, to);
            response
        }
        BadAnswer::Page => answer_of(200, "<html>Please log in</html>".into()),
        BadAnswer::InvalidJson => answer_of(200, text.slice(..text.len() / 2)),
        BadAnswer::OtherShape => answer_of(200, r#"{"error": [null, {"queue": 7}]}"#.into()),
        BadAnswer::Late => answer_of(200, "{}".into()),
        BadAnswer::Truncated | BadAnswer::Slow(_) => {
            let half = Frame::data(text.slice(..text.len() / 2));
            Response::new(StreamBody::new(stream::iter(vec![
                Ok(half),
                Err(Disconnected),
            ])))
        }
    }
}

fn answer_of(status: u16, text: Bytes) -> Response<Body> {
    let response = Response::builder().status(status);
    response.body(whole(text)).unwrap()
}

fn whole(text: Bytes) -> Body {
    StreamBody::new(stream::iter(vec![Ok(Frame::data(text))]))
}

/// Makes hyper close the connection.
#[derive(Debug)]
pub(super) struct Disconnected;

impl std::fmt::Display for Disconnected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("disconnected on purpose")
    }
}

impl std::error::Error for Disconnected {}
