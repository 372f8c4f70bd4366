//! The lease of a backend: at most one relay follows it at a time.

use std::time::Duration;

use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{Pools, StoreError, in_time, with_connection};
use super::lease_owner::LeaseOwner;

/// The database's clock in milliseconds since 1970: all relays use the same.
const POSTGRES_NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)";
const SQLITE_NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000 AS bigint)";

/// The longest lease, in milliseconds: ten minutes.
const MAX_LEASE_MS: i64 = 600_000;

#[derive(QueryableByName)]
struct LeaseRow {
    #[diesel(sql_type = Nullable<Text>)]
    holder: Option<String>,
}

impl Store {
    /// Takes or renews the lease of the backend `name` for `owner`. Returns whether `owner` holds it now; then no other
    /// relay follows the backend for the time `lasts`, at most ten minutes.
    ///
    /// A lease that has expired is free, and so is one whose owner's process is known to be dead. If the backend has no
    /// row yet, it gets one with `url` and `client_id`.
    pub async fn take_lease(
        &self,
        name: &str,
        url: &str,
        client_id: &str,
        owner: &LeaseOwner,
        lasts: Duration,
    ) -> Result<bool, StoreError> {
        let now = match self.pools {
            Pools::Postgres(_) => POSTGRES_NOW,
            Pools::Sqlite(_) => SQLITE_NOW,
        };
        // SQLite numbers parameters in the order of their first use. A lease that expires later than any can was made
        // by a clock that was wrong.
        let sql = format!(
            "INSERT INTO backends (name, url, client_id, holder, held_until) \
             VALUES ($1, $2, $3, $4, {now} + $5) \
             ON CONFLICT (name) DO UPDATE SET url = EXCLUDED.url, holder = EXCLUDED.holder, \
             held_until = EXCLUDED.held_until \
             WHERE backends.holder IS NULL OR backends.holder IN ($4, $6) \
             OR backends.held_until < {now} OR backends.held_until > {now} + {MAX_LEASE_MS}"
        );
        let lasts =
            i64::try_from(lasts.as_millis()).map_or(MAX_LEASE_MS, |ms| ms.min(MAX_LEASE_MS));
        let take = async |previous: &str| {
            let query = sql_query(&sql)
                .bind::<Text, _>(name)
                .bind::<Text, _>(url)
                .bind::<Text, _>(client_id)
                .bind::<Text, _>(owner.as_str())
                .bind::<BigInt, _>(lasts)
                .bind::<Text, _>(previous);
            in_time(async {
                let rows =
                    with_connection!(&self.pools, connection => query.execute(connection).await?);
                Ok(rows > 0)
            })
            .await
        };
        if take(owner.as_str()).await? {
            return Ok(true);
        }
        match self.lease_owner(name).await? {
            Some(other) if LeaseOwner::is_dead(&other) => take(&other).await,
            _ => Ok(false),
        }
    }

    /// Releases a lease, if `owner` holds it.
    pub async fn release_lease(&self, name: &str, owner: &LeaseOwner) -> Result<(), StoreError> {
        let release =
            "UPDATE backends SET holder = NULL, held_until = NULL WHERE name = $1 AND holder = $2";
        let query = sql_query(release)
            .bind::<Text, _>(name)
            .bind::<Text, _>(owner.as_str());
        in_time(async {
            with_connection!(&self.pools, connection => query.execute(connection).await?);
            Ok(())
        })
        .await
    }

    async fn lease_owner(&self, name: &str) -> Result<Option<String>, StoreError> {
        let query = sql_query("SELECT holder FROM backends WHERE name = $1").bind::<Text, _>(name);
        let row: Option<LeaseRow> = in_time(async {
            Ok(with_connection!(&self.pools, connection => query.get_result(connection).await.optional()?))
        })
        .await?;
        Ok(row.and_then(|row| row.holder))
    }
}
