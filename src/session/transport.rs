use std::io::{self, Read, Write};
use std::net::Shutdown;

use bytes::BytesMut;
use hyper_tungstenite::HyperWebsocketStream;
use hyper_util::rt::TokioIo;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use tokio::net::TcpStream as TokioStream;
use tokio_rustls::server::TlsStream;

use super::encrypted::EncryptedStream;
use super::handshake::HeldHandshake;

/// A client's connection, with or without TLS. It never blocks.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    /// Boxed, because it is large and most connections are plain: a proxy adds TLS.
    Encrypted(Box<EncryptedStream>),
}

/// A connection on its way to a shard.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) transport: Transport,
    /// The response to the handshake, which has not been sent.
    pub(super) response: BytesMut,
    /// What the client has sent already.
    pub(super) early: Vec<u8>,
}

impl Transport {
    /// Takes the connection back from hyper after the upgrade.
    pub(super) fn from_upgraded(socket: HyperWebsocketStream) -> io::Result<Handover> {
        let upgraded = socket.into_inner().into_inner();
        let upgraded = match upgraded.downcast::<TokioIo<HeldHandshake<TokioStream>>>() {
            Ok(parts) => {
                let (stream, response) = parts.io.into_inner().into_parts();
                return Ok(Handover {
                    transport: Self::Plain(into_mio(stream)?),
                    response,
                    early: parts.read_buf.into(),
                });
            }
            Err(upgraded) => upgraded,
        };
        let parts = upgraded
            .downcast::<TokioIo<HeldHandshake<TlsStream<TokioStream>>>>()
            .map_err(|_| io::Error::other("the connection is neither TCP nor TLS"))?;
        let (stream, response) = parts.io.into_inner().into_parts();
        let (stream, session) = stream.into_inner();
        let stream = EncryptedStream::new(session, into_mio(stream)?);
        Ok(Handover {
            transport: Self::Encrypted(Box::new(stream)),
            response,
            early: parts.read_buf.into(),
        })
    }

    /// The TCP connection, if frames can be written to it as they are.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Encrypted(_) => None,
        }
    }

    /// Whether it holds bytes that the socket has not accepted.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Encrypted(stream) => stream.has_unsent(),
        }
    }

    /// Whether the last read ended before the socket was empty, so that no event announces the rest.
    pub(super) fn take_paused(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Encrypted(stream) => stream.take_paused(),
        }
    }

    /// Closes the connection for writing. It can still be read from.
    pub(super) fn shut_down_write(&mut self) {
        if let Self::Encrypted(stream) = self {
            stream.send_close_notify();
        }
        // Fails if the client has closed the connection, which is as good.
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Encrypted(stream) => stream.socket(),
        }
    }
}

fn into_mio(stream: TokioStream) -> io::Result<TcpStream> {
    Ok(TcpStream::from_std(stream.into_std()?))
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
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

    /// Writes the bytes that are held here.
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
