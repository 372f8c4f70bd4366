//! The webhooks of single jobs, and what is known of deliveries.

use std::time::Duration;

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::schema::{gone_webhooks, job_webhooks, webhook_deliveries};
use crate::job::JobId;
use crate::wire_schema::word_schema;

/// How many rows one statement deletes at most.
const DELETE_BATCH: i64 = 1_000;

/// How long a target stays gone that only jobs name. A job that names it again then finds out anew.
const GONE_TIME: Duration = Duration::from_secs(86_400);

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is sent, or sent again.
    Pending,
    /// Its target has accepted it.
    Delivered,
    /// It was given up.
    Failed,
    /// Its target is gone.
    Gone,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Failed, Self::Gone];

    /// Its word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

word_schema!(DeliveryState, "What became of a message to a webhook.");

/// A delivery, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = webhook_deliveries)]
pub struct StoredDelivery {
    /// The header `webhook-id`.
    pub id: String,
    /// Where it is sent.
    pub url: String,
    /// The type of the event.
    pub event: String,
    /// The job that it is about.
    pub job_key: Option<String>,
    /// When it was added, in milliseconds since 1970.
    pub created_at: i64,
    /// The word of its [`DeliveryState`].
    pub state: String,
    /// How often it was sent.
    pub attempts: i64,
    /// When it is sent again, in milliseconds since 1970.
    pub due_at: i64,
    /// What the last attempt was answered.
    pub last_status: Option<i64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it was delivered or given up, in milliseconds since 1970.
    pub ended_at: Option<i64>,
}

#[derive(Debug, QueryableByName)]
struct QueueMark {
    #[diesel(sql_type = Text)]
    mark: String,
}

/// Which deliveries a list contains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Only those about these jobs.
    pub jobs: Option<Vec<JobId>>,
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those after this one: when it was added, in milliseconds since 1970, and its id.
    pub after: Option<(i64, String)>,
}

