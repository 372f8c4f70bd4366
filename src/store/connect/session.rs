//! [`PostgresConnection`]: a connection on which queries run as they must behind a pooler, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::connection::{CacheSize, Instrumentation};
use diesel::query_builder::{AsQuery, QueryFragment, QueryId};
use diesel::{ConnectionError, ConnectionResult, QueryResult};
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncConnectionCore, AsyncPgConnection,
    SimpleAsyncConnection, TransactionManager,
};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::open::OpenConnection;

/// How long one statement may take before the database counts as down.
pub(in crate::store) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a transaction may wait for its next statement before PostgreSQL ends it, and the session: the machine of the
/// relay stands still or is gone, and its locks would hold up the relay that takes over. Shorter than a lease.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

type PgRow = <AsyncPgConnection as AsyncConnectionCore>::Row<'static, 'static>;

/// A connection to PostgreSQL.
///
/// A pooler that gives each transaction another server process forgets prepared statements and settings between
/// two. Behind one, each query that is not in a transaction gets one of its own, with the settings of a session, and
/// no prepared statement is kept.
pub(in crate::store) struct PostgresConnection {
    inner: AsyncPgConnection,
    io: AbortOnDropHandle<()>,
    is_pooled: bool,
    /// Whether the transaction around a query is open. It stays so if the query's future is dropped.
    is_unfinished: AtomicBool,
}

impl PostgresConnection {
    pub(super) async fn new(open: OpenConnection) -> ConnectionResult<Self> {
        let OpenConnection {
            client,
            io,
            is_pooled,
        } = open;
        if is_pooled {
            // The setup prepares statements, and changes settings that other clients of the pooler would find.
            let begun = client.batch_execute("BEGIN").await;
            begun.map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
        }
        let mut inner = AsyncPgConnection::try_from(client).await?;
        if is_pooled {
            let ended = inner.batch_execute("ROLLBACK").await;
            ended.map_err(ConnectionError::CouldntSetupConfiguration)?;
            inner.set_prepared_statement_cache_size(CacheSize::Disabled);
        }
        Ok(Self {
            inner,
            io,
            is_pooled,
            is_unfinished: AtomicBool::new(false),
        })
    }

    /// Whether a query needs a transaction of its own.
    fn needs_transaction(&mut self) -> bool {
        let status = AnsiTransactionManager::transaction_manager_status_mut(&mut self.inner);
        self.is_pooled && matches!(status.transaction_depth(), Ok(None))
    }
}

/// Begins a transaction with the settings of a session.
fn begin() -> String {
    format!(
        "BEGIN; SET LOCAL timezone = 'UTC'; SET LOCAL statement_timeout = {}; \
         SET LOCAL idle_in_transaction_session_timeout = {}",
        STATEMENT_TIMEOUT.as_millis(),
        IDLE_TIMEOUT.as_millis()
    )
}

/// Ends a transaction whose rows are still to be used. They keep their prepared statement, which would be closed after
/// the transaction: in another server process.
const COMMIT_LOAD: &str = "DEALLOCATE ALL; COMMIT";

/// Runs a query in a transaction of its own, which the SQL `commit` ends.
async fn in_transaction<T>(
    mut connection: &AsyncPgConnection,
    is_unfinished: &AtomicBool,
    commit: &str,
    query: impl Future<Output = QueryResult<T>>,
) -> QueryResult<T> {
    is_unfinished.store(true, Ordering::Relaxed);
    connection.batch_execute(&begin()).await?;
    let result = query.await;
    let end = if result.is_ok() { commit } else { "ROLLBACK" };
    let ended = connection.batch_execute(end).await;
    if ended.is_ok() {
        is_unfinished.store(false, Ordering::Relaxed);
    }
    let value = result?;
    ended.map(|()| value)
}

impl SimpleAsyncConnection for PostgresConnection {
    async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        // So begins the transaction manager.
        if query == "BEGIN" && self.is_pooled {
            return self.inner.batch_execute(&begin()).await;
        }
        self.inner.batch_execute(query).await
    }
}

impl AsyncConnectionCore for PostgresConnection {
    type LoadFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<Self::Stream<'conn, 'query>>>;
    type ExecuteFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<usize>>;
    type Stream<'conn, 'query> = BoxStream<'static, QueryResult<PgRow>>;
    type Row<'conn, 'query> = PgRow;
    type Backend = diesel::pg::Pg;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<Self::Backend> + QueryId + 'query,
    {
        if !self.needs_transaction() {
            return self.inner.load(source);
        }
        let mut connection = &self.inner;
        let load = connection.load(source);
        // The rows are read before the transaction ends.
        let query = async {
            let rows: Vec<PgRow> = load.await?.try_collect().await?;
            Ok(stream::iter(rows.into_iter().map(Ok)).boxed())
        };
        in_transaction(connection, &self.is_unfinished, COMMIT_LOAD, query).boxed()
    }

    fn execute_returning_count<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<Self::Backend> + QueryId + 'query,
    {
        if !self.needs_transaction() {
            return self.inner.execute_returning_count(source);
        }
        let mut connection = &self.inner;
        let query = connection.execute_returning_count(source);
        in_transaction(connection, &self.is_unfinished, "COMMIT", query).boxed()
    }
}

impl AsyncConnection for PostgresConnection {
    type TransactionManager = AnsiTransactionManager;

    /// Connections are made by [`PostgresConnector`](super::postgres::PostgresConnector), which knows more than a URL.
    async fn establish(_: &str) -> ConnectionResult<Self> {
        Err(ConnectionError::BadConnection(
            "a connection needs a connector".to_owned(),
        ))
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        self.inner.transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.inner.instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.inner.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.inner.set_prepared_statement_cache_size(size);
    }
}

impl PoolableConnection for PostgresConnection {
    fn is_broken(&mut self) -> bool {
        self.io.is_finished()
            || *self.is_unfinished.get_mut()
            || AnsiTransactionManager::is_broken_transaction_manager(&mut self.inner)
    }
}
