//! TLS: the certificate, and its reload.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;
use crate::watched_file::WatchedFile;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file cannot be read, or has no certificate.
    #[error("cannot read the certificate from {path} (--tls-cert, TLS_CERT)")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// The key file cannot be read, or has no private key.
    #[error("cannot read the private key from {path} (--tls-key, TLS_KEY)")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// The key is not that of the certificate, or one of them is of an unsupported kind.
    #[error("cannot use the certificate {certificate} with the private key {key}")]
    Mismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// Encrypts connections with the newest certificate that could be loaded.
#[derive(Debug)]
pub(super) struct Tls {
    config: TlsConfig,
    current: RwLock<Arc<rustls::ServerConfig>>,
    files: WatchedFile,
}

impl Tls {
    /// Reads certificate and key. Blocks.
    pub(super) fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let files = WatchedFile::new(vec![config.certificate.clone(), config.key.clone()]);
        Ok(Self {
            config: config.clone(),
            current: RwLock::new(read(config)?),
            files,
        })
    }

    /// Performs the handshake of a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(current.clone())
    }

    /// Reads the files again if they have changed. If they cannot be used, as between the writing of one
    /// and of the other, the certificate before stays in use. Blocks.
    pub(super) fn refresh(&self) {
        if !self.files.has_changed() {
            return;
        }
        match read(&self.config) {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!("reloaded the certificate");
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("the certificate stays in use as it is: {error:#}");
            }
        }
    }
}

fn read(config: &TlsConfig) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let bad_certificate = |source| TlsError::Certificate {
        path: config.certificate.clone(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(&config.certificate).map_err(bad_certificate)?;
    let chain = chain
        .collect::<Result<Vec<_>, _>>()
        .map_err(bad_certificate)?;
    if chain.is_empty() {
        return Err(bad_certificate(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|source| TlsError::Key {
        path: config.key.clone(),
        source,
    })?;
    let mismatch = |source| TlsError::Mismatch {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        source,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(mismatch)?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut server = server.map_err(mismatch)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
