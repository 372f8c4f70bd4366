//! What a token contains.

use jiff::Timestamp;
use jsonwebtoken::dangerous::insecure_decode_claims;
use serde::{Deserialize, Deserializer};

use super::token::Token;

/// The claims of a token that the relay reads (RFC 7519), and its own: `jobs` and `scope`.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    /// Whom the token was issued to.
    pub(crate) sub: Option<String>,
    /// The job ids that it is for; `*` for all.
    #[serde(default, deserialize_with = "words")]
    pub(crate) jobs: Vec<String>,
    /// The names of its scopes.
    #[serde(default, deserialize_with = "words")]
    pub(crate) scope: Vec<String>,
    /// When it expires.
    #[serde(rename = "exp", deserialize_with = "numeric_date")]
    pub(crate) expires_at: Timestamp,
}

impl Claims {
    /// What a token says of itself, whoever has signed it. `None` if it cannot be read.
    pub(crate) fn unverified(token: &Token) -> Option<Self> {
        insecure_decode_claims(token.as_str()).ok()
    }
}

/// A list of words, or one string with spaces between them, as OAuth 2.0 writes scopes (RFC 8693).
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum StringOrList {
        String(String),
        List(Vec<String>),
    }
    Ok(match StringOrList::deserialize(deserializer)? {
        StringOrList::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        StringOrList::List(words) => words,
    })
}

/// Seconds since 1970, with or without a fraction. A date beyond year 9999 counts as the latest one that
/// there is.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    let milliseconds = (seconds * 1000.0) as i64;
    Ok(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX))
}
