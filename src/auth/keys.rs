//! What tokens are checked with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Deserializer};

use super::token::Token;
use crate::config::{AccessConfig, KeySource};
use crate::watched_file::WatchedFile;

/// How far the clock of who makes tokens may be ahead of ours, in seconds. Their end is taken to the
/// second.
const LEEWAY: u64 = 5;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The secret can be guessed.
    #[error(
        "the secret for tokens has {0} bytes, but needs {min} (AUTH_JWT_SECRET); make one with: openssl rand -base64 48",
        min = KeySource::MIN_SECRET
    )]
    ShortSecret(usize),
    /// The file cannot be read.
    #[error("cannot read the keys for tokens from {path} (AUTH_JWKS_FILE)")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} is no JSON Web Key Set (AUTH_JWKS_FILE): {why}")]
    NoKeySet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Checks tokens.
#[derive(Debug)]
pub(super) struct Keys {
    source: KeySource,
    audience: Option<String>,
    issuer: Option<String>,
    current: RwLock<Arc<[Key]>>,
    /// Of the file when it was last read.
    stamp: Mutex<WatchedFile>,
}

/// One key, which is good for one algorithm: what a token says of itself chooses none.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// What a good token says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<String>,
    #[serde(default, deserialize_with = "words")]
    pub(super) jobs: Vec<String>,
    #[serde(default, deserialize_with = "words")]
    pub(super) scope: Vec<String>,
    #[serde(rename = "exp", deserialize_with = "moment")]
    pub(super) expires_at: Timestamp,
}

impl Keys {
    /// The configured keys; `None` where nobody is asked for a token.
    pub(super) fn load(config: &AccessConfig) -> Result<Option<Self>, KeysError> {
        let Some(source) = &config.keys else {
            return Ok(None);
        };
        let stamp = source.stamp();
        Ok(Some(Self {
            source: source.clone(),
            audience: config.audience.clone(),
            issuer: config.issuer.clone(),
            current: RwLock::new(source.read()?),
            stamp: Mutex::new(stamp),
        }))
    }

    /// Reads the file again where it has changed. One that makes no sense is told, and the keys before
    /// stay.
    pub(super) fn refresh(&self) {
        let stamp = self.source.stamp();
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == stamp {
            return;
        }
        *known = stamp;
        match self.source.read() {
            Ok(keys) => {
                let count = keys.len();
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = keys;
                // Not before they are used: whoever reads this may rely on it.
                tracing::info!(keys = count, "the keys for tokens were read again");
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("the keys for tokens stay as they were: {error:#}");
            }
        }
    }

    /// What a token says, or a sentence that tells why it is not believed.
    pub(super) fn check(&self, token: &Token) -> Result<Claims, &'static str> {
        if token.as_str().len() > MAX_TOKEN {
            return Err("the token is too long");
        }
        let header = decode_header(token.as_str()).map_err(told)?;
        if header.crit.is_some() {
            return Err("the token demands an extension that is unknown here");
        }
        let keys = self
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let key = match (&self.source, header.kid, &*keys) {
            (KeySource::Secret(_), _, keys) => keys.first(),
            (KeySource::File(_), None, [only]) => Some(only),
            (KeySource::File(_), None, _) => return Err("the token names no key (kid)"),
            (KeySource::File(_), Some(kid), keys) => {
                keys.iter().find(|key| key.id.as_ref() == Some(&kid))
            }
        };
        let key = key.ok_or("the token names a key (kid) that is unknown here")?;
        let checked = decode::<Claims>(token.as_str(), &key.key, &self.validation(key.algorithm));
        let claims = checked.map_err(told)?.claims;
        match claims.expires_at > Timestamp::now() {
            true => Ok(claims),
            false => Err(EXPIRED),
        }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

const EXPIRED: &str = "the token has expired; ask for a new one";

/// The library's reasons in words that hold nothing of the token.
fn told(error: Error) -> &'static str {
    match error.kind() {
        ErrorKind::ExpiredSignature => EXPIRED,
        ErrorKind::ImmatureSignature => "the token is not valid yet (nbf)",
        ErrorKind::InvalidAudience => "the token is for another audience (aud)",
        ErrorKind::InvalidIssuer => "the token is from another issuer (iss)",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            "the token lacks a claim, or holds one of a wrong kind (exp, nbf, aud, iss)"
        }
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::UnsupportedAlgorithm
        | ErrorKind::InvalidKeyFormat => "the token's algorithm is not that of its key",
        _ => "the token is none, or its claims are of a wrong kind",
    }
}

impl KeySource {
    fn stamp(&self) -> WatchedFile {
        match self {
            Self::Secret(_) => WatchedFile::default(),
            Self::File(path) => WatchedFile::of([path.as_path()]),
        }
    }

    fn read(&self) -> Result<Arc<[Key]>, KeysError> {
        match self {
            Self::Secret(secret) => {
                let secret = secret.expose().as_bytes();
                if secret.len() < Self::MIN_SECRET {
                    return Err(KeysError::ShortSecret(secret.len()));
                }
                Ok(Arc::new([Key {
                    id: None,
                    algorithm: Algorithm::HS256,
                    key: DecodingKey::from_secret(secret),
                }]))
            }
            Self::File(path) => key_set(path),
        }
    }
}

fn key_set(path: &Path) -> Result<Arc<[Key]>, KeysError> {
    let text = std::fs::read(path).map_err(|source| KeysError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |why: String| KeysError::NoKeySet {
        path: path.to_owned(),
        why,
    };
    let set: JwkSet = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let mut keys: Vec<Key> = Vec::new();
    for jwk in &set.keys {
        let id = jwk.common.key_id.clone();
        let Some(algorithm) = algorithm(jwk) else {
            tracing::warn!(kid = id, "a key for tokens is of no use here, and left out");
            continue;
        };
        if keys.iter().any(|key| key.id == id) {
            return Err(wrong(format!("several keys have the kid {id:?}")));
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|error| wrong(error.to_string()))?;
        keys.push(Key { id, algorithm, key });
    }
    match keys.is_empty() {
        true => Err(wrong(
            "it holds no key for RS256, ES256 or EdDSA".to_owned(),
        )),
        false => Ok(keys.into()),
    }
}

/// The one algorithm that a key is good for; `None` for secrets, which have no place in a file of public
/// keys, for other curves, and for keys that are meant for something else.
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
    let is_named = |named: &jsonwebtoken::jwk::KeyAlgorithm| *named == algorithm.into();
    let signs = |uses: &PublicKeyUse| *uses == PublicKeyUse::Signature;
    let verifies = |can: &Vec<KeyOperations>| can.contains(&KeyOperations::Verify);
    let is_meant = common.key_algorithm.as_ref().is_none_or(is_named)
        && common.public_key_use.as_ref().is_none_or(signs)
        && common.key_operations.as_ref().is_none_or(verifies);
    is_meant.then_some(algorithm)
}

/// A list of words, or one text with spaces between them.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
        Words::List(list) => list,
    })
}

/// Seconds since 1970. What is further off than clocks count is their last moment.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    let milliseconds = (seconds * 1000.0) as i64;
    Ok(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX))
}
