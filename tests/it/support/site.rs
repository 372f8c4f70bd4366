//! A web server with TLS in front of relays, as the documents configure it.

use std::any::Any;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures_util::StreamExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};

use super::nginx::Nginx;
use super::tokens::upgrade;
use super::tool::{installed, skip};
use super::wait::wait_until;

/// A web server on a port of loopback, with a certificate of its own. Stopped on drop.
pub(crate) struct Site {
    _server: Box<dyn Any + Send + Sync>,
    port: u16,
    certificate: CertificateDer<'static>,
}

/// What the configuration of a site names.
pub(crate) struct SiteFiles {
    folder: TempDir,
    der: CertificateDer<'static>,
    pub(crate) port: u16,
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// The certificate and its key in one file.
    pub(crate) both: String,
}

/// A process that is killed on drop.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first block of a document in a language.
pub(crate) fn documented(document: &str, language: &str) -> String {
    let text = std::fs::read_to_string(document).unwrap();
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("\n```").unwrap().0.to_owned() + "\n"
}

impl SiteFiles {
    pub(crate) fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name).to_str().unwrap().to_owned();
            std::fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = (cert.pem(), signing_key.serialize_pem());
        Self {
            port,
            certificate: write("cert.pem", &certificate),
            key: write("key.pem", &key),
            both: write("both.pem", &(certificate + &key)),
            der: cert.der().clone(),
            folder,
        }
    }

    /// Starts nginx with what stands in its `http` block; `None` on a machine without it.
    pub(crate) async fn nginx(self, http: &str) -> Option<Site> {
        let server = Nginx::start(self.folder, self.port, http).await?;
        Some(Site {
            _server: Box::new(server),
            port: self.port,
            certificate: self.der,
        })
    }

    /// Starts Caddy; `None` on a machine without it.
    pub(crate) async fn caddy(self, config: &str) -> Option<Site> {
        let program = installed("caddy")?;
        // Without this it would change the system's store of certificates, and listen on further ports.
        let config = format!(
            "{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n{config}"
        );
        let arguments = ["run", "--adapter", "caddyfile", "--config"];
        self.start(&program, &arguments, &config).await
    }

    /// Starts HAProxy; `None` on a machine without it.
    pub(crate) async fn haproxy(self, config: &str) -> Option<Site> {
        let program = Path::new("/usr/sbin/haproxy");
        if !program.exists() {
            skip("haproxy", "apt-get install haproxy");
            return None;
        }
        self.start(program, &["-db", "-f"], config).await
    }

    async fn start(self, program: &Path, arguments: &[&str], config: &str) -> Option<Site> {
        let file: PathBuf = self.folder.path().join("config");
        std::fs::write(&file, config).unwrap();
        let process = Command::new(program)
            .args(arguments)
            .arg(&file)
            .env("HOME", self.folder.path())
            .env("XDG_DATA_HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process(process);
        wait_until("the site listens", async || {
            let address = (Ipv4Addr::LOCALHOST, self.port);
            TcpStream::connect(address).await.is_ok()
        })
        .await;
        Some(Site {
            _server: Box::new((process, self.folder)),
            port: self.port,
            certificate: self.der,
        })
    }
}

impl Site {
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(crate) fn client(&self) -> Client {
        let certificate = Certificate::from_der(&self.certificate).unwrap();
        let client = Client::builder().no_proxy();
        client.add_root_certificate(certificate).build().unwrap()
    }

    /// Opens a socket, as a page of the site.
    pub(crate) async fn open(&self, url: &str) -> Option<SiteSocket> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let connector = Connector::Rustls(Arc::new(config.with_no_client_auth()));
        let page = upgrade(url, &[("origin", &self.url())]);
        let opening = connect_async_tls_with_config(page, None, false, Some(connector));
        opening.await.ok().map(|(socket, _)| SiteSocket(socket))
    }
}

/// A socket through a site.
pub(crate) struct SiteSocket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl SiteSocket {
    /// The next message, or the code with which the socket is closed; `None` if it is cut.
    pub(crate) async fn next(&mut self) -> Option<Result<Value, CloseCode>> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Text(text) => return Some(Ok(serde_json::from_str(&text).unwrap())),
                Message::Close(frame) => return Some(Err(frame?.code)),
                _ => {}
            }
        }
    }

    /// Reads up to the completed state of a job.
    pub(crate) async fn completes(&mut self) {
        loop {
            let message = self.next().await.expect("closed before the end").unwrap();
            if message["status"] == "completed" {
                return;
            }
        }
    }
}
