//! A WebSocket client that sends exactly the bytes of a test.

use std::io::Cursor;

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::wait::PATIENCE;

/// The end of the empty block that ends every compressed message; not sent (RFC 7692, section 7.2.1).
const BLOCK_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The mask of every frame.
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A frame that the server sent.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) payload: Vec<u8>,
}

/// A WebSocket after its handshake.
pub(crate) struct RawClient {
    pub(crate) stream: TcpStream,
    /// The head of the response to the handshake.
    pub(crate) head: String,
    unread: BytesMut,
}

impl RawClient {
    /// Connects. `headers` are further header lines, each with its line end.
    pub(crate) async fn connect(address: &str, path: &str, headers: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        Self::handshake(socket, address, path, headers).await
    }

    /// Connects with a small receive buffer, so that the server soon cannot write.
    pub(crate) async fn with_small_buffer(address: &str, path: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        Self::handshake(socket, address, path, "").await
    }

    async fn handshake(socket: TcpSocket, address: &str, path: &str, headers: &str) -> Self {
        let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut unread = BytesMut::new();
        let end = loop {
            let end = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end;
            }
            assert!(read(&mut stream, &mut unread).await > 0, "no response");
        };
        let head = String::from_utf8(unread.split_to(end + 4).to_vec()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Self {
            stream,
            head,
            unread,
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // Fails if the server has closed already, which the test notices.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut cursor = Cursor::new(&self.unread[..]);
            if let Some((header, length)) = FrameHeader::parse(&mut cursor).unwrap() {
                let (begin, length) = (cursor.position() as usize, length as usize);
                if self.unread.len() >= begin + length {
                    self.unread.advance(begin);
                    let payload = self.unread.split_to(length).to_vec();
                    return Some(Frame { header, payload });
                }
            }
            if read(&mut self.stream, &mut self.unread).await == 0 {
                return None;
            }
        }
    }

    /// Reads until a text message satisfies the condition.
    pub(crate) async fn text_until(
        &mut self,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> (Frame, Value) {
        loop {
            let frame = self.frame().await.expect("closed before it came");
            if frame.header.opcode != OpCode::Data(Data::Text) {
                continue;
            }
            let text = if frame.header.rsv1 {
                inflate(&frame.payload)
            } else {
                frame.payload.clone()
            };
            let message: Value = serde_json::from_slice(&text).unwrap();
            if is_wanted(&message) {
                return (frame, message);
            }
        }
    }

    /// Reads until the server closes, and returns the close code; 1006 if there is none.
    pub(crate) async fn close_code(&mut self) -> u16 {
        while let Some(frame) = self.frame().await {
            if frame.header.opcode == OpCode::Control(Control::Close) {
                return u16::from_be_bytes(frame.payload[..2].try_into().unwrap());
            }
        }
        1006
    }
}

/// Reads more, and returns the number of bytes; 0 at the end.
async fn read(stream: &mut TcpStream, unread: &mut BytesMut) -> usize {
    let reading = timeout(PATIENCE, stream.read_buf(unread));
    reading
        .await
        .expect("the server sends nothing")
        .unwrap_or(0)
}

/// A whole client frame.
pub(crate) fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    fragment(opcode, payload, true, false)
}

/// A client frame that may be one of several of a message.
pub(crate) fn fragment(opcode: OpCode, payload: &[u8], is_final: bool, rsv1: bool) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        rsv1,
        opcode,
        mask: Some(MASK),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).unwrap();
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// Compresses the payload of a message (permessage-deflate).
pub(crate) fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let mut deflated = Vec::with_capacity(payload.len() + 64);
    compress
        .compress_vec(payload, &mut deflated, FlushCompress::Sync)
        .unwrap();
    deflated.truncate(deflated.len() - BLOCK_END.len());
    deflated
}

fn inflate(payload: &[u8]) -> Vec<u8> {
    let payload = [payload, &BLOCK_END].concat();
    let mut inflated = Vec::with_capacity(1 << 20);
    Decompress::new(false)
        .decompress_vec(&payload, &mut inflated, FlushDecompress::Sync)
        .unwrap();
    inflated
}
