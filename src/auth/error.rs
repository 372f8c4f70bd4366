//! Why a token does not permit what its client asks for.

use std::borrow::Cow;

/// Where clients put a token.
const WHERE: &str = "send it as \"Authorization: Bearer TOKEN\", set RELAY_TOKEN for comfy-relay's own commands, or \
                     enter it on the page";

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// The request carries no token.
    #[error("a token is needed: {place}", place = WHERE)]
    MissingToken,
    /// The token cannot be verified.
    #[error("{0}: {place}", place = WHERE)]
    InvalidToken(&'static str),
    /// The token was valid when the session began, and has expired since.
    #[error("the token has expired; connect again with a new one: {place}", place = WHERE)]
    Expired,
    /// A link is not signed for this file.
    #[error("this link does not open the file; ask /api/anime/jobs/JOB/outputs for one")]
    BadLink,
    /// A link was valid, and is so no longer.
    #[error("this link has expired; ask /api/anime/jobs/JOB/outputs for a new one")]
    LinkExpired,
    /// The token is valid, but does not permit this.
    #[error("{0}")]
    Forbidden(Cow<'static, str>),
}

impl AuthError {
    /// The code of an answer or an `error` message.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::MissingToken | Self::InvalidToken(_) | Self::Expired => "unauthenticated",
            Self::BadLink => "bad_link",
            Self::LinkExpired => "link_expired",
            Self::Forbidden(_) => "forbidden",
        }
    }

    pub(super) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Forbidden(message.into())
    }
}
