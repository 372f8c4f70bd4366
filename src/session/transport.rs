use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use bytes::BytesMut;
use hyper_tungstenite::HyperWebsocketStream;
use hyper_util::rt::TokioIo;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ServerConnection, StreamOwned};
use tokio::net::TcpStream as TokioStream;
use tokio_rustls::server::TlsStream;

use super::handshake::HeldHandshake;

/// A client's connection. It never blocks.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    /// Rare enough to cost more.
    Encrypted(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// A connection on its way to a shard.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) transport: Transport,
    /// The answer to the handshake, which has not been sent.
    pub(super) answer: BytesMut,
    /// What the client has said already.
    pub(super) early: Vec<u8>,
}

impl Transport {
    /// Takes the connection back from the server that has shaken hands on it.
    pub(super) fn from_upgraded(socket: HyperWebsocketStream) -> io::Result<Handover> {
        let upgraded = socket.into_inner().into_inner();
        let upgraded = match upgraded.downcast::<TokioIo<HeldHandshake<TokioStream>>>() {
            Ok(parts) => {
                let (stream, answer) = parts.io.into_inner().into_parts();
                return Ok(Handover {
                    transport: Self::Plain(detach(stream)?),
                    answer,
                    early: parts.read_buf.into(),
                });
            }
            Err(upgraded) => upgraded,
        };
        let parts = upgraded
            .downcast::<TokioIo<HeldHandshake<TlsStream<TokioStream>>>>()
            .map_err(|_| io::Error::other("the connection is of an unknown kind"))?;
        let (stream, answer) = parts.io.into_inner().into_parts();
        let (stream, mut session) = stream.into_inner();
        // A frame is taken whole: else its rest would wait for a socket that never was full.
        session.set_buffer_limit(None);
        let stream = StreamOwned::new(session, detach(stream)?);
        Ok(Handover {
            transport: Self::Encrypted(Box::new(stream)),
            answer,
            early: parts.read_buf.into(),
        })
    }

    /// The connection itself, where frames can be written to it as they are.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Encrypted(_) => None,
        }
    }

    /// Whether something that was written is still held here.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Encrypted(stream) => stream.conn.wants_write(),
        }
    }

    /// Says that nothing more will be written. What the client sends still can be read.
    pub(super) fn shut_down_write(&mut self) {
        if let Self::Encrypted(stream) = self {
            stream.conn.send_close_notify();
            // Where it is not taken at once, it is more than the client would read.
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

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            // What cannot be decrypted is no message, and its client cannot be told.
            Self::Encrypted(stream) => stream.read(buffer).map_err(|error| match error.kind() {
                ErrorKind::InvalidData => ErrorKind::ConnectionAborted.into(),
                _ => error,
            }),
        }
    }
}

impl Write for Transport {
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

impl Source for Transport {
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
