use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;
use rustls::ServerConnection;

/// How many encrypted bytes of one client are read before other clients have their turn.
const MAX_BYTES_PER_TURN: usize = 64 << 10;

/// How many encrypted bytes a client may send in advance of the application data in them. TLS lets a client send
/// any number of records without data, such as key updates, each of which costs the receiver far more than the
/// client.
const MAX_SILENT_BYTES: usize = 64 << 10;

/// How many encrypted bytes each byte of application data allows. The shortest frame of a WebSocket client, in a
/// record of its own, takes five.
const WIRE_BYTES_PER_BYTE: usize = 8;

/// A TLS connection over a socket that never blocks. Memory and time that one client can take are bounded: at most
/// 64 KiB wait to be sent (the default of `rustls`), and a client that sends records without data is disconnected.
#[derive(Debug)]
pub(super) struct EncryptedStream {
    session: ServerConnection,
    socket: TcpStream,
    /// The encrypted bytes that were read in this turn.
    read_in_turn: usize,
    /// The encrypted bytes that came in advance of application data.
    silent: usize,
    /// The turn ended before the socket was empty.
    is_paused: bool,
}

impl EncryptedStream {
    /// Continues a connection whose handshake is done.
    pub(super) fn new(session: ServerConnection, socket: TcpStream) -> Self {
        Self {
            session,
            socket,
            read_in_turn: 0,
            silent: 0,
            is_paused: false,
        }
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Whether bytes wait until the socket accepts them.
    pub(super) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Whether a read ended before the socket was empty: no event announces the rest. Begins the next turn.
    pub(super) fn take_paused(&mut self) -> bool {
        std::mem::take(&mut self.is_paused)
    }

    /// Ends the connection for writing.
    pub(super) fn send_close_notify(&mut self) {
        self.session.send_close_notify();
        // If the socket does not accept it now, the client does not read.
        let _ = self.flush();
    }

    /// Decrypts what the socket has. Returns how many bytes that were; 0 at its end.
    fn receive(&mut self) -> io::Result<usize> {
        if self.read_in_turn >= MAX_BYTES_PER_TURN {
            (self.read_in_turn, self.is_paused) = (0, true);
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = match self.session.read_tls(&mut self.socket) {
            Ok(count) => count,
            Err(error) => {
                self.read_in_turn = 0;
                return Err(error);
            }
        };
        self.read_in_turn += count;
        self.silent += count;
        if self.session.process_new_packets().is_err() {
            // Says why, if the socket accepts it. Nothing else can be sent after a broken record.
            let _ = self.flush();
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok(count)
    }
}

impl Read for EncryptedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(count) => {
                    self.silent = self.silent.saturating_sub(count * WIRE_BYTES_PER_BYTE);
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
            if self.silent > MAX_SILENT_BYTES {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            if self.receive()? == 0 {
                return self.session.reader().read(buffer);
            }
        }
    }
}

impl Write for EncryptedStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut accepted = 0;
        loop {
            match self.flush() {
                // The rest goes out when the socket accepts more.
                Err(error) if error.kind() == ErrorKind::WouldBlock && accepted > 0 => {
                    return Ok(accepted);
                }
                flushed => flushed?,
            }
            if accepted == data.len() {
                return Ok(accepted);
            }
            accepted += self.session.writer().write(&data[accepted..])?;
        }
    }

    /// Sends what waits to be sent.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut self.socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

    use super::*;

    /// A client's session and its socket, and the relay's end of the connection.
    struct Pair {
        client: ClientConnection,
        socket: std::net::TcpStream,
        relay: EncryptedStream,
    }

    impl Pair {
        fn new() -> Self {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
            let server = ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(cert.der().clone()).unwrap();
            let client = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let handshake = std::thread::spawn(move || {
                let mut accepted = accepted;
                let mut session = rustls::ServerConnection::new(Arc::new(server)).unwrap();
                while session.is_handshaking() || session.wants_write() {
                    session.complete_io(&mut accepted).unwrap();
                }
                accepted.set_nonblocking(true).unwrap();
                EncryptedStream::new(session, TcpStream::from_std(accepted))
            });
            while client.is_handshaking() || client.wants_write() {
                client.complete_io(&mut socket).unwrap();
            }
            Self {
                client,
                socket,
                relay: handshake.join().unwrap(),
            }
        }

        fn send(&mut self) {
            while self.client.wants_write() {
                self.client.write_tls(&mut self.socket).unwrap();
            }
        }

        /// Reads at the relay until there is something, or an error other than that there is nothing yet.
        fn read(&mut self) -> io::Result<usize> {
            let mut buffer = [0; 1_024];
            loop {
                match self.relay.read(&mut buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.relay.take_paused();
                        std::thread::yield_now();
                    }
                    result => return result,
                }
            }
        }
    }

    #[test]
    fn what_a_slow_client_has_not_read_is_bounded() {
        let mut pair = Pair::new();
        let frame = vec![7; 16 << 20];
        let mut accepted = 0;
        while accepted < frame.len() {
            match pair.relay.write(&frame[accepted..]) {
                Ok(count) => accepted += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        // The rest is for the caller to keep: what is kept here would be a copy for each client.
        assert!(accepted < frame.len());
        let mut waiting = Vec::new();
        while pair.relay.has_unsent() {
            pair.relay.session.write_tls(&mut waiting).unwrap();
        }
        // A record adds 22 bytes to at most 16 KiB.
        assert!(waiting.len() <= (64 << 10) + 22 * 8, "{}", waiting.len());
    }

    #[test]
    fn a_frame_arrives_whole_in_spite_of_the_limit() {
        let mut pair = Pair::new();
        let frame: Vec<u8> = (0..3 << 20).map(|at: u32| at as u8).collect();
        let (mut accepted, mut received) = (0, Vec::new());
        while received.len() < frame.len() {
            match pair.relay.write(&frame[accepted..]) {
                Ok(count) => accepted += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            pair.client.read_tls(&mut pair.socket).unwrap();
            pair.client.process_new_packets().unwrap();
            let _ = pair.client.reader().read_to_end(&mut received);
        }
        assert!(received == frame);
    }

    #[test]
    fn a_flood_of_key_updates_ends_the_connection() {
        let mut pair = Pair::new();
        let ended = (0..1_000).find_map(|cycle| {
            // rustls itself ends a connection after 32 in a row.
            for _ in 0..31 {
                pair.client.refresh_traffic_keys().unwrap();
            }
            pair.client.writer().write_all(b"x").unwrap();
            pair.send();
            pair.read().err().map(|error| (cycle, error.kind()))
        });
        let (cycle, kind) = ended.unwrap();
        assert_eq!(kind, ErrorKind::ConnectionAborted);
        assert!(cycle < 100, "{cycle}");
    }

    #[test]
    fn short_messages_in_records_of_their_own_are_read() {
        let mut pair = Pair::new();
        for _ in 0..20_000 {
            pair.client.writer().write_all(b"frames").unwrap();
            pair.send();
            assert_eq!(pair.read().unwrap(), 6);
        }
    }

    #[test]
    fn a_turn_ends_before_the_socket_is_empty() {
        let mut pair = Pair::new();
        let mut paused = 0;
        let mut buffer = [0; 1_024];
        let mut left = 1 << 20;
        while left > 0 {
            if paused == 0 || pair.client.wants_write() {
                let _ = pair.client.writer().write(&[1; 32 << 10]);
            }
            pair.send();
            match pair.relay.read(&mut buffer) {
                Ok(count) => left -= count.min(left),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    paused += usize::from(pair.relay.take_paused());
                }
            }
        }
        assert!(paused > 0);
    }
}
