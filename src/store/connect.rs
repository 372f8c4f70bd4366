//! How connections to either database are made.

mod error;
mod open;
mod pass_file;
mod postgres;
pub(super) mod session;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::ErrorSink;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use futures_util::FutureExt;

use super::database::{Pools, SqliteConnection};
use crate::config::{Database, StoreConfig};

pub(super) use postgres::PostgresConnector;
use session::PostgresConnection;

/// How long getting a connection from a pool may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes an SQLite file safe under several connections: writers wait for each other for up to 5 s, readers do not
/// wait for the writer (WAL), and a commit survives a power cut (`synchronous = FULL`).
const SQLITE_SETUP: &str =
    "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

/// A pool for the configured database. Nothing is connected yet.
pub(super) fn open(config: &StoreConfig, failure: &ConnectFailure) -> Pools {
    match &config.database {
        Database::Postgres(postgres) => {
            let connector = Arc::new(PostgresConnector::new(postgres));
            let mut setup = ManagerConfig::default();
            // Prepares no statement, which a pooler would forget.
            setup.recycling_method =
                RecyclingMethod::CustomFunction(Box::new(|connection: &mut PostgresConnection| {
                    connection.batch_execute("SELECT 1").boxed()
                }));
            setup.custom_setup = Box::new(move |_| {
                let connector = connector.clone();
                async move { connector.connect().await }.boxed()
            });
            let manager = AsyncDieselConnectionManager::new_with_config("", setup);
            let pool = Pool::builder()
                .max_size(config.connections)
                .error_sink(Box::new(failure.clone()))
                .connection_timeout(CONNECT_TIMEOUT);
            Pools::Postgres(pool.build_unchecked(manager))
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
                .error_sink(Box::new(failure.clone()))
                .connection_timeout(CONNECT_TIMEOUT);
            Pools::Sqlite(pool.build_unchecked(manager))
        }
    }
}

/// Why the last connection could not be made: a caller that waits for one gets only a timeout. Cheap to clone; clones
/// share it.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectFailure(Arc<Mutex<Option<String>>>);

impl ConnectFailure {
    /// The reason, if a connection has failed yet.
    pub(super) fn reason(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl<E: std::error::Error + 'static> ErrorSink<E> for ConnectFailure {
    fn sink(&self, error: E) {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        tracing::debug!(reason, "cannot connect to the database");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<E>> {
        Box::new(self.clone())
    }
}

pub(super) async fn open_sqlite(path: &str) -> diesel::ConnectionResult<SqliteConnection> {
    let mut connection = SqliteConnection::establish(path).await?;
    let prepared = connection.batch_execute(SQLITE_SETUP).await;
    prepared.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}
