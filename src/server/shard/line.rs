use std::io::{self, Read, Write};
use std::net::Shutdown;

use hyper_tungstenite::HyperWebsocketStream;
use hyper_util::rt::TokioIo;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ServerConnection, StreamOwned};
use tokio::net::TcpStream as TokioStream;
use tokio_rustls::server::TlsStream;

/// A client's connection. It never blocks.
#[derive(Debug)]
pub(super) enum Line {
    Plain(TcpStream),
    /// Rare enough to cost more.
    Encrypted(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Line {
    /// Takes the connection back from the server that has shaken hands on it, and what the client has
    /// said since.
    pub(super) fn from_upgraded(socket: HyperWebsocketStream) -> io::Result<(Self, Vec<u8>)> {
        let upgraded = socket.into_inner().into_inner();
        let upgraded = match upgraded.downcast::<TokioIo<TokioStream>>() {
            Ok(parts) => {
                let stream = detach(parts.io.into_inner())?;
                return Ok((Self::Plain(stream), parts.read_buf.into()));
            }
            Err(upgraded) => upgraded,
        };
        let parts = upgraded
            .downcast::<TokioIo<TlsStream<TokioStream>>>()
            .map_err(|_| io::Error::other("the connection is of an unknown kind"))?;
        let (stream, session) = parts.io.into_inner().into_inner();
        let stream = StreamOwned::new(session, detach(stream)?);
        Ok((Self::Encrypted(Box::new(stream)), parts.read_buf.into()))
    }

    /// The connection itself, where frames can be written to it as they are.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Encrypted(_) => None,
        }
    }

    /// Whether something that was written is still held here.
    pub(super) fn has_backlog(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Encrypted(stream) => stream.conn.wants_write(),
        }
    }

    /// Says that nothing more will be written. What the client sends still can be read.
    pub(super) fn finish(&mut self) {
        if let Self::Encrypted(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        // Fails where the client has gone, which is what it is for.
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Encrypted(stream) => &mut stream.sock,
        }
    }
}

fn detach(stream: TokioStream) -> io::Result<TcpStream> {
    Ok(TcpStream::from_std(stream.into_std()?))
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(data),
            Self::Encrypted(stream) => stream.write(data),
        }
    }

    /// Writes what is held here.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}

impl Source for Line {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket().register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket().reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket().deregister(registry)
    }
}
