//! [`Session`]: a connection of either database, as the mirror uses it: text in, text out.

use diesel::connection::AnsiTransactionManager as SyncTransactions;
use diesel::sql_types::{Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager,
};

use crate::store::connect::session::PostgresConnection;
use crate::store::database::{SqliteConnection, StoreError};

/// The values of a statement's parameters, in their order.
pub(super) type Values = Vec<Option<String>>;

/// A connection whose statements take texts and return one column, `v`.
pub(super) trait Session: Send {
    /// Begins a transaction that writes. On SQLite it takes the lock of a writer at once: one that had read before could
    /// not take it any more after another writer's commit, and would fail instead of waiting.
    fn begin(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Begins a savepoint in a transaction.
    fn savepoint(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a transaction or a savepoint.
    fn commit(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes it back.
    fn rollback(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Executes statements without parameters.
    fn batch(&mut self, sql: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Executes a statement.
    fn execute(
        &mut self,
        sql: &str,
        values: Values,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The rows of a query.
    fn rows(
        &mut self,
        sql: &str,
        values: Values,
    ) -> impl Future<Output = Result<Values, StoreError>> + Send;
}

#[derive(Debug, QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Nullable<Text>)]
    v: Option<String>,
}

macro_rules! impl_session {
    ($connection:ty, $backend:ty, |$this:ident| $begin:expr) => {
        impl Session for $connection {
            async fn begin(&mut self) -> Result<(), StoreError> {
                let $this = self;
                Ok($begin.await?)
            }

            async fn savepoint(&mut self) -> Result<(), StoreError> {
                Ok(<Self as AsyncConnection>::TransactionManager::begin_transaction(self).await?)
            }

            async fn commit(&mut self) -> Result<(), StoreError> {
                Ok(<Self as AsyncConnection>::TransactionManager::commit_transaction(self).await?)
            }

            async fn rollback(&mut self) -> Result<(), StoreError> {
                Ok(
                    <Self as AsyncConnection>::TransactionManager::rollback_transaction(self)
                        .await?,
                )
            }

            async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
                Ok(self.batch_execute(sql).await?)
            }

            async fn execute(&mut self, sql: &str, values: Values) -> Result<(), StoreError> {
                let mut query = sql_query(sql).into_boxed::<$backend>();
                for value in values {
                    query = query.bind::<Nullable<Text>, _>(value);
                }
                RunQueryDsl::execute(query, self).await?;
                Ok(())
            }

            async fn rows(&mut self, sql: &str, values: Values) -> Result<Values, StoreError> {
                let mut query = sql_query(sql).into_boxed::<$backend>();
                for value in values {
                    query = query.bind::<Nullable<Text>, _>(value);
                }
                let rows: Vec<TextRow> = RunQueryDsl::load(query, self).await?;
                Ok(rows.into_iter().map(|row| row.v).collect())
            }
        }
    };
}

impl_session!(PostgresConnection, diesel::pg::Pg, |connection| {
    AnsiTransactionManager::begin_transaction(connection)
});
impl_session!(SqliteConnection, diesel::sqlite::Sqlite, |connection| {
    connection.spawn_blocking(|connection| {
        SyncTransactions::begin_transaction_sql(connection, "BEGIN IMMEDIATE")
    })
});
