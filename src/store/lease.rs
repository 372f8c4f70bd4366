//! The lease of a backend: at most one relay follows it at a time.

use std::time::Duration;

use diesel::OptionalExtension;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::query_dsl::methods;
use diesel::sql_types::BigInt;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::lease_owner::LeaseOwner;
use super::schema::leases::{self, backend, held_until, holder};

/// The longest lease, in milliseconds: ten minutes.
pub(super) const MAX_LEASE_MS: i64 = 600_000;

impl Store {
    /// Takes or renews the lease of the backend `name` for `owner`. Returns whether `owner` holds it now; then no other
    /// relay follows the backend for the time `lasts`, at most ten minutes.
    ///
    /// A lease that has expired is free, and so is one whose owner's process is known to be dead.
    pub async fn take_lease(
        &self,
        name: &str,
        owner: &LeaseOwner,
        lasts: Duration,
    ) -> Result<bool, StoreError> {
        if self.try_lease(name, owner, owner.as_str(), lasts).await? {
            return Ok(true);
        }
        match self.lease_owner(name).await? {
            Some(other) if LeaseOwner::is_dead(&other) => {
                self.try_lease(name, owner, &other, lasts).await
            }
            _ => Ok(false),
        }
    }

    /// Takes a lease that is free or held by `owner` or by `previous`.
    async fn try_lease(
        &self,
        name: &str,
        owner: &LeaseOwner,
        previous: &str,
        lasts: Duration,
    ) -> Result<bool, StoreError> {
        let now = || sql::<BigInt>(self.names.now());
        let lasts = in_ms(lasts);
        // A lease that expires later than any can was made by a clock that was wrong.
        let is_free = held_until
            .lt(now())
            .or(held_until.gt(now() + MAX_LEASE_MS))
            .or(holder.eq(owner.as_str()))
            .or(holder.eq(previous));
        let take = diesel::insert_into(leases::table)
            .values((
                backend.eq(name),
                holder.eq(owner.as_str()),
                held_until.eq(now() + lasts),
            ))
            .on_conflict(backend)
            .do_update()
            .set((
                holder.eq(excluded(holder)),
                held_until.eq(excluded(held_until)),
            ));
        let take = methods::FilterDsl::filter(take, is_free);
        in_time(async {
            let rows = with_connection!(self, leases, |connection, names| {
                names.statement(&take)?.execute(connection).await?
            });
            Ok(rows > 0)
        })
        .await
    }

    /// Releases a lease, if `owner` holds it.
    pub async fn release_lease(&self, name: &str, owner: &LeaseOwner) -> Result<(), StoreError> {
        let held = leases::table.filter(backend.eq(name).and(holder.eq(owner.as_str())));
        let release = diesel::delete(held);
        in_time(async {
            with_connection!(self, leases, |connection, names| {
                names.statement(&release)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    async fn lease_owner(&self, name: &str) -> Result<Option<String>, StoreError> {
        let owner = leases::table.filter(backend.eq(name)).select(holder);
        in_time(async {
            Ok(with_connection!(self, leases, |connection, names| {
                let owner = names.query(owner)?.get_result(connection).await;
                owner.optional()?
            }))
        })
        .await
    }
}

/// The length of a lease in milliseconds.
pub(super) fn in_ms(lasts: Duration) -> i64 {
    i64::try_from(lasts.as_millis()).map_or(MAX_LEASE_MS, |ms| ms.min(MAX_LEASE_MS))
}
