//! Issues tokens.

use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::{Serialize, Serializer};

use super::key_set::{KeysError, bytes_of};
use super::permissions::Scope;
use crate::config::Secret;

/// What a new token permits, as its claims (RFC 7519).
#[derive(Debug, Serialize)]
pub(crate) struct Grant {
    /// Whom it is issued to.
    pub(crate) sub: String,
    /// The job ids that it is for, or `*` alone for all.
    #[serde(serialize_with = "jobs")]
    pub(crate) jobs: Vec<String>,
    /// What it permits on them.
    #[serde(rename = "scope", serialize_with = "scope")]
    pub(crate) scopes: Vec<Scope>,
    /// Which relay it is for, where the relay checks that.
    #[serde(rename = "aud", skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<String>,
    /// Who has issued it, where the relay checks that.
    #[serde(rename = "iss", skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// When it was issued, to the second.
    #[serde(rename = "iat", serialize_with = "numeric_date")]
    pub(crate) issued_at: Timestamp,
    /// When it expires, to the second.
    #[serde(rename = "exp", serialize_with = "numeric_date")]
    pub(crate) expires_at: Timestamp,
}

/// Why a token cannot be issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The secret is not one that a relay accepts.
    #[error(transparent)]
    Secret(#[from] KeysError),
    /// The claims cannot be signed.
    #[error("cannot sign the token")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

impl Grant {
    /// The token, signed with a secret that it shares with the relay (HS256).
    pub(crate) fn sign(&self, secret: &Secret) -> Result<String, IssueError> {
        let key = EncodingKey::from_secret(bytes_of(secret)?);
        Ok(encode(&Header::default(), self, &key)?)
    }
}

fn jobs<S: Serializer>(jobs: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match jobs {
        [all] if all == "*" => serializer.serialize_str(all),
        listed => listed.serialize(serializer),
    }
}

fn scope<S: Serializer>(scopes: &[Scope], serializer: S) -> Result<S::Ok, S::Error> {
    let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    serializer.serialize_str(&names.join(" "))
}

fn numeric_date<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(time.as_second())
}
