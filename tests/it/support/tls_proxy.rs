//! A reverse proxy in front of a server: it encrypts, serves a folder, and asks for credentials.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The folder that it serves.
pub(crate) const FOLDER: &str = "/comfy";

/// Forwards what is below [`FOLDER`] to a server, over TLS, for callers with the right credentials.
pub(crate) struct TlsProxy {
    address: SocketAddr,
    folder: TempDir,
    _serving: JoinSet<()>,
}

impl TlsProxy {
    /// In front of the server at `target`. Answers 401 to requests whose `Authorization` is another one.
    pub(crate) async fn before(target: &str, authorization: &'static str) -> Self {
        let target = target.strip_prefix("http://").unwrap();
        let target: SocketAddr = target.trim_end_matches('/').parse().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        serving.spawn(serve(listener, acceptor, target, authorization));
        Self {
            address,
            folder,
            _serving: serving,
        }
    }

    /// Its address; `credentials` is empty or `USER:PASSWORD@`.
    pub(crate) fn url(&self, credentials: &str) -> String {
        format!("https://{credentials}{}{FOLDER}", self.address)
    }

    /// A file with the authority that has signed its certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    target: SocketAddr,
    authorization: &'static str,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // Fails if the client does not trust the certificate.
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = forward(stream, target, authorization).await;
            }
        });
    }
}

/// Forwards one request, and all that follows it if it is an upgrade.
async fn forward(
    mut client: TlsStream<TcpStream>,
    target: SocketAddr,
    authorization: &str,
) -> std::io::Result<()> {
    let mut received = Vec::new();
    let head_length = loop {
        if client.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if let Some(at) = memchr::memmem::find(&received, b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8(received[..head_length].to_vec()).unwrap();
    let (request_line, headers) = head.split_once("\r\n").unwrap();
    let header = |wanted: &str| {
        let mut headers = headers.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    if header("authorization").unwrap_or_default() != authorization {
        let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        client.write_all(refusal.as_bytes()).await?;
        return client.shutdown().await;
    }
    let (before, path) = request_line.split_once(FOLDER).unwrap();
    // One request for each connection, so that the next one is checked as well.
    let close = if header("upgrade").is_some() {
        ""
    } else {
        "\r\nconnection: close"
    };
    let mut server = TcpStream::connect(target).await?;
    let head = format!("{before}{path}\r\n{headers}{close}");
    server.write_all(head.as_bytes()).await?;
    server.write_all(&received[head_length..]).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
