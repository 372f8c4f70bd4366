//! All subscribers, in one loop of one thread: cheap enough that the servers are the limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frames;
use crate::publisher::name;
use crate::tally::{Seen, Tally};

/// How many connections are being opened at once. A listener whose backlog is shorter makes some of
/// them wait for a second.
const OPENING: usize = 256;

/// How many loopback addresses the subscribers come from.
const ADDRESSES: usize = 32;

/// How much is read at once.
const BUFFER: usize = 64 << 10;

/// How long nothing may arrive before no more is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one look for news waits.
const LOOK: Duration = Duration::from_millis(20);

struct Client {
    stream: Option<TcpStream>,
    job: usize,
    is_open: bool,
    seen: Seen,
    /// The beginning of a frame whose rest has not come.
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
    /// How many have been shown a state.
    pub(crate) ready: usize,
    /// How many the server closed with 1000.
    pub(crate) closed: usize,
    /// How many broke off, or were closed with another code.
    pub(crate) broken: usize,
    /// How the last one of them did.
    breach: String,
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
            breach: String::new(),
        })
    }

    /// Opens a subscriber of each of these jobs, until each has been shown a state. Tells how long it
    /// took.
    pub(crate) fn open(&mut self, jobs: &[usize]) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let known = self.clients.len();
        let total = known + jobs.len();
        let mut heard = Instant::now();
        while self.ready < total {
            while self.clients.len() < total && self.clients.len() < self.ready + OPENING {
                self.connect(jobs[self.clients.len() - known])
                    .context("cannot open a subscriber")?;
            }
            if self.look()? > 0 {
                heard = Instant::now();
            }
            anyhow::ensure!(
                self.broken == 0 && heard.elapsed() < PATIENCE,
                "{} of {total} subscribers were served, {} broke off: {}",
                self.ready,
                self.broken,
                self.breach
            );
        }
        Ok(began.elapsed())
    }

    /// Lets all subscribers of a job leave at once, without a word.
    pub(crate) fn leave(&mut self, job: usize) {
        let leaving = self.clients.iter_mut().filter(|client| client.job == job);
        leaving.for_each(|client| client.stream = None);
    }

    /// Listens until something is so, or nothing comes any more.
    pub(crate) fn listen(&mut self, mut until: impl FnMut(&Self) -> bool) -> anyhow::Result<bool> {
        let mut heard = Instant::now();
        while !until(self) {
            if self.look()? > 0 {
                heard = Instant::now();
            }
            if heard.elapsed() > PATIENCE {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a subscriber from an address of its turn. The port is chosen at the binding.
    fn connect(&mut self, job: usize) -> io::Result<()> {
        let number = self.clients.len();
        let own = Ipv4Addr::new(127, 0, 0, 2 + (number % ADDRESSES) as u8);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((own, 0)).into())?;
        let mut stream = TcpStream::from_std(socket.into());
        let connecting = socket2::SockRef::from(&stream).connect(&self.server.into());
        // The connection is being made: the socket can be written to when it is.
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

    /// One look for news: how many sockets had some.
    fn look(&mut self) -> io::Result<usize> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(LOOK))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        let mut looked = 0;
        for event in &self.events {
            looked += 1;
            let client = &mut self.clients[event.token().0];
            if event.is_writable() && !client.is_open {
                client.ask(self.server);
            }
            if !event.is_readable() && !event.is_error() {
                continue;
            }
            let was_ready = client.seen.any();
            match client.read(&mut self.buffer, &mut self.tally) {
                Heard::All => {}
                Heard::End => self.closed += 1,
                Heard::Breach(breach) => {
                    self.broken += 1;
                    self.breach = breach;
                }
            }
            self.ready += usize::from(!was_ready && client.seen.any());
        }
        Ok(looked)
    }
}

/// What came of reading.
enum Heard {
    /// All that was there was read.
    All,
    /// The socket was closed with 1000.
    End,
    /// It ended in another way.
    Breach(String),
}

impl Client {
    /// Asks for the WebSocket. The key is always the same: its answer proves nothing here.
    fn ask(&mut self, server: SocketAddr) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let request = format!(
            "GET /ws/{} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            name(self.job)
        );
        self.is_open = true;
        // Whether it arrived shows in the answer. A new socket's buffer holds it whole.
        let _ = stream.write(request.as_bytes());
    }

    fn read(&mut self, buffer: &mut [u8], tally: &mut Tally) -> Heard {
        loop {
            let Some(stream) = &mut self.stream else {
                return Heard::All;
            };
            let read = match stream.read(buffer) {
                Ok(0) => return self.end("the end of the stream".to_owned()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::All,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.end(error.to_string()),
            };
            match self.take(&buffer[..read], tally) {
                Heard::All => {}
                end => {
                    self.stream = None;
                    return end;
                }
            }
            // Less than there was room for: there is no more. The next that comes is told anew.
            if read < buffer.len() {
                return Heard::All;
            }
        }
    }

    fn end(&mut self, breach: String) -> Heard {
        self.stream = None;
        Heard::Breach(breach)
    }

    /// Takes what came.
    fn take(&mut self, came: &[u8], tally: &mut Tally) -> Heard {
        let mut before = std::mem::take(&mut self.rest);
        let mut data = match before.is_empty() {
            true => came,
            false => {
                before.extend_from_slice(came);
                before.as_slice()
            }
        };
        if data.starts_with(b"HTTP/1.1 ") {
            let Some(end) = memmem::find(data, b"\r\n\r\n") else {
                self.rest = data.to_vec();
                return Heard::All;
            };
            if !data.starts_with(b"HTTP/1.1 101") {
                return Heard::Breach(String::from_utf8_lossy(data).into_owned());
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
                        1000 => Heard::End,
                        code => Heard::Breach(format!("closed with {code}")),
                    };
                }
                (frames::PING, Some(stream)) => {
                    // A server that does not take this misses it soon enough.
                    let _ = stream.write(&frames::PONG);
                }
                _ => {}
            }
        }
        if !data.is_empty() {
            self.rest = data.to_vec();
        }
        Heard::All
    }
}
