use std::time::Duration;

use diesel::result::DatabaseErrorKind;
use diesel_async::pooled_connection::bb8::{Pool, RunError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;

use crate::config::{Database, StoreConfig};

/// An SQLite connection, whose calls run on threads that may block.
pub(super) type SqliteConnection = SyncConnectionWrapper<diesel::SqliteConnection>;

/// How long a connection is waited for, be it from the pool or from the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one statement may take: beyond that the database counts as down.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// What makes an SQLite file safe and quick under several connections: readers beside one writer,
/// writers that wait for each other, and nothing acknowledged that a power cut could take back.
const SQLITE_SETUP: &str =
    "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

/// A pool of connections to one of the two databases.
#[derive(Debug, Clone)]
pub(super) enum Connections {
    Postgres(Pool<AsyncPgConnection>),
    Sqlite(Pool<SqliteConnection>),
}

/// Why the database did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or has no connection to spare.
    #[error("no connection to the database")]
    Unreachable(#[from] RunError),
    /// It refused a statement.
    #[error("the database refused a statement")]
    Query(#[from] diesel::result::Error),
    /// It did not answer.
    #[error("the database did not answer within {} seconds", STATEMENT_TIMEOUT.as_secs())]
    Slow,
    /// The schema cannot be brought up to date.
    #[error("the schema cannot be brought up to date: {0}")]
    Migration(String),
    /// A state cannot be encoded.
    #[error("a state cannot be encoded")]
    Encoding(#[from] serde_json::Error),
}

impl StoreError {
    /// Whether it may be the data's fault, and not the database's condition.
    pub(super) fn may_be_the_datas_fault(&self) -> bool {
        match self {
            Self::Query(diesel::result::Error::DatabaseError(kind, _)) => {
                !matches!(kind, DatabaseErrorKind::ClosedConnection)
            }
            Self::Query(_) | Self::Encoding(_) => true,
            Self::Unreachable(_) | Self::Slow | Self::Migration(_) => false,
        }
    }
}

impl Connections {
    /// A pool for the configured database. Nothing is dialled yet.
    pub(super) fn open(config: &StoreConfig) -> Self {
        match &config.database {
            Database::Postgres(url) => {
                let manager = AsyncDieselConnectionManager::new(postgres_url(url));
                let pool = Pool::builder()
                    .max_size(config.connections)
                    .connection_timeout(CONNECT_TIMEOUT);
                Self::Postgres(pool.build_unchecked(manager))
            }
            Database::Sqlite(path) => {
                let mut setup = ManagerConfig::default();
                setup.custom_setup = Box::new(|path| open_sqlite(path).boxed());
                let path = path.display().to_string();
                let manager = AsyncDieselConnectionManager::new_with_config(path, setup);
                let pool = Pool::builder()
                    // A database in memory is that of its one connection. A file has one writer at a
                    // time anyway.
                    .max_size(if config.database.is_in_memory() {
                        1
                    } else {
                        config.connections
                    })
                    .idle_timeout(None)
                    .max_lifetime(None)
                    .connection_timeout(CONNECT_TIMEOUT);
                Self::Sqlite(pool.build_unchecked(manager))
            }
        }
    }
}

async fn open_sqlite(path: &str) -> diesel::ConnectionResult<SqliteConnection> {
    let mut connection = SqliteConnection::establish(path).await?;
    let prepared = connection.batch_execute(SQLITE_SETUP).await;
    prepared.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// The address, with what each session needs: moments in UTC, and no statement that never ends.
fn postgres_url(url: &url::Url) -> String {
    let mut url = url.clone();
    let settings = format!(
        "-c timezone=UTC -c statement_timeout={}",
        STATEMENT_TIMEOUT.as_millis()
    );
    url.query_pairs_mut()
        .append_pair("application_name", env!("CARGO_PKG_NAME"))
        .append_pair("connect_timeout", &CONNECT_TIMEOUT.as_secs().to_string())
        .append_pair("options", &settings);
    // The driver wants %20, not the + of forms.
    url.as_str().replace('+', "%20")
}

/// Runs a query with a connection of whichever database it is: compiled once for each.
macro_rules! with_connection {
    ($connections:expr, $connection:ident => $query:expr) => {
        match $connections {
            $crate::store::database::Connections::Postgres(pool) => {
                let mut pooled = pool.get().await?;
                let $connection = &mut *pooled;
                $query
            }
            $crate::store::database::Connections::Sqlite(pool) => {
                let mut pooled = pool.get().await?;
                let $connection = &mut *pooled;
                $query
            }
        }
    };
}

pub(super) use with_connection;

/// Gives a database up that does not answer.
pub(super) async fn in_time<T>(
    query: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let answered = tokio::time::timeout(STATEMENT_TIMEOUT, query).await;
    answered.unwrap_or(Err(StoreError::Slow))
}
