//! A socket on its way through a gate.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::Message;
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::http::Broken;
use super::state::{State, end_told_by};

type Far = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What comes of a frame.
enum RecordedOutcome {
    HandOn {
        twice: bool,
    },
    Swallow,
    /// The socket is over.
    Over,
}

/// Opens a socket to the server, and answers the relay's wish for one.
pub(super) async fn upgrade(
    state: Arc<State>,
    life: CancellationToken,
    request: &mut Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Broken> {
    let path = request.uri().path_and_query().unwrap();
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let far = {
        let _turn = state.turn.lock().await;
        let url = format!("ws://{}{path}", state.comfyui_address());
        connect_async_with_config(url, Some(config), true).await
    };
    let (far, _) = far.map_err(|_| Broken)?;
    state.opens_socket();
    let (response, near) = hyper_tungstenite::upgrade(request, Some(config)).map_err(|_| Broken)?;
    tokio::spawn(async move {
        life.run_until_cancelled(pump(&state, near, far)).await;
    });
    Ok(response)
}

/// Hands on what comes, either way, until one side is gone.
async fn pump(state: &State, near: HyperWebsocket, mut far: Far) {
    let Ok(mut near) = near.await else { return };
    let mut is_silent = false;
    loop {
        tokio::select! {
            biased;
            said = near.next() => match said {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if far.send(message).await.is_err() { return }
                }
                // The library answers pings, when something is written.
                Some(Ok(Message::Ping(_))) => if near.flush().await.is_err() { return },
                Some(Ok(Message::Close(_))) => {
                    // As ComfyUI does: the server has let go before the relay knows it.
                    let _ = far.close(None).await;
                    while let Some(Ok(_)) = far.next().await {}
                    let _ = near.flush().await;
                    return;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            heard = far.next() => match heard {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if is_silent { continue }
                    let outcome = strike(state, near.get_mut(), &mut is_silent).await;
                    let times = match outcome {
                        RecordedOutcome::HandOn { twice } => 1 + usize::from(twice),
                        RecordedOutcome::Swallow => 0,
                        RecordedOutcome::Over => return,
                    };
                    for _ in 0..times {
                        if let Message::Text(text) = &message
                            && let Some(prompt_id) = end_told_by(text)
                        {
                            state.tells_end(&prompt_id);
                        }
                        if near.send(message.clone()).await.is_err() { return }
                    }
                }
                Some(Ok(Message::Close(close))) => {
                    let _ = near.close(close).await;
                    while let Some(Ok(_)) = near.next().await {}
                    return;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

/// Does what the faults before the next frame want.
async fn strike(
    state: &State,
    line: &mut (impl AsyncWriteExt + Unpin),
    is_silent: &mut bool,
) -> RecordedOutcome {
    let mut twice = false;
    for fault in state.faults_before_a_frame() {
        match fault {
            Fault::Cut { .. } => return RecordedOutcome::Over,
            Fault::Refuse { lasts, .. } => {
                state.refuse(lasts);
                return RecordedOutcome::Over;
            }
            Fault::Answers {
                call, times, how, ..
            } => state.spoil(call, times, how),
            Fault::Insert { junk, .. } => {
                if line.write_all(&junk.bytes()).await.is_err() {
                    return RecordedOutcome::Over;
                }
                let _ = line.flush().await;
            }
            Fault::Repeat { .. } => twice = true,
            Fault::Restart { keeps_history, .. } => {
                let _turn = state.turn.lock().await;
                state.restart(keeps_history).await;
                return RecordedOutcome::Over;
            }
            Fault::Silence { .. } => *is_silent = true,
        }
    }
    match *is_silent {
        true => RecordedOutcome::Swallow,
        false => RecordedOutcome::HandOn { twice },
    }
}
