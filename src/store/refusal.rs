//! [`Refusal`]: a database that will never accept the relay as it is set up.

use diesel::ConnectionError;
use diesel::result::Error as QueryError;
use diesel_async::SimpleAsyncConnection;

use super::Store;
use super::connect::{PostgresConnector, open_sqlite};
use crate::config::{Database, StoreConfig};

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

const NO_RIGHT: &str = "permission denied: its tables are not up to date, and this user may not create any; \
    comfy-relay migrate --print prints the SQL for one that may";

/// The database's own reason why it refuses the relay, such as `password authentication failed for user "relay"`.
/// Waiting does not heal it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    /// Connects. `None` if the database accepts the relay, or may do so later: it cannot be reached, starts, is
    /// locked, or has no connection left. A PostgreSQL database must have the relay's tables, or let it create them.
    pub async fn find(config: &StoreConfig) -> Option<Self> {
        if let Some(refusal) = Self::of_connection(&config.database).await {
            return Some(refusal);
        }
        if !matches!(config.database, Database::Postgres(_)) {
            return None;
        }
        // A database that cannot be asked now may answer later.
        let lacks_rights = Store::open(config).lacks_rights().await.ok()?;
        lacks_rights.then(|| Self(NO_RIGHT.to_owned()))
    }

    /// Connects once. `None` if that works, or may do so later.
    pub async fn of_connection(database: &Database) -> Option<Self> {
        match database {
            Database::Postgres(config) => {
                let error = PostgresConnector::new(config).check().await.err()?;
                error.is_lasting().then(|| Self(error.to_string()))
            }
            Database::Sqlite(_) if database.is_in_memory() => None,
            Database::Sqlite(path) => Self::of_sqlite(&path.display().to_string()).await,
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

fn reason_of_query(error: QueryError) -> String {
    match error {
        QueryError::DatabaseError(_, information) => information.message().to_owned(),
        error => error.to_string(),
    }
}
