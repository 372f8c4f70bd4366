//! Clients that break the WebSocket protocol (RFC 6455): each is closed with the code for its error, and no other
//! client is affected.

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

/// The close code for a client that sends these bytes.
async fn close_code_for(relay: &TestRelay, extra: &str, bytes: &[u8]) -> u16 {
    let mut wire = RawClient::connect(&relay.address(), "/ws/job", extra).await;
    wire.send(bytes).await;
    wire.close_code().await
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_errors_close_with_their_code() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let mut neighbour = relay.subscribe("job").await;
    let unmasked = [0x81, 2, b'h', b'i'];
    let reserved_bit = fragment(TEXT, b"{}", true, true);
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("an unmasked frame", unmasked.to_vec(), 1002),
        ("a reserved bit", reserved_bit, 1002),
        ("a reserved opcode", vec![0x83, 0x80, 1, 2, 3, 4], 1002),
        (
            "a continuation without a message",
            frame(CONTINUE, b"x"),
            1002,
        ),
        (
            "a fragmented ping",
            fragment(PING, b"x", false, false),
            1002,
        ),
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
        assert_eq!(close_code_for(&relay, "", &bytes).await, code, "{what}");
    }
    let report = json!({"progress": 100, "status": "completed"});
    relay.post("/api/anime/jobs/job/progress", &report).await;
    assert_eq!(neighbour.close_code().await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fragmented_message_must_not_be_too_long_in_all() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let mut fragments = fragment(BINARY, &[0; 40_000], false, false);
    fragments.extend(fragment(CONTINUE, &[0; 40_000], true, false));
    assert_eq!(close_code_for(&relay, "", &fragments).await, 1009);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_pings_and_of_empty_fragments_are_closed() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let pings = frame(PING, b"").repeat(200_000);
    assert_eq!(close_code_for(&relay, "", &pings).await, 1008);
    let mut fragments = fragment(TEXT, b"", false, false);
    fragments.extend(fragment(CONTINUE, b"", false, false).repeat(200_000));
    assert_eq!(close_code_for(&relay, "", &fragments).await, 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn decompression_bombs_and_invalid_deflate_data_are_closed() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let bomb = deflate(&vec![0; 16 << 20]);
    let bomb = fragment(BINARY, &bomb, true, true);
    assert_eq!(close_code_for(&relay, DEFLATE, &bomb).await, 1009);
    let invalid = fragment(TEXT, &[0xff; 40], true, true);
    assert_eq!(close_code_for(&relay, DEFLATE, &invalid).await, 1007);
}

/// A client that does not answer pings is disconnected, although its connection looks healthy.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_subscribers_are_found_by_pings() {
    let server = ServerConfig {
        ping_interval: std::time::Duration::from_millis(20),
        connection_timeout: std::time::Duration::from_millis(100),
        ..ServerConfig::default()
    };
    let relay = TestRelay::without_backend(server).await;
    let mut silent = RawClient::connect(&relay.address(), "/ws/job", "").await;
    assert_eq!(silent.close_code().await, 1006);
    let (_, status) = relay.get("/api/anime/websocket/status").await;
    assert_eq!(status["connections"]["total_connections"], 0);
}
