//! The floor: the least that a server can do to send a message to many sockets.
//!
//! One thread with one poll loop. It accepts handshakes, frames each `POST` once and writes it to every
//! socket of its job, one `write` after another. It parses no states, stores nothing, and sends no pings.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::Context;
use hyper_tungstenite::tungstenite::handshake::derive_accept_key;
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::frames;
use crate::process::SERVING;

/// How many connections may wait to be accepted: more than the clients open at once.
const BACKLOG: i32 = 4_096;

const LISTENER: Token = Token(usize::MAX);

/// The length of a message in bytes, as long as the relay's for a job without ComfyUI.
const TEXT: usize = 250;

/// A server's close frame with the code 1000.
const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe8];

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// What the socket did not accept yet.
    pending: Vec<u8>,
}

/// What subscribers of a job without a state get, as long as the relay's.
const NOTICE: &str = r#"{"type":"connection","status":"connected","job_id":"load-0","message":"Nobody has registered this job yet; waiting 86400 s more","job_wait":86400,"timestamp":"2026-01-01T00:00:00.000Z"}"#;

struct Job {
    subscribers: Vec<usize>,
    seq: u64,
    newest: Vec<u8>,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            subscribers: Vec::new(),
            seq: 0,
            newest: frames::text(NOTICE.as_bytes()),
        }
    }
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    jobs: HashMap<String, Job>,
}

/// Serves until it is killed.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut listener = listen()?;
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    eprintln!("{SERVING}{}/", listener.local_addr()?);
    let mut floor = Floor {
        poll,
        listener,
        connections: Vec::new(),
        jobs: HashMap::new(),
    };
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; 16 << 10];
    loop {
        match floor.poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept()?,
                Token(number) => {
                    if event.is_writable() {
                        floor.write(number, &[]);
                    }
                    if event.is_readable() {
                        floor.read(number, &mut buffer)?;
                    }
                }
            }
        }
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl Floor {
    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot accept a connection"),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.connections.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, token, interest)?;
            self.connections.push(Some(Connection {
                stream,
                input: Vec::new(),
                pending: Vec::new(),
            }));
        }
    }

    fn read(&mut self, number: usize, buffer: &mut [u8]) -> anyhow::Result<()> {
        loop {
            let Some(connection) = &mut self.connections[number] else {
                return Ok(());
            };
            match connection.stream.read(buffer) {
                Ok(read @ 1..) => connection.input.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => {
                    self.connections[number] = None;
                    return Ok(());
                }
            }
        }
        while self.respond(number)? {}
        Ok(())
    }

    /// Responds to a request that has arrived whole. Returns whether there may be another.
    fn respond(&mut self, number: usize) -> anyhow::Result<bool> {
        let Some(connection) = &mut self.connections[number] else {
            return Ok(false);
        };
        // Frames of subscribers are ignored.
        if !connection.input.starts_with(b"GET ") && !connection.input.starts_with(b"POST ") {
            return Ok(false);
        }
        let Some(head) = memmem::find(&connection.input, b"\r\n\r\n").map(|end| end + 4) else {
            return Ok(false);
        };
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(&connection.input[..head])?;
        let header = |name: &str| {
            let mut all = request.headers.iter();
            let found = all.find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| header.value).unwrap_or_default()
        };
        let path = request.path.unwrap_or_default();
        let (path, _) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["", "ws", job] => {
                let response = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {}\r\n\r\n",
                    derive_accept_key(header("sec-websocket-key"))
                );
                let job = self.jobs.entry(job.to_owned()).or_default();
                job.subscribers.push(number);
                let response = [response.as_bytes(), &job.newest].concat();
                connection.input = Vec::new();
                self.write(number, &response);
                Ok(false)
            }
            ["", "api", "anime", "jobs", job, "progress"] => {
                let length: usize = std::str::from_utf8(header("content-length"))?.parse()?;
                if connection.input.len() < head + length {
                    return Ok(false);
                }
                let job = job.to_owned();
                let body = connection.input[head..head + length].to_vec();
                connection.input.drain(..head + length);
                self.write(
                    number,
                    b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}",
                );
                self.publish(job, &serde_json::from_slice(&body)?);
                Ok(true)
            }
            _ => anyhow::bail!("the floor does not serve {:?}", request.path),
        }
    }

    fn publish(&mut self, name: String, report: &Value) {
        let job = self.jobs.entry(name).or_default();
        job.seq += 1;
        let mut text = format!(
            r#"{{"type":"progress","status":{},"message":{},"seq":{},"filler":""#,
            report["status"], report["message"], job.seq
        );
        text.extend(std::iter::repeat_n(
            '.',
            TEXT.saturating_sub(text.len() + 2),
        ));
        text.push_str("\"}");
        let mut frame = frames::text(text.as_bytes());
        job.newest.clone_from(&frame);
        if report["status"] == "completed" {
            frame.extend(CLOSE);
        }
        let subscribers = std::mem::take(&mut job.subscribers);
        for number in &subscribers {
            send(&mut self.connections[*number], &frame);
        }
        job.subscribers = subscribers;
    }

    fn write(&mut self, number: usize, data: &[u8]) {
        send(&mut self.connections[number], data);
    }
}

/// Writes what is pending, then `data`. What the socket does not accept stays pending.
fn send(slot: &mut Option<Connection>, data: &[u8]) {
    let Some(connection) = slot else {
        return;
    };
    let written = if connection.pending.is_empty() {
        write_some(&mut connection.stream, data).map(|written| {
            connection.pending.extend_from_slice(&data[written..]);
        })
    } else {
        connection.pending.extend_from_slice(data);
        write_some(&mut connection.stream, &connection.pending).map(|written| {
            connection.pending.drain(..written);
        })
    };
    if written.is_err() {
        *slot = None;
    }
}

fn write_some(stream: &mut TcpStream, data: &[u8]) -> io::Result<usize> {
    if data.is_empty() {
        return Ok(0);
    }
    match stream.write(data) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
