//! [`Refusal`]: a database that will never accept the relay as it is set up.

use diesel::ConnectionError;
use diesel::result::Error as QueryError;
use diesel_async::SimpleAsyncConnection;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use super::connect::{open_sqlite, postgres_url};
use crate::config::Database;

/// What SQLite says of a file that waiting does not make a database that can be written: it is another kind of
/// file, is damaged, or lies in a folder that cannot be written. (`sqlite3_errstr`; never translated.)
const SQLITE_REFUSALS: [&str; 4] = [
    "file is not a database",
    "malformed",
    "unable to open database file",
    "readonly database",
];

/// Takes the lock of a writer, and writes nothing.
const SQLITE_TRIAL: &str = "BEGIN IMMEDIATE; ROLLBACK;";

/// The database's own reason why it refuses the relay, such as `password authentication failed for user "relay"`.
/// Waiting does not heal it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    /// Connects once. `None` if the database accepts the relay, or may do so later: it cannot be reached, starts, is
    /// locked, or has no connection left.
    pub async fn find(database: &Database) -> Option<Self> {
        match database {
            Database::Postgres(url) => Self::of_postgres(&postgres_url(url)).await,
            Database::Sqlite(_) if database.is_in_memory() => None,
            Database::Sqlite(path) => Self::of_sqlite(&path.display().to_string()).await,
        }
    }

    async fn of_postgres(url: &str) -> Option<Self> {
        let config: Config = match url.parse() {
            Ok(config) => config,
            Err(error) => return Some(Self(reason(&error))),
        };
        let error = config.connect(NoTls).await.err()?;
        match error.as_db_error() {
            Some(refused) => is_lasting(refused.code()).then(|| Self(refused.message().to_owned())),
            // It asks for a password, and none is set.
            None => is_configuration(&error).then(|| Self(reason(&error))),
        }
    }

    async fn of_sqlite(path: &str) -> Option<Self> {
        let reason = match open_sqlite(path).await {
            Ok(mut connection) => {
                reason_of_query(connection.batch_execute(SQLITE_TRIAL).await.err()?)
            }
            Err(ConnectionError::CouldntSetupConfiguration(error)) => reason_of_query(error),
            Err(ConnectionError::BadConnection(reason)) => reason,
            Err(error) => error.to_string(),
        };
        let is_lasting = SQLITE_REFUSALS.iter().any(|known| reason.contains(known));
        is_lasting.then_some(Self(reason))
    }
}

/// Whether an error of a connection stays: a wrong role, password or database name, or a missing right. Others pass,
/// such as a server that starts (57P03) or has no connection left (53300).
fn is_lasting(code: &SqlState) -> bool {
    // https://www.postgresql.org/docs/current/errcodes-appendix.html; class 28 is authorization.
    code.code().starts_with("28")
        || [
            SqlState::INVALID_CATALOG_NAME,
            SqlState::INSUFFICIENT_PRIVILEGE,
        ]
        .contains(code)
}

/// Whether the driver cannot even try, because a setting is missing. It has no other sign of that than its text.
fn is_configuration(error: &tokio_postgres::Error) -> bool {
    error.to_string() == "invalid configuration"
}

fn reason(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn reason_of_query(error: QueryError) -> String {
    match error {
        QueryError::DatabaseError(_, information) => information.message().to_owned(),
        error => error.to_string(),
    }
}
