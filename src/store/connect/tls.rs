//! TLS to PostgreSQL: what of the server's certificate is checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::{PostgresConfig, SslMode, SslRoots};

/// Why TLS to PostgreSQL cannot be set up. Waiting does not heal it.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum TlsSetupError {
    /// The file with the authorities is missing, or is not PEM.
    #[error("cannot read certificates from {} (sslrootcert): {source}", path.display())]
    Roots { path: PathBuf, source: pem::Error },
    /// It holds no certificate that can be trusted.
    #[error("{} (sslrootcert) holds no certificate that can be trusted", path.display())]
    NoRoots { path: PathBuf },
    /// The operating system has no authorities.
    #[error("the system has no certificate authorities; name a file with sslrootcert")]
    NoSystemRoots,
    /// The library refuses the settings.
    #[error("cannot set up TLS: {0}")]
    Library(#[from] Error),
}

/// What of a certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    /// Nothing: the connection is encrypted, and the server may be anybody.
    Nothing,
    /// That an authority has signed it.
    Authority,
    /// That an authority has signed it for the host.
    AuthorityAndName,
}

/// The TLS settings for connections to a database.
pub(super) fn client_config(config: &PostgresConfig) -> Result<ClientConfig, TlsSetupError> {
    let checks = match (config.ssl_mode(), &config.ssl_roots) {
        (SslMode::VerifyFull, _) => Checks::AuthorityAndName,
        // As libpq does.
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => Checks::Authority,
        _ => Checks::Nothing,
    };
    let roots = match (checks, &config.ssl_roots) {
        (Checks::Nothing, _) => Roots::none(),
        (_, Some(SslRoots::File(path))) => Roots::of_file(path)?,
        (_, Some(SslRoots::System) | None) => Roots::of_system()?,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(CertificateVerifier {
        checks,
        roots,
        provider: provider.clone(),
    });
    let tls =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(tls
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Roots {
    store: RootCertStore,
    /// Those of the file, among them perhaps the server's own, which need not be an authority's.
    named: Vec<CertificateDer<'static>>,
}

impl Roots {
    fn none() -> Self {
        Self {
            store: RootCertStore::empty(),
            named: Vec::new(),
        }
    }

    fn of_file(path: &Path) -> Result<Self, TlsSetupError> {
        let unreadable = |source| TlsSetupError::Roots {
            path: path.to_owned(),
            source,
        };
        let read = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
        let named: Vec<_> = read.collect::<Result<_, _>>().map_err(unreadable)?;
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(named.iter().cloned());
        if added == 0 {
            return Err(TlsSetupError::NoRoots {
                path: path.to_owned(),
            });
        }
        Ok(Self { store, named })
    }

    fn of_system() -> Result<Self, TlsSetupError> {
        let mut roots = Self::none();
        let system = rustls_native_certs::load_native_certs();
        let (added, _) = roots.store.add_parsable_certificates(system.certs);
        if added == 0 {
            return Err(TlsSetupError::NoSystemRoots);
        }
        Ok(roots)
    }
}

#[derive(Debug)]
struct CertificateVerifier {
    checks: Checks,
    roots: Roots,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.checks == Checks::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        // PostgreSQL's manual makes self-signed certificates, which clients name as their own authority.
        if !self.roots.named.contains(end_entity) {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots.store,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        if self.checks == Checks::AuthorityAndName {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.checks == Checks::Nothing {
            // Anybody can sign with a key of their own.
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.checks == Checks::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
