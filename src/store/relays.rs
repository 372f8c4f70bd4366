//! The relays on one database, and which of them writes which open job.

use std::time::Duration;

use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::lease::{MAX_LEASE_MS, in_ms};
use super::lease_owner::LeaseOwner;
use crate::job::{JobId, StoredJob};

/// Of how many other relays the lists are read.
const MAX_LISTS: usize = 100;

/// What a relay learns when it registers or renews that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayRegistration {
    /// It was registered before without a gap: nobody can have taken its jobs over as those of a dead relay.
    pub was_held: bool,
    /// How many other relays run.
    pub others: usize,
    /// How many relays that have ended were removed just now. Their jobs are free.
    pub removed: usize,
}

/// What other relays have that this one does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerCounts {
    /// Connections of their subscribers; one that follows several jobs counts for each.
    pub connections: usize,
    /// Jobs that these follow; one that is followed at two relays counts twice.
    pub followed_jobs: usize,
    /// Their open jobs that wait.
    pub queued: usize,
    /// Their open jobs that run.
    pub processing: usize,
}

#[derive(Debug, QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    connections: i64,
    #[diesel(sql_type = BigInt)]
    followed_jobs: i64,
    #[diesel(sql_type = BigInt)]
    queued: i64,
    #[diesel(sql_type = BigInt)]
    processing: i64,
}

#[derive(Debug, QueryableByName)]
struct ListRow {
    #[diesel(sql_type = Text)]
    list: String,
}

#[derive(Debug, QueryableByName)]
struct RelayRow {
    #[diesel(sql_type = Text)]
    owner: String,
    #[diesel(sql_type = BigInt)]
    left_ms: i64,
}

#[derive(Debug, QueryableByName)]
struct OwnedRow {
    #[diesel(sql_type = Text)]
    owner: String,
}

/// Free for the relay `$1`: the jobs of the backends that it follows, those that were claimed for such a backend by a relay
/// that followed it before, and those without a backend whose relay has ended.
const FREE: &str = "(backend IN (SELECT backend FROM comfy_relay.leases WHERE holder = $1) \
    OR (backend IS NULL AND (owner IS NULL \
        OR owner NOT IN (SELECT owner FROM comfy_relay.relays) \
        OR job_key IN (SELECT job_key FROM comfy_relay.submissions WHERE state = 'handed_in' \
            AND backend IN (SELECT backend FROM comfy_relay.leases WHERE holder = $1)))))";

/// A relay that is alone lists nothing for others: one that comes later would read what has been.
const NOTHING_LISTED: &str = ", connections = 0, followed_jobs = 0, list = NULL";

const TAKE: &str = "UPDATE comfy_relay.jobs SET \
    epoch = epoch + CASE WHEN owner = $1 THEN 0 ELSE 1 END, owner = $1 \
    WHERE status IN ('queued', 'processing') AND";

/// Earlier releases have written the server that was planned into the rows of jobs that wait. No other row names a server while
/// the submission, under the same prompt id, waits.
const UNPLAN: &str = "UPDATE comfy_relay.jobs AS j SET backend = NULL \
    WHERE j.status IN ('queued', 'processing') AND j.backend IS NOT NULL \
    AND EXISTS (SELECT 1 FROM comfy_relay.submissions s \
        WHERE s.job_key = j.job_key AND s.prompt_id = j.prompt_id AND s.state = 'waiting')";