impl Store {
    /// At most `limit` deliveries, the newest first.
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        limit: usize,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let jobs = filter.jobs.as_ref();
        let jobs: Option<Vec<&str>> = jobs.map(|jobs| jobs.iter().map(JobId::as_str).collect());
        in_time(async {
            Ok(with_connection!(self, lists, |connection, names, Kind| {
                let mut query = webhook_deliveries::table
                    .select(StoredDelivery::as_select())
                    .order((
                        webhook_deliveries::created_at.desc(),
                        webhook_deliveries::id.desc(),
                    ))
                    .limit(i64::try_from(limit).unwrap_or(i64::MAX))
                    .into_boxed::<Kind>();
                if let Some(jobs) = &jobs {
                    query = query.filter(webhook_deliveries::job_key.eq_any(jobs));
                }
                if let Some(state) = filter.state {
                    query = query.filter(webhook_deliveries::state.eq(state.as_str()));
                }
                if let Some((created_at, id)) = &filter.after {
                    query = query.filter(
                        webhook_deliveries::created_at.lt(*created_at).or(
                            webhook_deliveries::created_at
                                .eq(*created_at)
                                .and(webhook_deliveries::id.lt(id)),
                        ),
                    );
                }
                names.query(query)?.load(connection).await?
            }))
        })
        .await
    }

    /// How many deliveries are not delivered yet.
    pub async fn pending_deliveries(&self) -> Result<usize, StoreError> {
        let is_pending = webhook_deliveries::state.eq(DeliveryState::Pending.as_str());
        let pending = webhook_deliveries::table.filter(is_pending);
        let count: i64 = in_time(async {
            Ok(with_connection!(self, lists, |connection, names| {
                let count = names.query(pending.select(count_star()))?;
                count.get_result(connection).await?
            }))
        })
        .await?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// Stores the webhook of jobs that are not made yet: where these events of each are sent. Replaces what is left of another.
    pub async fn set_job_webhook(
        &self,
        jobs: &[JobId],
        url: &str,
        events: &[String],
    ) -> Result<(), StoreError> {
        let (ids, events) = (json_ids(jobs)?, serde_json::to_string(events)?);
        let statements = &self.webhooks;
        in_time(async {
            with_connection!(self, reads, |connection, _names| {
                connection
                    .transaction(async |connection| {
                        let delete = sql_query(&statements.delete_of_jobs).bind::<Text, _>(&ids);
                        delete.execute(connection).await?;
                        let insert = sql_query(&statements.insert_for_jobs)
                            .bind::<Text, _>(&ids)
                            .bind::<Text, _>(&events)
                            .bind::<Text, _>(url);
                        insert.execute(connection).await?;
                        Ok::<_, StoreError>(())
                    })
                    .await?;
            });
            Ok(())
        })
        .await
    }

    /// A text that tells what is in the queue of all relays on the database from what was in it before: it changes with each job
    /// that comes, and each that waits again.
    pub async fn queue_mark(&self) -> Result<String, StoreError> {
        let text = "SELECT COALESCE(CAST(max(abs(place)) AS TEXT) || '.' || CAST(sum(attempt) AS TEXT), '') AS mark \
            FROM comfy_relay.submissions";
        let text = self.names.text(text);
        let row: QueueMark = in_time(async {
            Ok(with_connection!(self, lists, |connection, _names| {
                sql_query(&text).get_result(connection).await?
            }))
        })
        .await?;
        Ok(row.mark)
    }

    /// The webhook of a job: its target, and the events that are sent there.
    pub async fn job_webhook(
        &self,
        job: &JobId,
    ) -> Result<Option<(String, Vec<String>)>, StoreError> {
        let own = job_webhooks::table.filter(job_webhooks::job_key.eq(job.as_str()));
        let own = own.select((job_webhooks::url, job_webhooks::event));
        let rows: Vec<(String, String)> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(own)?.load(connection).await?
            }))
        })
        .await?;
        let url = rows.iter().map(|(url, _)| url.clone()).next();
        let events = rows.into_iter().map(|(_, event)| event).collect();
        Ok(url.map(|url| (url, events)))
    }

    /// Forgets the webhooks of jobs that are not made.
    pub async fn remove_job_webhooks(&self, jobs: &[JobId]) -> Result<(), StoreError> {
        let (ids, delete) = (json_ids(jobs)?, &self.webhooks.delete_of_jobs);
        in_time(async {
            with_connection!(self, reads, |connection, _names| {
                let delete = sql_query(delete).bind::<Text, _>(ids);
                delete.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Deletes the deliveries that ended so long ago, and what is remembered of targets that have been gone for a day.
    pub async fn delete_deliveries(&self, age: Duration) -> Result<(), StoreError> {
        let before = |age: Duration| {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            sql::<BigInt>(&format!("{} - {age}", self.names.now()))
        };
        let old = webhook_deliveries::table
            .filter(webhook_deliveries::ended_at.lt(before(age).nullable()))
            .select(webhook_deliveries::id)
            .limit(DELETE_BATCH);
        loop {
            let deleted = in_time(async {
                Ok(with_connection!(self, lists, |connection, names| {
                    let ids: Vec<String> = names.query(old.clone())?.load(connection).await?;
                    let delete = webhook_deliveries::table;
                    let delete = diesel::delete(delete.filter(webhook_deliveries::id.eq_any(ids)));
                    names.statement(&delete)?.execute(connection).await?
                }))
            });
            if deleted.await? == 0 {
                break;
            }
        }
        let gone = gone_webhooks::table.filter(gone_webhooks::gone_at.lt(before(GONE_TIME)));
        let gone = diesel::delete(gone);
        in_time(async {
            with_connection!(self, lists, |connection, names| {
                names.statement(&gone)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }
}

fn json_ids(jobs: &[JobId]) -> serde_json::Result<String> {
    let ids: Vec<&str> = jobs.iter().map(JobId::as_str).collect();
    serde_json::to_string(&ids)
}
