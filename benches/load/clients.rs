//! All subscribers, in one poll loop of one thread: cheap enough that the servers are the limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frames;
use crate::publisher::name;
use crate::tally::{Seen, Tally};

/// How many connections are opened at once. If the listener's backlog is shorter, some of them retry
/// only after a second.
const OPENING: usize = 256;

/// How many loopback addresses the subscribers come from.
const ADDRESSES: usize = 32;

/// The size of the read buffer, in bytes.
const BUFFER: usize = 64 << 10;

/// How long the clients wait while nothing arrives.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long one poll waits for events.
const POLL_TIMEOUT: Duration = Duration::from_millis(20);

struct Client {
    stream: Option<TcpStream>,
    job: usize,
    is_open: bool,
    seen: Seen,
    /// The beginning of a frame whose rest has not arrived.
    rest: Vec<u8>,
}

/// The subscribers of one server.
pub(crate) struct Clients {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    server: SocketAddr,
    pub(crate) tally: Tally,
    /// How many have received a state.
    pub(crate) ready: usize,
    /// How many the server closed with 1000.
    pub(crate) closed: usize,
    /// How many lost their connection, or were closed with another code.
    pub(crate) broken: usize,
    /// How the last one of them ended.
    failure: String,
}

impl Clients {
    pub(crate) fn new(server: SocketAddr, tally: Tally) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            clients: Vec::new(),
            buffer: vec![0; BUFFER],
            server,
            tally,
            ready: 0,
            closed: 0,
            broken: 0,
            failure: String::new(),
        })
    }

    /// Opens a subscriber of each of these jobs, and waits until each has received a state. Returns how
    /// long that took.
    pub(crate) fn open(&mut self, jobs: &[usize]) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let known = self.clients.len();
        let total = known + jobs.len();
        let mut received_at = Instant::now();
        while self.ready < total {
            while self.clients.len() < total && self.clients.len() < self.ready + OPENING {
                self.connect(jobs[self.clients.len() - known])
                    .context("cannot open a subscriber")?;
            }
            if self.poll_once()? > 0 {
                received_at = Instant::now();
            }
            anyhow::ensure!(
                self.broken == 0 && received_at.elapsed() < TIMEOUT,
                "{} of {total} subscribers were served, {} failed: {}",
                self.ready,
                self.broken,
                self.failure
            );
        }
        Ok(began.elapsed())
    }

    /// Closes the connections of all subscribers of a job at once, without a close frame.
    pub(crate) fn disconnect(&mut self, job: usize) {
        let subscribers = self.clients.iter_mut().filter(|client| client.job == job);
        subscribers.for_each(|client| client.stream = None);
    }

    /// Receives until `until` holds. Returns false if nothing arrives for [`TIMEOUT`].
    pub(crate) fn receive_until(
        &mut self,
        mut until: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<bool> {
        let mut received_at = Instant::now();
        while !until(self) {
            if self.poll_once()? > 0 {
                received_at = Instant::now();
            }
            if received_at.elapsed() > TIMEOUT {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Receives while another thread publishes. Returns how many updates of each job it posted.
    pub(crate) fn receive_while(
        &mut self,
        publishing: JoinHandle<anyhow::Result<Vec<u64>>>,
    ) -> anyhow::Result<Vec<u64>> {
        // The publisher may pause for longer than TIMEOUT.
        while !self.receive_until(|_| publishing.is_finished())? {}
        join(publishing)
    }

    /// Opens a subscriber, from each loopback address in turn. Binding chooses the port.
    fn connect(&mut self, job: usize) -> io::Result<()> {
        let number = self.clients.len();
        let own = Ipv4Addr::new(127, 0, 0, 2 + (number % ADDRESSES) as u8);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((own, 0)).into())?;
        let mut stream = TcpStream::from_std(socket.into());
        let connecting = socket2::SockRef::from(&stream).connect(&self.server.into());
        // The connection is being established; the socket becomes writable when it is.
        if let Err(error) = connecting
            && error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32)
        {
            return Err(error);
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(number), interest)?;
        self.clients.push(Client {
            stream: Some(stream),
            job,
            is_open: false,
            seen: Seen::default(),
            rest: Vec::new(),
        });
        Ok(())
    }

    /// Polls once; returns how many sockets had events.
    fn poll_once(&mut self) -> io::Result<usize> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(POLL_TIMEOUT))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        let mut events = 0;
        for event in &self.events {
            events += 1;
            let client = &mut self.clients[event.token().0];
            if event.is_writable() && !client.is_open {
                client.send_handshake(self.server);
            }
            if !event.is_readable() && !event.is_error() {
                continue;
            }
            let was_ready = client.seen.any();
            match client.read(&mut self.buffer, &mut self.tally) {
                ReadOutcome::Drained => {}
                ReadOutcome::Closed => self.closed += 1,
                ReadOutcome::Failed(failure) => {
                    self.broken += 1;
                    self.failure = failure;
                }
            }
            self.ready += usize::from(!was_ready && client.seen.any());
        }
        Ok(events)
    }
}