impl Store {
    /// Registers a relay for the time `lasts`, or renews that, and removes those that have ended: whose time is over, or
    /// whose process is known to be dead.
    pub async fn register_relay(
        &self,
        owner: &LeaseOwner,
        lasts: Duration,
    ) -> Result<RelayRegistration, StoreError> {
        let now = self.names.now();
        let list = self.names.text(&format!(
            "SELECT owner, held_until - {now} AS left_ms FROM comfy_relay.relays"
        ));
        let remove = self.names.text(&format!(
            "DELETE FROM comfy_relay.relays WHERE owner = $1 AND held_until - {now} <= $2"
        ));
        let register = |more: &str| {
            self.names.text(&format!(
                "INSERT INTO comfy_relay.relays (owner, held_until) VALUES ($1, {now} + $2) \
                 ON CONFLICT (owner) DO UPDATE SET held_until = EXCLUDED.held_until{more}"
            ))
        };
        let (renew, renew_alone) = (register(""), register(NOTHING_LISTED));
        in_time(async {
            Ok(with_connection!(self, leases, |connection, _names| {
                let rows: Vec<RelayRow> = sql_query(&list).load(connection).await?;
                let mut registration = RelayRegistration {
                    was_held: false,
                    others: 0,
                    removed: 0,
                };
                for row in rows {
                    // One that ends later than any can was made by a clock that was wrong.
                    let is_over = row.left_ms <= 0 || row.left_ms > MAX_LEASE_MS;
                    if row.owner == owner.as_str() {
                        registration.was_held = !is_over;
                    } else if is_over || LeaseOwner::is_dead(&row.owner) {
                        let removing = sql_query(&remove)
                            .bind::<Text, _>(&row.owner)
                            // Not one that has been renewed meanwhile.
                            .bind::<BigInt, _>(row.left_ms);
                        registration.removed += removing.execute(connection).await?;
                    } else {
                        registration.others += 1;
                    }
                }
                let is_alone = registration.others == 0;
                let register = if is_alone { &renew_alone } else { &renew };
                let registering = sql_query(register)
                    .bind::<Text, _>(owner.as_str())
                    .bind::<BigInt, _>(in_ms(lasts));
                registering.execute(connection).await?;
                registration
            }))
        })
        .await
    }

    /// Has the other relays know how many `connections` the subscribers of `owner` have, how many jobs they follow, and what it
    /// lists. Returns what the others have.
    pub async fn exchange_counts(
        &self,
        owner: &LeaseOwner,
        connections: usize,
        followed_jobs: usize,
        list: &str,
    ) -> Result<(PeerCounts, Vec<String>), StoreError> {
        let tell = self.names.text(
            "UPDATE comfy_relay.relays SET connections = $1, followed_jobs = $2, list = $3 WHERE owner = $4",
        );
        let read_lists = self.names.text(&format!(
            "SELECT list FROM comfy_relay.relays WHERE owner <> $1 AND list IS NOT NULL LIMIT {MAX_LISTS}"
        ));
        let others = |what: &str| {
            format!(
                "(SELECT CAST(coalesce(sum({what}), 0) AS BIGINT) FROM comfy_relay.relays WHERE owner <> $1) AS {what}"
            )
        };
        let open = |status: &str| {
            format!(
                "(SELECT count(*) FROM comfy_relay.jobs WHERE status = '{status}' AND owner <> $1) AS {status}"
            )
        };
        let (connected, followed) = (others("connections"), others("followed_jobs"));
        let (queued, processing) = (open("queued"), open("processing"));
        let ask = self.names.text(&format!(
            "SELECT {connected}, {followed}, {queued}, {processing}"
        ));
        let in_row = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let in_memory = |count: i64| usize::try_from(count).unwrap_or_default();
        in_time(async {
            let (row, lists): (CountRow, Vec<ListRow>) =
                with_connection!(self, leases, |connection, _names| {
                    let telling = sql_query(&tell)
                        .bind::<BigInt, _>(in_row(connections))
                        .bind::<BigInt, _>(in_row(followed_jobs))
                        .bind::<Text, _>(list)
                        .bind::<Text, _>(owner.as_str());
                    telling.execute(connection).await?;
                    let asking = sql_query(&ask).bind::<Text, _>(owner.as_str());
                    let row = asking.get_result(connection).await?;
                    let reading = sql_query(&read_lists).bind::<Text, _>(owner.as_str());
                    (row, reading.load(connection).await?)
                });
            let counts = PeerCounts {
                connections: in_memory(row.connections),
                followed_jobs: in_memory(row.followed_jobs),
                queued: in_memory(row.queued),
                processing: in_memory(row.processing),
            };
            Ok((counts, lists.into_iter().map(|row| row.list).collect()))
        })
        .await
    }

