//! The queue as all relays on the database share it: what waits with others, and how busy the backends of others are.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::job_queries::OPEN;
use super::lease_owner::LeaseOwner;
use super::moment::Moment;
use super::schema::{jobs, leases, submissions};
use super::submission_state::WITHDRAWN;
use crate::job::JobId;

/// A job that no backend has yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedWait {
    /// The job.
    pub job_id: JobId,
    /// The relay that publishes it.
    pub owner: Option<String>,
    /// The backend for which it is claimed; `None` while it waits.
    pub claimed_for: Option<String>,
}

/// An open job of a backend, as its row shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPrompt {
    /// The name of the backend.
    pub backend: String,
    /// When it will end, if the relay that follows it knows.
    pub ends_at: Option<Timestamp>,
}

/// How busy a backend is, as the relay that follows it has written last: prompts of all clients count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedLoad {
    /// The name of the backend.
    pub backend: String,
    /// How many prompts it has.
    pub prompts: usize,
    /// When it is done with them, if that is known.
    pub free_at: Option<Timestamp>,
    /// How it is otherwise, as text that relays alone read; `None` if an earlier release follows it.
    pub report: Option<String>,
}

impl Store {
    /// Writes how busy a backend is that `owner` follows, for the plans of other relays.
    pub async fn report_load(
        &self,
        load: &ReportedLoad,
        owner: &LeaseOwner,
    ) -> Result<(), StoreError> {
        let held = leases::backend
            .eq(&load.backend)
            .and(leases::holder.eq(owner.as_str()));
        let report = diesel::update(leases::table.filter(held)).set((
            leases::prompts.eq(i64::try_from(load.prompts).unwrap_or(i64::MAX)),
            leases::free_at.eq(load.free_at.map(|at| at.as_millisecond())),
            leases::report.eq(&load.report),
        ));
        in_time(async {
            with_connection!(self, leases, |connection, names| {
                names.statement(&report)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// How busy the backends are that relays follow now.
    pub async fn reported_loads(&self) -> Result<Vec<ReportedLoad>, StoreError> {
        let now = sql::<BigInt>(self.names.now());
        let held = leases::table.filter(leases::held_until.ge(now)).select((
            leases::backend,
            leases::prompts,
            leases::free_at,
            leases::report,
        ));
        let _turn = self.queue_turn().await;
        type LeaseRow = (String, i64, Option<i64>, Option<String>);
        let rows: Vec<LeaseRow> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(held)?.load(connection).await?
            }))
        })
        .await?;
        let loads = rows
            .into_iter()
            .map(|(backend, prompts, free_at, report)| ReportedLoad {
                backend,
                prompts: prompts.try_into().unwrap_or_default(),
                free_at: free_at.and_then(|at| Timestamp::from_millisecond(at).ok()),
                report,
            });
        Ok(loads.collect())
    }

    /// All jobs that no backend has yet, of all relays.
    pub async fn shared_waits(&self) -> Result<Vec<SharedWait>, StoreError> {
        let waiting = jobs::table
            .inner_join(submissions::table.on(submissions::job_key.eq(jobs::job_key)))
            .filter(
                jobs::status
                    .eq_any(OPEN)
                    .and(submissions::state.ne(WITHDRAWN)),
            )
            .select((
                jobs::job_key,
                jobs::backend,
                jobs::owner,
                submissions::backend,
            ));
        let _turn = self.queue_turn().await;
        type Row = (String, Option<String>, Option<String>, Option<String>);
        let rows: Vec<Row> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(waiting)?.load(connection).await?
            }))
        })
        .await?;
        // Not in the statement: the index on the status is the one to use.
        let without_backend = rows
            .into_iter()
            .filter(|(_, backend, ..)| backend.is_none());
        let waits = without_backend.filter_map(|(key, _, owner, claimed_for)| {
            Some(SharedWait {
                // A key that another program has written may not be valid here.
                job_id: JobId::parse(&key).ok()?,
                owner,
                claimed_for,
            })
        });
        Ok(waits.collect())
    }

    /// The open jobs of all backends, as the relays that follow them have written them last.
    pub async fn peer_prompts(&self) -> Result<Vec<PeerPrompt>, StoreError> {
        let open = jobs::table.filter(jobs::status.eq_any(OPEN)).select((
            jobs::backend,
            jobs::last_updated,
            jobs::estimated_remaining,
        ));
        let _turn = self.queue_turn().await;
        let rows: Vec<(Option<String>, Moment, Option<i64>)> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(open)?.load(connection).await?
            }))
        })
        .await?;
        let prompts = rows.into_iter().filter_map(|(backend, written_at, left)| {
            let left = left.map(jiff::SignedDuration::from_secs);
            Some(PeerPrompt {
                backend: backend?,
                ends_at: left.and_then(|left| written_at.0.checked_add(left).ok()),
            })
        });
        Ok(prompts.collect())
    }
}
