//! Clients that break the rules of WebSockets: each is closed with the code that says so, and nobody
//! else hears of it.

use comfy_relay::config::ServerConfig;
use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::support::raw_client::{RawClient, deflate, fragment, frame};
use crate::support::test_relay::{Settings, TestRelay};

const TEXT: OpCode = OpCode::Data(Data::Text);
const BINARY: OpCode = OpCode::Data(Data::Binary);
const CONTINUE: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// The code with which a client is closed that says this.
async fn punishment(relay: &TestRelay, extra: &str, bytes: &[u8]) -> u16 {
    let mut wire = RawClient::connect(&relay.address(), "/ws/job", extra).await;
    wire.send(bytes).await;
    wire.close_code().await
}

#[tokio::test(flavor = "multi_thread")]
async fn breaches_are_closed_with_the_code_that_names_them() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let mut neighbour = relay.subscribe("job").await;
    let unmasked = [0x81, 2, b'h', b'i'];
    let reserved_bit = fragment(TEXT, b"{}", true, true);
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("an unmasked frame", unmasked.to_vec(), 1002),
        ("a reserved bit", reserved_bit, 1002),
        ("a reserved opcode", vec![0x83, 0x80, 1, 2, 3, 4], 1002),
        ("a continuation of nothing", frame(CONTINUE, b"x"), 1002),
        ("a ping in pieces", fragment(PING, b"x", false, false), 1002),
        ("a ping that is too long", frame(PING, &[0; 126]), 1002),
        (
            "a message within a message",
            [fragment(TEXT, b"a", false, false), frame(TEXT, b"b")].concat(),
            1002,
        ),
        ("a text that is not UTF-8", frame(TEXT, &[0xff, 0xfe]), 1007),
        (
            "a message that is too long",
            frame(BINARY, &[0; 65_537]),
            1009,
        ),
    ];
    for (what, bytes, code) in cases {
        assert_eq!(punishment(&relay, "", &bytes).await, code, "{what}");
    }
    let report = json!({"progress": 100, "status": "completed"});
    relay.post("/api/anime/jobs/job/progress", &report).await;
    assert_eq!(neighbour.close_code().await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_in_pieces_is_too_long() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let mut pieces = fragment(BINARY, &[0; 40_000], false, false);
    pieces.extend(fragment(CONTINUE, &[0; 40_000], true, false));
    assert_eq!(punishment(&relay, "", &pieces).await, 1009);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_pings_and_of_empty_pieces_are_too_much() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let pings = frame(PING, b"").repeat(200_000);
    assert_eq!(punishment(&relay, "", &pings).await, 1008);
    let mut pieces = fragment(TEXT, b"", false, false);
    pieces.extend(fragment(CONTINUE, b"", false, false).repeat(200_000));
    assert_eq!(punishment(&relay, "", &pieces).await, 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bombs_and_rubbish_are_found_out() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let bomb = deflate(&vec![0; 16 << 20]);
    let bomb = fragment(BINARY, &bomb, true, true);
    assert_eq!(punishment(&relay, DEFLATE, &bomb).await, 1009);
    let rubbish = fragment(TEXT, &[0xff; 40], true, true);
    assert_eq!(punishment(&relay, DEFLATE, &rubbish).await, 1007);
}

/// Whoever is pinged and does not answer is gone, although its connection looks well.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_subscribers_are_found_by_ping() {
    let server = ServerConfig {
        ping_interval: std::time::Duration::from_millis(20),
        connection_timeout: std::time::Duration::from_millis(100),
        ..ServerConfig::default()
    };
    let settings = Settings {
        server,
        ..Settings::default()
    };
    let relay = TestRelay::without_backend(settings).await;
    let mut silent = RawClient::connect(&relay.address(), "/ws/job", "").await;
    assert_eq!(silent.close_code().await, 1006);
    let (_, status) = relay.get("/api/anime/websocket/status").await;
    assert_eq!(status["connections"]["total_connections"], 0);
}
