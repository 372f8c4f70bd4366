//! The encryption of connections.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;
use crate::watched_file::WatchedFile;

/// Why connections cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with the certificate is missing, or holds none.
    #[error("cannot read the certificate from {path} (--tls-cert, TLS_CERT)")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// The file with the key is missing, or holds none.
    #[error("cannot read the private key from {path} (--tls-key, TLS_KEY)")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// The two do not go together, or are of a kind that is not supported.
    #[error("the certificate {certificate} and the private key {key} are of no use")]
    Unfit {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// Encrypts connections with the newest certificate that made sense.
#[derive(Debug)]
pub(super) struct Tls {
    config: TlsConfig,
    current: RwLock<Arc<rustls::ServerConfig>>,
    /// Of the files when they were last read.
    stamp: Mutex<WatchedFile>,
}

impl Tls {
    /// Reads certificate and key.
    pub(super) fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let stamp = stamp(config);
        Ok(Self {
            config: config.clone(),
            current: RwLock::new(read(config)?),
            stamp: Mutex::new(stamp),
        })
    }

    /// Greets a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(current.clone())
    }

    /// Reads the files again where they have changed. What makes no sense is told, and the certificate
    /// before stays; so it does between the writing of the two files. Blocks.
    pub(super) fn refresh(&self) {
        let stamp = stamp(&self.config);
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == stamp {
            return;
        }
        *known = stamp;
        match read(&self.config) {
            Ok(config) => {
                tracing::info!("the certificate was read again");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("the certificate stays as it was: {error:#}");
            }
        }
    }
}

fn stamp(config: &TlsConfig) -> WatchedFile {
    WatchedFile::of([config.certificate.as_path(), config.key.as_path()])
}

fn read(config: &TlsConfig) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let wrong_certificate = |source| TlsError::Certificate {
        path: config.certificate.clone(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(&config.certificate).map_err(wrong_certificate)?;
    let chain = chain
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong_certificate)?;
    if chain.is_empty() {
        return Err(wrong_certificate(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|source| TlsError::Key {
        path: config.key.clone(),
        source,
    })?;
    let unfit = |source| TlsError::Unfit {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        source,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut server = server.map_err(unfit)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
