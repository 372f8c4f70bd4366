//! Reads the keys that verify tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::config::{KeySource, Secret};

/// Why the keys that verify tokens cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The secret is short enough to be guessed from a token. Holds its length in bytes.
    #[error(
        "the secret for tokens has {0} bytes, but needs {min} (AUTH_JWT_SECRET); make one with: openssl rand -base64 48",
        min = KeySource::MIN_SECRET
    )]
    ShortSecret(usize),
    /// The secret for links is too short. Holds its length in bytes.
    #[error(
        "the secret for links has {0} bytes, but needs {min} (LINK_SECRET); make one with: openssl rand -base64 48",
        min = KeySource::MIN_SECRET
    )]
    ShortLinkSecret(usize),
    /// The system has no random bytes for a key.
    #[error("the system has no random bytes for the key of links; set LINK_SECRET")]
    NoRandomness,
    /// The file cannot be read.
    #[error("cannot read the keys for tokens from {path} (AUTH_JWKS_FILE)")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not a JSON Web Key Set, or has no key that can be used.
    #[error("{path} is not a JSON Web Key Set that can be used (AUTH_JWKS_FILE): {why}")]
    NotKeySet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A key and the only algorithm that it is used with. A token's own `alg` never chooses the algorithm:
/// that would let a client sign with a public key as an HMAC secret.
#[derive(Debug)]
pub(super) struct Key {
    /// The `kid` of the key; `None` for a secret.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Reads the configured keys. Blocks.
pub(super) fn read(source: &KeySource) -> Result<Arc<[Key]>, KeysError> {
    match source {
        KeySource::Secret(secret) => from_secret(secret),
        KeySource::File(path) => from_file(path),
    }
}

fn from_secret(secret: &Secret) -> Result<Arc<[Key]>, KeysError> {
    Ok(Arc::new([Key {
        id: None,
        algorithm: Algorithm::HS256,
        key: DecodingKey::from_secret(bytes_of(secret)?),
    }]))
}

/// The key that a secret is, if it is long enough.
pub(super) fn bytes_of(secret: &Secret) -> Result<&[u8], KeysError> {
    let secret = secret.expose().as_bytes();
    if secret.len() < KeySource::MIN_SECRET {
        return Err(KeysError::ShortSecret(secret.len()));
    }
    Ok(secret)
}

/// What links are signed with, if it is long enough.
pub(super) fn link_secret(secret: &Secret) -> Result<&[u8], KeysError> {
    bytes_of(secret).map_err(|error| match error {
        KeysError::ShortSecret(length) => KeysError::ShortLinkSecret(length),
        other => other,
    })
}

fn from_file(path: &Path) -> Result<Arc<[Key]>, KeysError> {
    let text = std::fs::read(path).map_err(|source| KeysError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |why: String| KeysError::NotKeySet {
        path: path.to_owned(),
        why,
    };
    let set: JwkSet = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let mut keys: Vec<Key> = Vec::new();
    for jwk in &set.keys {
        let id = jwk.common.key_id.clone();
        let Some(algorithm) = algorithm(jwk) else {
            tracing::warn!(
                kid = id,
                "ignoring a key that is not for RS256, ES256 or EdDSA"
            );
            continue;
        };
        if keys.iter().any(|key| key.id == id) {
            return Err(wrong(format!("several keys have the kid {id:?}")));
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|error| wrong(error.to_string()))?;
        keys.push(Key { id, algorithm, key });
    }
    if keys.is_empty() {
        return Err(wrong(
            "it holds no key for RS256, ES256 or EdDSA".to_owned(),
        ));
    }
    Ok(keys.into())
}

/// The algorithm that a key is used with; `None` for a secret, which does not belong into a file of public
/// keys, for other curves, and for a key that is not meant for verifying signatures.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let common = &jwk.common;
    let is_same = |named: &KeyAlgorithm| *named == algorithm.into();
    let signs = |usage: &PublicKeyUse| *usage == PublicKeyUse::Signature;
    let verifies = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
    let is_meant = common.key_algorithm.as_ref().is_none_or(is_same)
        && common.public_key_use.as_ref().is_none_or(signs)
        && common.key_operations.as_ref().is_none_or(verifies);
    is_meant.then_some(algorithm)
}
