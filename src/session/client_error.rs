use crate::auth::AuthError;
use crate::relay::RelayError;

/// The content of an `error` message on a socket or an event stream.
#[derive(Debug)]
pub(crate) struct ClientError {
    /// A stable word for programs.
    pub(crate) code: &'static str,
    /// A sentence for a person, with what to do about it.
    pub(crate) message: String,
}

impl ClientError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<AuthError> for ClientError {
    fn from(error: AuthError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<RelayError> for ClientError {
    fn from(error: RelayError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
