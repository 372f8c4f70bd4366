//! How connections to either database are made.

use std::time::Duration;

use bb8::ErrorSink;
use diesel_async::pooled_connection::bb8::{Pool, RunError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;

use super::database::{Pools, STATEMENT_TIMEOUT, SqliteConnection, StoreError};
use crate::config::{Database, StoreConfig};

/// How long getting a connection may take, from the pool or from the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes an SQLite file safe under several connections: writers wait for each other for up to 5 s, readers do not
/// wait for the writer (WAL), and a commit survives a power cut (`synchronous = FULL`).
const SQLITE_SETUP: &str =
    "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

/// A pool for the configured database. Nothing is connected yet.
pub(super) fn open(config: &StoreConfig) -> Pools {
    match &config.database {
        Database::Postgres(url) => {
            let manager = AsyncDieselConnectionManager::new(postgres_url(url));
            let pool = Pool::builder()
                .max_size(config.connections)
                .error_sink(Box::new(ConnectErrorLog))
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
                .error_sink(Box::new(ConnectErrorLog))
                .connection_timeout(CONNECT_TIMEOUT);
            Pools::Sqlite(pool.build_unchecked(manager))
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

/// A connection outside the pool.
pub(super) async fn dedicated(
    pool: &Pool<AsyncPgConnection>,
) -> Result<AsyncPgConnection, StoreError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, pool.dedicated_connection()).await {
        Ok(connected) => Ok(connected.map_err(RunError::User)?),
        Err(_) => Err(RunError::TimedOut.into()),
    }
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
