//! [`Pools`]: connections to either database, and what goes wrong with them.

use std::time::Duration;

use bb8::ErrorSink;
use diesel::result::DatabaseErrorKind;
use diesel_async::pooled_connection::bb8::{Pool, RunError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;

use crate::config::{Database, StoreConfig};

/// An SQLite connection whose calls run on threads that may block.
pub(super) type SqliteConnection = SyncConnectionWrapper<diesel::SqliteConnection>;

/// How long getting a connection may take, from the pool or from the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one statement may take before the database counts as down.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes an SQLite file safe under several connections: writers wait for each other for up to 5 s, readers do not
/// wait for the writer (WAL), and a commit survives a power cut (`synchronous = FULL`).
const SQLITE_SETUP: &str =
    "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

/// A pool of connections to one of the two databases.
#[derive(Debug, Clone)]
pub(super) enum Pools {
    Postgres(Pool<AsyncPgConnection>),
    Sqlite(Pool<SqliteConnection>),
}

/// The pools of a store. Each kind of work has connections of its own, so that none waits for another: requests that take
/// all connections take no lease.
#[derive(Debug, Clone)]
pub(super) struct StorePools {
    /// For what callers and subscribers ask for.
    pub(super) reads: Pools,
    /// For the recorder.
    pub(super) writes: Pools,
    /// For leases and client ids.
    pub(super) leases: Pools,
    /// For the mirror.
    pub(super) mirror: Pools,
}

impl StorePools {
    /// Pools for the configured database. Nothing is connected yet.
    pub(super) fn open(config: &StoreConfig) -> Self {
        let reads = Pools::open(config);
        // Each connection to `:memory:` would have a database of its own.
        if config.database.is_in_memory() {
            return Self {
                writes: reads.clone(),
                leases: reads.clone(),
                mirror: reads.clone(),
                reads,
            };
        }
        let single = StoreConfig {
            connections: 1,
            ..config.clone()
        };
        Self {
            reads,
            writes: Pools::open(&single),
            leases: Pools::open(&single),
            mirror: Pools::open(&single),
        }
    }
}

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or all connections are in use.
    #[error("no connection to the database")]
    Unreachable(#[from] RunError),
    /// The database refused a statement.
    #[error("the database refused a statement")]
    Query(#[from] diesel::result::Error),
    /// The database did not answer in time.
    #[error("the database did not answer within {} seconds", STATEMENT_TIMEOUT.as_secs())]
    Slow,
    /// The state of a job cannot be encoded.
    #[error("cannot encode the state of a job")]
    Encoding(#[from] serde_json::Error),
}

/// What caused the failure of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A job in the batch: the others can be written.
    Data,
    /// The state of the database: nothing can be written.
    Database,
    /// Either of them: a value that does not fit, or a full disk.
    Either,
}

impl StoreError {
    /// What caused the failure, as far as the error shows.
    pub(super) fn fault(&self) -> Fault {
        use DatabaseErrorKind::*;
        match self {
            Self::Query(diesel::result::Error::DatabaseError(kind, _)) => match kind {
                UniqueViolation | ForeignKeyViolation | RestrictViolation | NotNullViolation
                | CheckViolation | ExclusionViolation => Fault::Data,
                UnableToSendCommand | ClosedConnection | SerializationFailure
                | ReadOnlyTransaction => Fault::Database,
                _ => Fault::Either,
            },
            Self::Query(_) => Fault::Either,
            Self::Encoding(_) => Fault::Data,
            Self::Unreachable(_) | Self::Slow => Fault::Database,
        }
    }
}

impl Pools {
    /// A pool for the configured database. Nothing is connected yet.
    pub(super) fn open(config: &StoreConfig) -> Self {
        match &config.database {
            Database::Postgres(url) => {
                let manager = AsyncDieselConnectionManager::new(postgres_url(url));
                let pool = Pool::builder()
                    .max_size(config.connections)
                    .error_sink(Box::new(ConnectErrorLog))
                    .connection_timeout(CONNECT_TIMEOUT);
                Self::Postgres(pool.build_unchecked(manager))
            }
            Database::Sqlite(path) => {
                let mut setup = ManagerConfig::default();
                setup.custom_setup = Box::new(|path| open_sqlite(path).boxed());
                let path = path.display().to_string();
                let manager = AsyncDieselConnectionManager::new_with_config(path, setup);
                let pool = Pool::builder()
                    // Each connection to `:memory:` would have a database of its own.
                    .max_size(if config.database.is_in_memory() {
                        1
                    } else {
                        config.connections
                    })
                    .idle_timeout(None)
                    .max_lifetime(None)
                    .error_sink(Box::new(ConnectErrorLog))
                    .connection_timeout(CONNECT_TIMEOUT);
                Self::Sqlite(pool.build_unchecked(manager))
            }
        }
    }
}

/// Logs why a connection could not be made: a caller that waits for one gets only a timeout.
#[derive(Debug, Clone, Copy)]
struct ConnectErrorLog;

impl<E: std::error::Error + 'static> ErrorSink<E> for ConnectErrorLog {
    fn sink(&self, error: E) {
        let error = &error as &dyn std::error::Error;
        tracing::debug!(error, "cannot connect to the database");
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<E>> {
        Box::new(*self)
    }
}

pub(super) async fn open_sqlite(path: &str) -> diesel::ConnectionResult<SqliteConnection> {
    let mut connection = SqliteConnection::establish(path).await?;
    let prepared = connection.batch_execute(SQLITE_SETUP).await;
    prepared.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// The URL with the settings that each session needs: timestamps in UTC, a statement timeout, and a TCP user timeout
/// for a server that has vanished. Other settings in the URL take
/// precedence.
pub(super) fn postgres_url(url: &url::Url) -> String {
    let mut settings = format!(
        "-c timezone=UTC -c statement_timeout={}",
        STATEMENT_TIMEOUT.as_millis()
    );
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("application_name", env!("CARGO_PKG_NAME"))
        .append_pair("connect_timeout", &CONNECT_TIMEOUT.as_secs().to_string())
        .append_pair("tcp_user_timeout", &STATEMENT_TIMEOUT.as_secs().to_string());
    for (name, value) in url.query_pairs() {
        match &*name {
            "options" => settings = format!("{value} {settings}"),
            _ => {
                query.append_pair(&name, &value);
            }
        }
    }
    query.append_pair("options", &settings);
    // The driver decodes %20, but not the + of form encoding.
    let query = query.finish().replace('+', "%20");
    let mut url = url.clone();
    url.set_query(Some(&query));
    url.into()
}

/// Runs a query with a connection of one of a store's pools. The code is compiled once for each kind of database.
macro_rules! with_connection {
    ($store:expr, $pool:ident, |$connection:ident, $names:ident| $query:expr) => {
        with_connection!($store, $pool, |$connection, $names, Kind| $query)
    };
    ($store:expr, $pool:ident, |$connection:ident, $names:ident, $kind:ident| $query:expr) => {
        match &$store.pools.$pool {
            $crate::store::database::Pools::Postgres(pool) => {
                #[allow(dead_code, reason = "most queries leave their kind to inference")]
                type $kind = diesel::pg::Pg;
                let mut pooled = pool.get().await?;
                let $connection = &mut *pooled;
                let $names = $store.names.of::<diesel::pg::Pg>();
                $query
            }
            $crate::store::database::Pools::Sqlite(pool) => {
                #[allow(dead_code, reason = "most queries leave their kind to inference")]
                type $kind = diesel::sqlite::Sqlite;
                let mut pooled = pool.get().await?;
                let $connection = &mut *pooled;
                let $names = $store.names.of::<diesel::sqlite::Sqlite>();
                $query
            }
        }
    };
}

pub(super) use with_connection;

/// Fails with [`StoreError::Slow`] if the database does not answer in time.
pub(super) async fn in_time<T>(
    query: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let answered = tokio::time::timeout(STATEMENT_TIMEOUT, query).await;
    answered.unwrap_or(Err(StoreError::Slow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_in_the_url_are_kept() {
        let url = "postgres://u:a+b@h:1/n?options=-c%20search_path%3Drelay&connect_timeout=9";
        let url = postgres_url(&url.parse().unwrap());
        assert!(url.starts_with("postgres://u:a+b@h:1/n?"), "{url}");
        assert!(
            url.contains("search_path%3Drelay%20-c%20timezone%3DUTC"),
            "{url}"
        );
        assert!(
            url.find("connect_timeout=2") < url.find("connect_timeout=9"),
            "{url}"
        );
    }
}
