//! What is to be sent to webhooks: it is added in the transaction that writes the state it reports, claimed by one
//! relay at a time, and stays until it was delivered or given up.

use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::upsert::excluded;
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::lease::in_ms;
use super::lease_owner::LeaseOwner;
use super::new_delivery::NewDelivery;
use super::rows::batch;
use super::schema::{gone_webhooks, webhook_deliveries};
use super::webhook_queries::DeliveryState;

/// A delivery that this relay sends, and no other one until its claim has ended.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct ClaimedDelivery {
    /// The header `webhook-id`.
    #[diesel(sql_type = Text)]
    pub id: String,
    /// Where it is sent.
    #[diesel(sql_type = Text)]
    pub url: String,
    /// The type of the event.
    #[diesel(sql_type = Text)]
    pub event: String,
    /// The body.
    #[diesel(sql_type = Text)]
    pub payload: String,
    /// How long ago it was added, in milliseconds.
    #[diesel(sql_type = BigInt)]
    pub age: i64,
    /// The attempts before this one whose results are known: those that a crash has cut off do not count.
    #[diesel(sql_type = BigInt)]
    pub attempts: i64,
}

/// The result of an attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptResult {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed; `None` if it did not.
    pub error: Option<String>,
    /// When to try again; `None` to leave it at that.
    pub retry_after: Option<Duration>,
}

impl Store {
    /// Adds deliveries that report nothing which is written itself.
    pub async fn add_deliveries(&self, added: &[NewDelivery]) -> Result<(), StoreError> {
        let (rows, insert) = (batch(&added)?, &self.webhooks.insert);
        in_time(async {
            with_connection!(self, reads, |connection, _names| {
                let insert = sql_query(insert).bind::<Text, _>(rows);
                insert.execute(connection).await?
            });
            Ok(())
        })
        .await?;
        self.deliveries_added.notify_one();
        Ok(())
    }

    /// Waits until deliveries are added by this relay.
    pub async fn deliveries_added(&self) {
        self.deliveries_added.notified().await;
    }

    /// Claims a delivery that is due for `owner`, for the time `lasts`, none for targets that begin as one of the `busy` ones.
    pub async fn claim_delivery(
        &self,
        owner: &LeaseOwner,
        lasts: Duration,
        busy: &[&str],
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        let busy = serde_json::to_string(busy)?;
        in_time(async {
            Ok(with_connection!(self, reads, |connection, _names| {
                let claim = sql_query(&self.webhooks.claim)
                    .bind::<Text, _>(owner.as_str())
                    .bind::<BigInt, _>(in_ms(lasts))
                    .bind::<Text, _>(&busy);
                claim.get_result(connection).await.optional()?
            }))
        })
        .await
    }

    /// Records the result of an attempt, if the delivery is still claimed by `owner`.
    pub async fn finish_attempt(
        &self,
        id: &str,
        owner: &LeaseOwner,
        result: &AttemptResult,
    ) -> Result<(), StoreError> {
        let claimed = webhook_deliveries::id
            .eq(id)
            .and(webhook_deliveries::claimed_by.eq(owner.as_str()));
        let now = self.names.now();
        let (state, due_at, ended_at) = match (&result.error, result.retry_after) {
            (None, _) => (DeliveryState::Delivered, "due_at".to_owned(), now),
            (Some(_), None) => (DeliveryState::Failed, "due_at".to_owned(), now),
            (Some(_), Some(pause)) => {
                let pause = pause.as_millis();
                (DeliveryState::Pending, format!("{now} + {pause}"), "NULL")
            }
        };
        let finish = diesel::update(webhook_deliveries::table.filter(claimed)).set((
            webhook_deliveries::state.eq(state.as_str()),
            webhook_deliveries::attempts.eq(webhook_deliveries::attempts + 1),
            webhook_deliveries::due_at.eq(sql::<BigInt>(&due_at)),
            webhook_deliveries::ended_at.eq(sql::<diesel::sql_types::Nullable<BigInt>>(ended_at)),
            webhook_deliveries::claimed_by.eq(None::<String>),
            webhook_deliveries::claimed_until.eq(None::<i64>),
            webhook_deliveries::last_status.eq(result.status.map(i64::from)),
            webhook_deliveries::last_error.eq(&result.error),
        ));
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&finish)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Ends everything that is to be sent to a target that is gone, and adds nothing more for it.
    pub async fn end_target(&self, url: &str) -> Result<(), StoreError> {
        let now = || sql::<BigInt>(self.names.now());
        let mark = diesel::insert_into(gone_webhooks::table)
            .values((gone_webhooks::url.eq(url), gone_webhooks::gone_at.eq(now())))
            .on_conflict(gone_webhooks::url)
            .do_update()
            .set(gone_webhooks::gone_at.eq(excluded(gone_webhooks::gone_at)));
        let waiting = webhook_deliveries::url
            .eq(url)
            .and(webhook_deliveries::state.eq(DeliveryState::Pending.as_str()));
        let end = diesel::update(webhook_deliveries::table.filter(waiting)).set((
            webhook_deliveries::state.eq(DeliveryState::Gone.as_str()),
            webhook_deliveries::ended_at.eq(now().nullable()),
            webhook_deliveries::claimed_by.eq(None::<String>),
            webhook_deliveries::claimed_until.eq(None::<i64>),
            webhook_deliveries::last_status.eq(Some(410)),
            webhook_deliveries::last_error.eq(Some("the target answered 410: it is gone")),
        ));
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                connection
                    .transaction(async |connection| {
                        names.statement(&mark)?.execute(connection).await?;
                        names.statement(&end)?.execute(connection).await?;
                        Ok::<_, StoreError>(())
                    })
                    .await?;
            });
            Ok(())
        })
        .await
    }

    /// Sends to a target again that was gone.
    pub async fn revive_target(&self, url: &str) -> Result<(), StoreError> {
        let revive = diesel::delete(gone_webhooks::table.filter(gone_webhooks::url.eq(url)));
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&revive)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Ends the claims of relays whose processes are known to be dead, and those of `owner`, which has none any more.
    pub async fn release_deliveries(&self, owner: Option<&LeaseOwner>) -> Result<(), StoreError> {
        let claimed = webhook_deliveries::state
            .eq(DeliveryState::Pending.as_str())
            .and(webhook_deliveries::claimed_by.is_not_null());
        let find = webhook_deliveries::table.filter(claimed);
        let find = find.select(webhook_deliveries::claimed_by).distinct();
        let holders: Vec<Option<String>> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(find)?.load(connection).await?
            }))
        })
        .await?;
        let is_over = |holder: &String| {
            owner.is_some_and(|owner| owner.as_str() == holder) || LeaseOwner::is_dead(holder)
        };
        let over: Vec<String> = holders.into_iter().flatten().filter(is_over).collect();
        if over.is_empty() {
            return Ok(());
        }
        let held = webhook_deliveries::claimed_by.eq_any(over);
        let release = diesel::update(webhook_deliveries::table.filter(held)).set((
            webhook_deliveries::claimed_by.eq(None::<String>),
            webhook_deliveries::claimed_until.eq(None::<i64>),
        ));
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&release)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }
}
