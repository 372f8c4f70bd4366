//! A database for one test, and queries on it.

use std::path::Path;

use comfy_relay::config::StoreConfig;
use diesel::sql_types::{Nullable, Text};
use diesel::{QueryableByName, SqliteConnection, sql_query};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tempfile::TempDir;

use super::postgres::{self, Cluster, USER};
use super::wait::wait_until;

/// A database that only one test uses.
pub(crate) struct TestDatabase {
    url: String,
    _folder: Option<TempDir>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<Text>)]
    v: Option<String>,
}

impl TestDatabase {
    pub(crate) async fn postgres() -> Self {
        Self::of(postgres::shared().await).await
    }

    /// A new database of a server.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let name = cluster.database().await;
        Self::at(cluster.url(USER, &name).to_string())
    }

    /// A database that the test has made itself.
    pub(crate) fn at(url: String) -> Self {
        Self { url, _folder: None }
    }

    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite:{}", folder.path().join("relay.db").display()),
            _folder: Some(folder),
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        !self.url.starts_with("sqlite:")
    }

    pub(crate) fn config(&self) -> StoreConfig {
        StoreConfig {
            database: self.url.parse().unwrap(),
            ..StoreConfig::default()
        }
    }

    /// The URL as the program takes it.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// The file of an SQLite database.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.url.strip_prefix("sqlite:").map(Path::new)
    }

    /// SQL that calls the relay's tables `comfy_relay.NAME`, as this database calls them.
    fn named(&self, sql: &str) -> String {
        if self.is_postgres() {
            sql.to_owned()
        } else {
            sql.replace("comfy_relay.", "comfy_relay_")
        }
    }

    /// Executes statements. The relay's tables are called `comfy_relay.NAME`.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = &*self.named(sql);
        match self.file() {
            Some(path) => sqlite(path).await.batch_execute(sql).await.unwrap(),
            None => {
                let mut connection = AsyncPgConnection::establish(&self.url).await.unwrap();
                connection.batch_execute(sql).await.unwrap();
            }
        }
    }

    /// The column `v` of a query as text.
    pub(crate) async fn values(&self, sql: &str) -> Vec<Option<String>> {
        let sql = self.named(sql);
        let query = sql_query(format!("SELECT CAST(v AS text) AS v FROM ({sql}) AS query"));
        let rows: Vec<Row> = match self.file() {
            Some(path) => query.load(&mut sqlite(path).await).await.unwrap(),
            None => {
                let mut connection = AsyncPgConnection::establish(&self.url).await.unwrap();
                query.load(&mut connection).await.unwrap()
            }
        };
        rows.into_iter().map(|row| row.v).collect()
    }

    /// The only value of a query; empty for NULL.
    pub(crate) async fn value(&self, sql: &str) -> String {
        let values = self.values(sql).await;
        let [value] = &values[..] else {
            panic!("{sql}: {values:?}");
        };
        value.clone().unwrap_or_default()
    }

    /// Waits until a query returns exactly this value.
    pub(crate) async fn wait_for(&self, sql: &str, wanted: &str) {
        wait_until(sql, async || {
            self.values(sql).await == [Some(wanted.to_owned())]
        })
        .await;
    }
}

/// An asynchronous connection to SQLite.
pub(crate) type Sqlite = SyncConnectionWrapper<SqliteConnection>;

pub(crate) async fn sqlite(path: &Path) -> Sqlite {
    let mut connection = Sqlite::establish(&path.display().to_string())
        .await
        .unwrap();
    connection
        .batch_execute("PRAGMA busy_timeout = 10000")
        .await
        .unwrap();
    connection
}

/// Makes two tests of each function that takes a [`TestDatabase`]: one on SQLite, one on PostgreSQL.
macro_rules! on_both {
    ($($(#[$doc:meta])* $test:ident),+ $(,)?) => {$(
        $(#[$doc])*
        mod $test {
            use crate::support::database::TestDatabase;

            #[tokio::test(flavor = "multi_thread")]
            async fn on_sqlite() {
                super::$test(TestDatabase::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_postgres() {
                super::$test(TestDatabase::postgres().await).await;
            }
        }
    )+};
}

pub(crate) use on_both;
