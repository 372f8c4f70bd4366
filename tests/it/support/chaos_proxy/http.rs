//! Calls and their answers on the way through a gate.

use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::LOCATION;
use hyper::{Request, Response};
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;

use super::fault::{Call, Spoilt};
use super::socket;
use super::state::State;

/// An answer's parts: the connection breaks off at one that is an error.
type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Broken>>>>;

/// Answers a call as the server does, or as a fault has it.
pub(super) async fn answer(
    state: Arc<State>,
    life: CancellationToken,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    let path = request.uri().path().to_owned();
    state.spoil_from_the_start();
    if path == "/ws" {
        if let Some(how) = state.spoilt(Call::Socket, false) {
            return Ok(spoil(how, &Bytes::new()));
        }
        let upgraded = socket::upgrade(state, life, &mut request).await?;
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
        // The server never hears of it.
        if let Some(how) = state.spoilt(Call::Prompt, false) {
            return Ok(spoil(how, &Bytes::new()));
        }
        if state.told().is_over {
            return Ok(told(503, "another server".into()));
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
    let text = match prompt_id.as_deref().and_then(|id| state.kept(id)) {
        Some(entry) if &text[..] == b"{}" => {
            serde_json::json!({ prompt_id.clone().unwrap(): entry })
                .to_string()
                .into()
        }
        _ => text,
    };
    let is_there = prompt_id.is_some() && text.len() > 2;
    match call.and_then(|call| state.spoilt(call, is_there)) {
        None => {}
        Some(Spoilt::Slow(time)) => tokio::time::sleep(time).await,
        Some(how) => return Ok(spoil(how, &text)),
    }
    if let Some(prompt_id) = prompt_id.filter(|_| is_there) {
        state.tells_end(&prompt_id);
    }
    Ok(told(status, text))
}

/// A prompt is handed in, also where nobody hears the answer.
async fn submit(state: &Arc<State>, request: Request<Incoming>) -> Result<(u16, Bytes), Broken> {
    let body = request.into_body().collect().await.map_err(|_| Broken)?;
    let turn = state.turn.clone().lock_owned().await;
    if state.told().is_over {
        return Err(Broken);
    }
    let state = state.clone();
    let submitted = tokio::spawn(async move {
        let _turn = turn;
        let url = format!("{}/prompt", state.comfyui_url());
        let call = state.client.post(url).body(body.to_bytes());
        let answer = call.send().await.map_err(|_| Broken)?;
        let status = answer.status().as_u16();
        if status == 200 {
            state.takes_prompt();
        }
        Ok((status, answer.bytes().await.map_err(|_| Broken)?))
    });
    submitted.await.map_err(|_| Broken)?
}

async fn forward(state: &State, request: Request<Incoming>) -> Result<(u16, Bytes), Broken> {
    // Not while the server is being replaced.
    let url = {
        let _turn = state.turn.lock().await;
        let path = request.uri().path_and_query().unwrap();
        format!("{}{path}", state.comfyui_url())
    };
    let method = request.method().clone();
    let body = request.into_body().collect().await.map_err(|_| Broken)?;
    let call = state.client.request(method, url).body(body.to_bytes());
    // A server that was replaced in the middle breaks off.
    let answer = call.send().await.map_err(|_| Broken)?;
    let status = answer.status().as_u16();
    Ok((status, answer.bytes().await.map_err(|_| Broken)?))
}

fn spoil(how: Spoilt, text: &Bytes) -> Response<Body> {
    match how {
        Spoilt::Status(status) => told(status, "out of order".into()),
        Spoilt::Redirect(port) => {
            let mut response = told(302, Bytes::new());
            let to = format!("http://127.0.0.1:{port}/").parse().unwrap();
            response.headers_mut().insert(LOCATION, to);
            response
        }
        Spoilt::Page => told(200, "<html>Please log in</html>".into()),
        Spoilt::Garbled => told(200, text.slice(..text.len() / 2)),
        Spoilt::Strange => told(200, r#"{"error": [null, {"queue": 7}]}"#.into()),
        Spoilt::Late => told(200, "{}".into()),
        Spoilt::Cut | Spoilt::Slow(_) => {
            let half = Frame::data(text.slice(..text.len() / 2));
            Response::new(StreamBody::new(stream::iter(vec![Ok(half), Err(Broken)])))
        }
    }
}

fn told(status: u16, text: Bytes) -> Response<Body> {
    let response = Response::builder().status(status);
    response.body(whole(text)).unwrap()
}

fn whole(text: Bytes) -> Body {
    StreamBody::new(stream::iter(vec![Ok(Frame::data(text))]))
}

/// Makes the gate break a connection off.
#[derive(Debug)]
pub(super) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken on purpose")
    }
}

impl std::error::Error for Broken {}
