//! [`ConnectError`]: why a connection to PostgreSQL could not be made.

use std::error::Error;
use std::fmt;

use tokio_postgres::error::SqlState;

use super::tls::TlsSetupError;
use crate::connector::explain_certificate;

/// Why a connection could not be made.
#[derive(Debug)]
pub(in crate::store) enum ConnectError {
    /// TLS cannot be set up.
    Tls(TlsSetupError),
    /// The server cannot be reached, or refuses.
    Server {
        error: tokio_postgres::Error,
        /// Why the password file was not used, if no password was found.
        pass_file: Option<String>,
    },
    /// The server has accepted the connection and was silent since.
    Silent,
}

impl ConnectError {
    /// Whether waiting does not heal it: a wrong role, password or database name, a missing right, or a certificate
    /// that is not trusted. Others pass, such as a server that starts (57P03) or has no connection left (53300).
    pub(in crate::store) fn is_lasting(&self) -> bool {
        let error = match self {
            Self::Tls(_) => return true,
            Self::Silent => return false,
            Self::Server { error, .. } => error,
        };
        let Some(code) = error.code() else {
            return is_configuration(error)
                || is_authentication(error)
                || explain_certificate(error, "").is_some()
                || lacks_tls(error);
        };
        // https://www.postgresql.org/docs/current/errcodes-appendix.html; class 28 is authorization.
        code.code().starts_with("28")
            || [
                SqlState::INVALID_CATALOG_NAME,
                SqlState::INSUFFICIENT_PRIVILEGE,
            ]
            .contains(code)
            || self.refuses_options()
            || is_unknown_database(error)
    }

    /// Whether a pooler refuses a parameter of the session, because its sessions have none.
    pub(super) fn refuses_options(&self) -> bool {
        let Self::Server { error, .. } = self else {
            return false;
        };
        let message = error.as_db_error().map(|refused| refused.message());
        message.is_some_and(|message| message.contains("unsupported startup parameter"))
    }

    /// Whether the server may accept the same connection without encryption.
    pub(super) fn is_of_encryption(&self) -> bool {
        let Self::Server { error, .. } = self else {
            return false;
        };
        is_tls(error) || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    }
}

/// The driver has no sign of these but its texts. This one: it cannot even try, because a setting is missing.
fn is_configuration(error: &tokio_postgres::Error) -> bool {
    error.to_string() == "invalid configuration"
}

/// The server asks for what the driver does not do, or does not do what `channel_binding` asks for.
fn is_authentication(error: &tokio_postgres::Error) -> bool {
    error.to_string() == "authentication error"
}

fn is_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string() == "error performing TLS handshake"
}

fn lacks_tls(error: &tokio_postgres::Error) -> bool {
    let cause = error.source().map(ToString::to_string);
    is_tls(error) && cause.is_some_and(|cause| cause == "server does not support TLS")
}

/// PgBouncer has a code of its own for a database that it does not know.
fn is_unknown_database(error: &tokio_postgres::Error) -> bool {
    let message = error.as_db_error().map(|refused| refused.message());
    message.is_some_and(|message| message.starts_with("no such database"))
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (error, pass_file) = match self {
            Self::Tls(error) => return fmt::Display::fmt(error, f),
            Self::Silent => return f.write_str("the server accepts connections, and is silent"),
            Self::Server { error, pass_file } => (error, pass_file),
        };
        if let Some(refused) = error.as_db_error() {
            f.write_str(refused.message())?;
        } else if let Some(reason) = explain_certificate(error, "sslrootcert, DB_SSLROOTCERT") {
            f.write_str(&reason)?;
        } else {
            write!(f, "{error}")?;
            if let Some(cause) = error.source() {
                write!(f, ": {cause}")?;
            }
        }
        if let Some(reason) = pass_file.as_ref().filter(|_| is_configuration(error)) {
            write!(f, "; the password file {reason}")?;
        }
        Ok(())
    }
}

impl Error for ConnectError {}

impl From<TlsSetupError> for ConnectError {
    fn from(error: TlsSetupError) -> Self {
        Self::Tls(error)
    }
}

impl From<ConnectError> for diesel::ConnectionError {
    fn from(error: ConnectError) -> Self {
        Self::BadConnection(error.to_string())
    }
}
