//! Forwards WebSockets.

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
use super::http::Disconnected;
use super::state::{State, prompt_ended_by};

/// The socket to ComfyUI.
type ServerSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What happens to a frame.
enum FrameFate {
    Forward {
        twice: bool,
    },
    Drop,
    /// The socket is closed.
    Disconnect,
}

/// Opens a socket to the server, and answers the relay's request for one.
pub(super) async fn upgrade(
    state: Arc<State>,
    connections: CancellationToken,
    request: &mut Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Disconnected> {
    let path = request.uri().path_and_query().unwrap();
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let server = {
        let _guard = state.restart_lock.lock().await;
        let url = format!("ws://{}{path}", state.comfyui_address());
        connect_async_with_config(url, Some(config), true).await
    };
    let (server, _) = server.map_err(|_| Disconnected)?;
    state.add_socket();
    let (response, client) =
        hyper_tungstenite::upgrade(request, Some(config)).map_err(|_| Disconnected)?;
    tokio::spawn(async move {
        connections
            .run_until_cancelled(forward(&state, client, server))
            .await;
    });
    Ok(response)
}

/// Forwards in both directions until one side disconnects.
async fn forward(state: &State, client: HyperWebsocket, mut server: ServerSocket) {
    let Ok(mut client) = client.await else { return };
    let mut is_silent = false;
    loop {
        tokio::select! {
            biased;
            received = client.next() => match received {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if server.send(message).await.is_err() { return }
                }
                // Flushing sends the answer to a ping.
                Some(Ok(Message::Ping(_))) => if client.flush().await.is_err() { return },
                Some(Ok(Message::Close(_))) => {
                    // As ComfyUI does: the server closes before the relay receives the close.
                    let _ = server.close(None).await;
                    while let Some(Ok(_)) = server.next().await {}
                    let _ = client.flush().await;
                    return;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            received = server.next() => match received {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if is_silent { continue }
                    let fate = apply_faults(state, client.get_mut(), &mut is_silent).await;
                    let times = match fate {
                        FrameFate::Forward { twice } => 1 + usize::from(twice),
                        FrameFate::Drop => 0,
                        FrameFate::Disconnect => return,
                    };
                    for _ in 0..times {
                        if let Message::Text(text) = &message
                            && let Some(prompt_id) = prompt_ended_by(text)
                        {
                            state.add_end(&prompt_id);
                        }
                        if client.send(message.clone()).await.is_err() { return }
                    }
                }
                Some(Ok(Message::Close(close))) => {
                    let _ = client.close(close).await;
                    while let Some(Ok(_)) = client.next().await {}
                    return;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

/// Applies the faults that are due before the next frame.
async fn apply_faults(
    state: &State,
    socket: &mut (impl AsyncWriteExt + Unpin),
    is_silent: &mut bool,
) -> FrameFate {
    let mut twice = false;
    for fault in state.take_faults() {
        match fault {
            Fault::Disconnect { .. } => return FrameFate::Disconnect,
            Fault::Refuse { lasts, .. } => {
                state.refuse(lasts);
                return FrameFate::Disconnect;
            }
            Fault::Answers {
                call, times, how, ..
            } => state.add_bad_answer(call, times, how),
            Fault::Insert { malformed, .. } => {
                if socket.write_all(&malformed.bytes()).await.is_err() {
                    return FrameFate::Disconnect;
                }
                let _ = socket.flush().await;
            }
            Fault::Repeat { .. } => twice = true,
            Fault::Restart { keeps_history, .. } => {
                let _guard = state.restart_lock.lock().await;
                state.restart(keeps_history).await;
                return FrameFate::Disconnect;
            }
            Fault::Silence { .. } => *is_silent = true,
        }
    }
    if *is_silent {
        FrameFate::Drop
    } else {
        FrameFate::Forward { twice }
    }
}
