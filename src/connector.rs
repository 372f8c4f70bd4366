//! How the program connects to servers: which certificates it trusts, and how it authenticates.

mod networks;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, InvalidHeaderValue};
use reqwest::{Client, ClientBuilder, StatusCode, redirect};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_tls_with_config as open_websocket,
    connect_async_tls_with_config as connect_websocket,
};
use url::Url;

pub use networks::{Networks, PlaceError};

/// A WebSocket that this program has opened, over TCP or TLS.
pub type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why the certificates of a CA file cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// The file is missing, is not PEM, or holds no certificate.
    #[error("cannot read certificates from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// One of its certificates cannot be an authority's.
    #[error("cannot trust a certificate in {path}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// Opens HTTP and WebSocket connections with one TLS configuration and one set of credentials. Cheap to
/// clone.
#[derive(Clone)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    authorization: Option<HeaderValue>,
    /// Where servers may be; `None` for anywhere.
    networks: Option<Networks>,
}

impl Connector {
    /// Trusts the certificate authorities in `ca_file` (PEM, one or several) and, if `is_encrypted`, the
    /// system's. Without an `https` server these are never needed, and reading them takes milliseconds.
    pub fn new(ca_file: Option<&Path>, is_encrypted: bool) -> Result<Self, CaFileError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = ca_file {
            add_file(&mut roots, path)?;
        }
        if is_encrypted {
            add_system(&mut roots);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CaFileError::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            authorization: None,
            networks: None,
        })
    }

    /// The same, with an `Authorization` header in every request and every WebSocket handshake.
    pub fn with_authorization(self, authorization: Option<HeaderValue>) -> Self {
        Self {
            authorization,
            ..self
        }
    }

    /// The same, that connects to no server outside of these networks, whatever its name stands for at the moment. Addresses
    /// that are no names are checked by [`Networks::may_contain`].
    pub fn within(self, networks: Networks) -> Self {
        Self {
            networks: Some(networks),
            ..self
        }
    }

    /// An HTTP client to be built. It follows no redirects, so that only the configured server ever gets
    /// the credentials, and uses no proxy.
    pub fn http_client(&self) -> ClientBuilder {
        let headers: HeaderMap = self
            .authorization
            .iter()
            .map(|value| (AUTHORIZATION, value.clone()))
            .collect();
        let client = Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&self.tls))
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .no_proxy();
        match &self.networks {
            Some(networks) => client.dns_resolver(Arc::new(networks.clone())),
            None => client,
        }
    }

    /// Opens a WebSocket at an `http` or `https` URL. Dropping the future gives the attempt up.
    pub async fn websocket(
        &self,
        url: &Url,
        config: WebSocketConfig,
    ) -> tungstenite::Result<WebSocket> {
        let mut request = websocket_url(url).as_str().into_client_request()?;
        if let Some(authorization) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let tls = tokio_tungstenite::Connector::Rustls(self.tls.clone());
        let (socket, _) = match &self.networks {
            None => connect_websocket(request, Some(config), true, Some(tls)).await?,
            Some(networks) => {
                let stream = networks.connect(url).await?;
                stream.set_nodelay(true)?;
                open_websocket(request, stream, Some(config), Some(tls)).await?
            }
        };
        Ok(socket)
    }
}

/// Without the credentials.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// The `Authorization` header of RFC 7617 for `USER:PASSWORD`.
pub fn basic(credentials: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    sensitive(&format!("Basic {}", BASE64_STANDARD.encode(credentials)))
}

/// The `Authorization` header of RFC 6750. Fails if the token holds characters that no header can.
pub fn bearer(token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

/// Why a WebSocket could not be opened; `ca_option` and `auth_option` name the settings that help.
pub fn explain(error: &tungstenite::Error, ca_option: &str, auth_option: &str) -> String {
    if let tungstenite::Error::Http(response) = error {
        let status = response.status();
        let answered = format!("the server answered the WebSocket handshake with {status}");
        let kind = response.headers().get(CONTENT_TYPE);
        let is_page = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        return match status {
            StatusCode::UNAUTHORIZED => {
                format!("{answered}; it needs credentials ({auth_option})")
            }
            _ if status.is_redirection() => {
                format!(
                    "{answered}; redirects are not followed, so give the address that it leads to"
                )
            }
            StatusCode::NOT_FOUND => format!("{answered}; is the address that of the server?"),
            _ if is_page => format!("{answered} and an HTML page, perhaps of a proxy before it"),
            _ => answered,
        };
    }
    explain_certificate(error, ca_option).unwrap_or_else(|| error.to_string())
}

/// Why the server's certificate was refused, if that is why a connection failed.
pub fn explain_certificate(error: &(dyn Error + 'static), ca_option: &str) -> Option<String> {
    match certificate_error(error)? {
        CertificateError::UnknownIssuer => Some(format!(
            "the server's certificate is signed by an unknown authority; give the authority's certificate \
             ({ca_option})"
        )),
        reason => Some(format!("the server's certificate is not valid: {reason}")),
    }
}

fn certificate_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(reason);
        }
        // The source of an I/O error leaves out the error that it wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// `ws` for `http`, `wss` for `https`.
fn websocket_url(url: &Url) -> Url {
    let mut url = url.clone();
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    // Always possible between these schemes.
    let _ = url.set_scheme(scheme);
    url
}

/// Keeps the value out of debug output.
fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), CaFileError> {
    let unreadable = |source| CaFileError::Read {
        path: path.to_owned(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    for certificate in certificates {
        let added = roots.add(certificate.map_err(unreadable)?);
        added.map_err(|source| CaFileError::Invalid {
            path: path.to_owned(),
            source,
        })?;
    }
    if roots.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    Ok(())
}

/// A system without certificates, such as a small container, is not an error: a CA file may be enough.
fn add_system(roots: &mut RootCertStore) {
    let system = rustls_native_certs::load_native_certs();
    for error in system.errors {
        tracing::debug!(%error, "cannot read some of the system's certificate authorities");
    }
    let (added, _) = roots.add_parsable_certificates(system.certs);
    if added == 0 {
        tracing::warn!(
            "the system has no certificate authorities; only those of a CA file are trusted"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_printed() {
        let authorization = basic("me:secret").unwrap();
        assert_eq!(authorization.to_str().unwrap(), "Basic bWU6c2VjcmV0");
        let connector = Connector::new(None, false).unwrap();
        let connector = connector.with_authorization(Some(authorization.clone()));
        let client = connector.http_client().build().unwrap();
        let printed = format!("{authorization:?} {connector:?} {client:?}");
        assert!(!printed.contains("bWU6"), "{printed}");
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        assert!(Connector::new(Some(&file), false).is_err());
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "no certificate", garbled] {
            std::fs::write(&file, text).unwrap();
            let error = Connector::new(Some(&file), false).unwrap_err();
            assert!(error.to_string().contains("ca.pem"), "{error}");
        }
    }
}
