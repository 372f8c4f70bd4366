//! Backends move between relays until none follows two more than another: one that follows fewer wishes for a backend, and
//! the one that follows it hands it over when that disturbs least.
//!
//! SQL text, because diesel cannot say it: the table appears in its own condition.

use std::time::Duration;

use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::lease::in_ms;
use super::lease_owner::LeaseOwner;

#[derive(Debug, QueryableByName)]
struct FoundLease {
    #[diesel(sql_type = BigInt)]
    #[expect(dead_code, reason = "that there is one says all")]
    held_until: i64,
}

/// With `{heir}` for a relay: the one that follows the backend of `l` follows at least two more.
const IS_UNEVEN: &str = "(SELECT count(*) FROM comfy_relay.leases h WHERE h.holder = l.holder AND h.held_until >= {now}) \
    >= 2 + (SELECT count(*) FROM comfy_relay.leases h WHERE h.holder = {heir} AND h.held_until >= {now})";

/// The relay `$2` may wish for the backend `$1`.
const MAY_WISH: &str = "l.backend = $1 AND l.holder <> $2 AND l.held_until >= {now} \
    AND (l.wanted_by IS NULL OR l.wanted_by = $2 OR l.wanted_until < {now})";

/// The relay `$2` follows the backend `$1`, and one that runs wishes for it.
const IS_WANTED: &str = "l.backend = $1 AND l.holder = $2 AND l.wanted_until >= {now} \
    AND l.wanted_by IN (SELECT owner FROM comfy_relay.relays WHERE held_until >= {now})";

impl Store {
    /// Whether `owner` may wish for a backend: the relay that follows it follows at least two more, and no third one wishes for
    /// it.
    pub async fn may_wish(&self, name: &str, owner: &LeaseOwner) -> Result<bool, StoreError> {
        let uneven = IS_UNEVEN.replace("{heir}", "$2");
        self.has_lease(&format!("{MAY_WISH} AND {uneven}"), name, owner)
            .await
    }

    /// Has the relay that follows a backend know for the time `lasts` that `owner` would take it over.
    pub async fn wish_for_lease(
        &self,
        name: &str,
        owner: &LeaseOwner,
        lasts: Duration,
    ) -> Result<(), StoreError> {
        let wish = format!(
            "UPDATE comfy_relay.leases AS l SET wanted_by = $2, wanted_until = {{now}} + $3 WHERE {MAY_WISH}"
        );
        self.change_lease(&wish, name, owner, lasts).await?;
        Ok(())
    }

    /// Whether another relay wishes for a backend that `owner` follows, and follows at least two fewer.
    pub async fn is_lease_wanted(
        &self,
        name: &str,
        owner: &LeaseOwner,
    ) -> Result<bool, StoreError> {
        let uneven = IS_UNEVEN.replace("{heir}", "l.wanted_by");
        self.has_lease(&format!("{IS_WANTED} AND {uneven}"), name, owner)
            .await
    }

    /// Makes the relay that wishes for a backend the one that follows it, for the time `lasts`. Returns whether `owner` has
    /// followed it, and one wishes for it that follows at least two fewer.
    pub async fn hand_over_lease(
        &self,
        name: &str,
        owner: &LeaseOwner,
        lasts: Duration,
    ) -> Result<bool, StoreError> {
        let hand_over = format!(
            "UPDATE comfy_relay.leases AS l SET holder = wanted_by, held_until = {{now}} + $3, \
             wanted_by = NULL, wanted_until = NULL WHERE {IS_WANTED} AND {}",
            IS_UNEVEN.replace("{heir}", "l.wanted_by")
        );
        self.change_lease(&hand_over, name, owner, lasts).await
    }

    async fn has_lease(
        &self,
        condition: &str,
        name: &str,
        owner: &LeaseOwner,
    ) -> Result<bool, StoreError> {
        let find = self.lease_text(&format!(
            "SELECT l.held_until FROM comfy_relay.leases l WHERE {condition}"
        ));
        in_time(async {
            let found: Vec<FoundLease> = with_connection!(self, leases, |connection, _names| {
                let finding = sql_query(&find)
                    .bind::<Text, _>(name)
                    .bind::<Text, _>(owner.as_str());
                finding.load(connection).await?
            });
            Ok(!found.is_empty())
        })
        .await
    }

    async fn change_lease(
        &self,
        statement: &str,
        name: &str,
        owner: &LeaseOwner,
        lasts: Duration,
    ) -> Result<bool, StoreError> {
        let change = self.lease_text(statement);
        in_time(async {
            let rows = with_connection!(self, leases, |connection, _names| {
                let changing = sql_query(&change)
                    .bind::<Text, _>(name)
                    .bind::<Text, _>(owner.as_str())
                    .bind::<BigInt, _>(in_ms(lasts));
                changing.execute(connection).await?
            });
            Ok(rows > 0)
        })
        .await
    }

    fn lease_text(&self, sql: &str) -> String {
        self.names.numbered(&sql.replace("{now}", self.names.now()))
    }
}