/// The outcome of a read.
enum ReadOutcome {
    /// Everything available was read.
    Drained,
    /// The server closed the socket with 1000.
    Closed,
    /// The connection ended in another way.
    Failed(String),
}

impl Client {
    /// Sends the WebSocket handshake. The key is constant: nothing here depends on the response to it.
    fn send_handshake(&mut self, server: SocketAddr) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let request = format!(
            "GET /ws/{}?close=end HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            name(self.job)
        );
        self.is_open = true;
        // The response shows whether it arrived. The buffer of a new socket is large enough.
        let _ = stream.write(request.as_bytes());
    }

    fn read(&mut self, buffer: &mut [u8], tally: &mut Tally) -> ReadOutcome {
        loop {
            let Some(stream) = &mut self.stream else {
                return ReadOutcome::Drained;
            };
            let read = match stream.read(buffer) {
                Ok(0) => return self.fail("end of stream".to_owned()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return ReadOutcome::Drained,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.fail(error.to_string()),
            };
            match self.process(&buffer[..read], tally) {
                ReadOutcome::Drained => {}
                end => {
                    self.stream = None;
                    return end;
                }
            }
            // A short read means that the socket is drained: mio reports the next bytes as a new event.
            if read < buffer.len() {
                return ReadOutcome::Drained;
            }
        }
    }

    fn fail(&mut self, failure: String) -> ReadOutcome {
        self.stream = None;
        ReadOutcome::Failed(failure)
    }

    /// Processes bytes that arrived.
    fn process(&mut self, bytes: &[u8], tally: &mut Tally) -> ReadOutcome {
        let mut before = std::mem::take(&mut self.rest);
        let mut data = if before.is_empty() {
            bytes
        } else {
            before.extend_from_slice(bytes);
            before.as_slice()
        };
        if data.starts_with(b"HTTP/1.1 ") {
            let Some(end) = memmem::find(data, b"\r\n\r\n") else {
                self.rest = data.to_vec();
                return ReadOutcome::Drained;
            };
            if !data.starts_with(b"HTTP/1.1 101") {
                return ReadOutcome::Failed(String::from_utf8_lossy(data).into_owned());
            }
            data = &data[end + 4..];
        }
        while let Some(frame) = frames::take(&mut data) {
            match (frame.kind, &mut self.stream) {
                (frames::TEXT, _) => tally.text(self.job, &mut self.seen, frame.payload),
                (frames::CLOSING, Some(stream)) => {
                    let _ = stream.write(&frames::CLOSE);
                    let code = frame.payload.first_chunk();
                    return match code.map_or(1005, |code| u16::from_be_bytes(*code)) {
                        1000 => ReadOutcome::Closed,
                        code => ReadOutcome::Failed(format!("closed with {code}")),
                    };
                }
                (frames::PING, Some(stream)) => {
                    // A server that does not receive this closes the connection later.
                    let _ = stream.write(&frames::PONG);
                }
                _ => {}
            }
        }
        if !data.is_empty() {
            self.rest = data.to_vec();
        }
        ReadOutcome::Drained
    }
}

/// The result of a thread. Resumes its panic, if it panicked.
pub(crate) fn join<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
