//! Verifies tokens.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};

use super::claims::Claims;
use super::error::AuthError;
use super::key_set::{self, Key, KeysError};
use super::links::{LinkKey, SignedLink};
use super::permissions::Permissions;
use super::token::Token;
use crate::config::{AccessConfig, KeySource};
use crate::job::JobId;
use crate::watched_file::WatchedFile;

/// How far the issuer's clock may be ahead of ours, in seconds. A token expires to the second.
const LEEWAY: u64 = 5;

/// The longest token that is decoded, in bytes.
const MAX_TOKEN: usize = 16 << 10;

const EXPIRED: &str = "the token has expired; ask for a new one";

/// Verifies tokens, or permits everything if no keys are configured.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Option<Keys>,
}

#[derive(Debug)]
struct Keys {
    source: KeySource,
    /// The required `aud`; `None` accepts any.
    audience: Option<String>,
    /// The required `iss`; `None` accepts any.
    issuer: Option<String>,
    current: RwLock<Arc<[Key]>>,
    file: WatchedFile,
    /// Signs links to files.
    links: LinkKey,
}

impl Verifier {
    /// Loads the configured keys. Blocks.
    pub(crate) fn load(config: &AccessConfig) -> Result<Self, KeysError> {
        let keys = config.keys.as_ref();
        Ok(Self {
            keys: keys.map(|source| Keys::load(source, config)).transpose()?,
        })
    }

    /// What a token permits.
    pub(crate) fn verify(&self, token: Option<&Token>) -> Result<Permissions, AuthError> {
        let Some(keys) = &self.keys else {
            return Ok(Permissions::everything());
        };
        let token = token.ok_or(AuthError::MissingToken)?;
        keys.verify(token)
            .map(Permissions::of)
            .map_err(AuthError::InvalidToken)
    }

    /// Replaces permissions by those of a newer token. Refused unless that token has the same `sub` and
    /// permits all that the one before did: what is open already is not authorized again.
    pub(crate) fn renew(
        &self,
        permissions: &mut Permissions,
        token: &Token,
    ) -> Result<(), AuthError> {
        permissions.replace(self.verify(Some(token))?)
    }

    /// A link that opens a file of a job without a token; `None` where no tokens are needed.
    pub(crate) fn link(
        &self,
        job: &JobId,
        number: usize,
        expires_at: Timestamp,
    ) -> Option<SignedLink> {
        let keys = self.keys.as_ref()?;
        Some(keys.links.sign(job, number, expires_at))
    }

    /// Refuses a link that does not open a file of a job.
    pub(crate) fn check_link(
        &self,
        job: &JobId,
        number: usize,
        link: &SignedLink,
    ) -> Result<(), AuthError> {
        match &self.keys {
            None => Ok(()),
            Some(keys) => keys.links.check(job, number, link, Timestamp::now()),
        }
    }

    /// Reads the key file again if it has changed. Blocks.
    pub(crate) fn refresh(&self) {
        if let Some(keys) = &self.keys {
            keys.refresh();
        }
    }
}

impl Keys {
    fn load(source: &KeySource, config: &AccessConfig) -> Result<Self, KeysError> {
        let links = match (&config.link_secret, source) {
            (Some(secret), _) => LinkKey::of(key_set::link_secret(secret)?),
            (None, KeySource::Secret(secret)) => LinkKey::of(key_set::bytes_of(secret)?),
            // Nothing that signs can be made of keys that only verify.
            (None, KeySource::File(_)) => LinkKey::random()?,
        };
        let file = WatchedFile::new(match source {
            KeySource::Secret(_) => Vec::new(),
            KeySource::File(path) => vec![path.clone()],
        });
        Ok(Self {
            source: source.clone(),
            audience: config.audience.clone(),
            issuer: config.issuer.clone(),
            current: RwLock::new(key_set::read(source)?),
            file,
            links,
        })
    }

    /// If the file cannot be used now, the keys read before stay in use.
    fn refresh(&self) {
        if !self.file.has_changed() {
            return;
        }
        match key_set::read(&self.source) {
            Ok(keys) => {
                let count = keys.len();
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = keys;
                // Logged only now: a reader of the log may rely on the new keys.
                tracing::info!(keys = count, "reloaded the keys for tokens");
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("the keys for tokens stay in use as they are: {error:#}");
            }
        }
    }

    /// The claims of a token, or a sentence that says why it is refused.
    fn verify(&self, token: &Token) -> Result<Claims, &'static str> {
        if token.as_str().len() > MAX_TOKEN {
            return Err("the token is too long");
        }
        let header = decode_header(token.as_str()).map_err(reason)?;
        // RFC 7515, section 4.1.11: extensions listed in `crit` must be understood.
        if header.crit.is_some() {
            return Err("the token demands an extension that is unknown here");
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let keys = current.clone();
        drop(current);
        let key = match (&self.source, header.kid, &*keys) {
            (KeySource::Secret(_), _, keys) => keys.first(),
            (KeySource::File(_), None, [only]) => Some(only),
            (KeySource::File(_), None, _) => return Err("the token names no key (kid)"),
            (KeySource::File(_), Some(kid), keys) => {
                keys.iter().find(|key| key.id.as_ref() == Some(&kid))
            }
        };
        let key = key.ok_or("the token names a key (kid) that is unknown here")?;
        let decoded = decode::<Claims>(token.as_str(), &key.key, &self.validation(key.algorithm));
        let claims = decoded.map_err(reason)?.claims;
        // The library's leeway would also prolong the life of a token.
        if claims.expires_at <= Timestamp::now() {
            return Err(EXPIRED);
        }
        Ok(claims)
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

/// Why the library refuses a token, in words that repeat nothing of the token.
fn reason(error: Error) -> &'static str {
    match error.kind() {
        ErrorKind::ExpiredSignature => EXPIRED,
        ErrorKind::ImmatureSignature => "the token is not valid yet (nbf)",
        ErrorKind::InvalidAudience => "the token is for another audience (aud)",
        ErrorKind::InvalidIssuer => "the token is from another issuer (iss)",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            "a claim of the token is missing or has a wrong type (exp, nbf, aud, iss)"
        }
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::UnsupportedAlgorithm
        | ErrorKind::InvalidKeyFormat => "the token's algorithm is not that of its key",
        _ => "the token is malformed, or a claim has a wrong type",
    }
}
