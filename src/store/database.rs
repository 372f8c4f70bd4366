//! [`Pools`]: connections to either database, and what goes wrong with them.

use diesel::result::DatabaseErrorKind;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection, RunError};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, PoolError, PoolableConnection,
};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

use super::connect::session::{PostgresConnection, STATEMENT_TIMEOUT};

/// An SQLite connection whose calls run on threads that may block.
pub(super) type SqliteConnection = SyncConnectionWrapper<diesel::SqliteConnection>;

/// A pool of connections to one of the two databases.
#[derive(Debug, Clone)]
pub(super) enum Pools {
    Postgres(Pool<PostgresConnection>),
    Sqlite(Pool<SqliteConnection>),
}

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or all connections stay in use.
    #[error("no connection to the database")]
    Unreachable(#[from] RunError),
    /// The database refused a statement.
    #[error("the database refused a statement")]
    Query(#[from] diesel::result::Error),
    /// The database did not answer in time.
    #[error("the database did not answer within {} seconds", STATEMENT_TIMEOUT.as_secs())]
    Slow,
    /// A job cannot be encoded.
    #[error("cannot encode a job")]
    Encoding(#[from] serde_json::Error),
}

/// SQLite's message while another connection writes. The driver has no kind for it.
const SQLITE_LOCKED: &str = "database is locked";

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
            Self::Query(diesel::result::Error::DatabaseError(kind, information)) => match kind {
                UniqueViolation | ForeignKeyViolation | RestrictViolation | NotNullViolation
                | CheckViolation | ExclusionViolation => Fault::Data,
                UnableToSendCommand | ClosedConnection | SerializationFailure
                | ReadOnlyTransaction => Fault::Database,
                Unknown if information.message() == SQLITE_LOCKED => Fault::Database,
                _ => Fault::Either,
            },
            Self::Query(_) => Fault::Either,
            Self::Encoding(_) => Fault::Data,
            Self::Unreachable(_) | Self::Slow => Fault::Database,
        }
    }
}

/// A connection of a pool. The timeout of the pool is for a database that does not answer, not for callers that wait for each
/// other: one that waits while others get connections waits on.
pub(super) async fn connection_of<C>(pool: &Pool<C>) -> Result<PooledConnection<'_, C>, RunError>
where
    C: PoolableConnection + 'static,
    AsyncDieselConnectionManager<C>: bb8::ManageConnection<Connection = C, Error = PoolError>,
{
    let served = || {
        let statistics = pool.state().statistics;
        statistics.get_direct + statistics.get_waited
    };
    loop {
        let before = served();
        match pool.get().await {
            Err(RunError::TimedOut) if served() > before => {}
            got => return got,
        }
    }
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
                let mut pooled = $crate::store::database::connection_of(pool).await?;
                let $connection = &mut *pooled;
                let $names = $store.names.of::<diesel::pg::Pg>();
                $query
            }
            $crate::store::database::Pools::Sqlite(pool) => {
                #[allow(dead_code, reason = "most queries leave their kind to inference")]
                type $kind = diesel::sqlite::Sqlite;
                let mut pooled = $crate::store::database::connection_of(pool).await?;
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