    /// The relays that run.
    pub async fn relays(&self) -> Result<Vec<String>, StoreError> {
        let now = self.names.now();
        let list = self.names.text(&format!(
            "SELECT owner FROM comfy_relay.relays WHERE held_until > {now}"
        ));
        in_time(async {
            let rows: Vec<OwnedRow> = with_connection!(self, reads, |connection, _names| {
                sql_query(&list).load(connection).await?
            });
            Ok(rows.into_iter().map(|row| row.owner).collect())
        })
        .await
    }

    /// Removes a relay that stops: its jobs are free.
    pub async fn remove_relay(&self, owner: &LeaseOwner) -> Result<(), StoreError> {
        let remove = self
            .names
            .text("DELETE FROM comfy_relay.relays WHERE owner = $1");
        in_time(async {
            with_connection!(self, leases, |connection, _names| {
                let removing = sql_query(&remove).bind::<Text, _>(owner.as_str());
                removing.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Takes over the open jobs that are free. Returns all open jobs: the row says whose each is.
    pub async fn take_open_jobs(&self, owner: &LeaseOwner) -> Result<Vec<StoredJob>, StoreError> {
        let take = self
            .names
            .text(&format!("{TAKE} {FREE} AND (owner IS NULL OR owner <> $1)"));
        let unplan = self.names.text(UNPLAN);
        in_time(async {
            with_connection!(self, leases, |connection, _names| {
                sql_query(&unplan).execute(connection).await?;
                let taking = sql_query(&take).bind::<Text, _>(owner.as_str());
                taking.execute(connection).await?
            });
            Ok(())
        })
        .await?;
        self.open_jobs().await
    }

    /// Whether open jobs of backends that a relay follows are not its own.
    pub async fn has_jobs_of_others(&self, owner: &LeaseOwner) -> Result<bool, StoreError> {
        let now = self.names.now();
        let find = self.names.text(&format!(
            "SELECT owner FROM comfy_relay.jobs WHERE status IN ('queued', 'processing') AND owner <> $1 \
             AND backend IN (SELECT backend FROM comfy_relay.leases WHERE holder = $1 AND held_until >= {now}) LIMIT 1"
        ));
        in_time(async {
            let found: Vec<OwnedRow> = with_connection!(self, reads, |connection, _names| {
                let finding = sql_query(&find).bind::<Text, _>(owner.as_str());
                finding.load(connection).await?
            });
            Ok(!found.is_empty())
        })
        .await
    }

    /// Takes over the open job of a backend that no relay follows. Returns its row, if there is one: it names its owner.
    pub async fn take_unfollowed_job(
        &self,
        owner: &LeaseOwner,
        id: &JobId,
    ) -> Result<Option<StoredJob>, StoreError> {
        let now = self.names.now();
        let take = self.names.text(&format!(
            "{TAKE} job_key = $2 AND (owner IS NULL OR owner <> $1) AND backend NOT IN \
             (SELECT backend FROM comfy_relay.leases WHERE held_until >= {now})"
        ));
        self.take(&take, owner, id).await
    }

    /// Takes over a producer's open job, whoever has it: its producer reports to `owner` now. Returns its row, if there
    /// is one.
    pub async fn take_reported_job(
        &self,
        owner: &LeaseOwner,
        id: &JobId,
    ) -> Result<Option<StoredJob>, StoreError> {
        let take = self.names.text(&format!(
            "{TAKE} job_key = $2 AND prompt_id IS NULL AND (owner IS NULL OR owner <> $1)"
        ));
        self.take(&take, owner, id).await
    }

    async fn take(
        &self,
        statement: &str,
        owner: &LeaseOwner,
        id: &JobId,
    ) -> Result<Option<StoredJob>, StoreError> {
        in_time(async {
            with_connection!(self, reads, |connection, _names| {
                let taking = sql_query(statement)
                    .bind::<Text, _>(owner.as_str())
                    .bind::<Text, _>(id.as_str());
                taking.execute(connection).await?
            });
            Ok(())
        })
        .await?;
        self.job(id).await
    }
}
