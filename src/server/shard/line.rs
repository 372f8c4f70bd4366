use std::io::{self, Read, Write};
use std::net::Shutdown;

use hyper_tungstenite::HyperWebsocketStream;
use hyper_util::rt::TokioIo;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// A client's connection. It never blocks.
#[derive(Debug)]
pub(super) struct Line(TcpStream);

impl Line {
    /// Takes the connection back from the server that has shaken hands on it, and what the client has
    /// said since.
    pub(super) fn from_upgraded(socket: HyperWebsocketStream) -> io::Result<(Self, Vec<u8>)> {
        let upgraded = socket.into_inner().into_inner();
        let parts = upgraded
            .downcast::<TokioIo<tokio::net::TcpStream>>()
            .map_err(|_| io::Error::other("the connection is of an unknown kind"))?;
        let stream = parts.io.into_inner().into_std()?;
        Ok((Self(TcpStream::from_std(stream)), parts.read_buf.to_vec()))
    }

    /// What batches of writes need: the connection itself.
    pub(super) fn plain(&self) -> &TcpStream {
        &self.0
    }

    /// Says that nothing more will be written. What the client sends still can be read.
    pub(super) fn finish(&self) {
        // Fails where the client has gone, which is what it is for.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Line {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Line {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }
}
