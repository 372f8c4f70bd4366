//! What operators have stopped, and what waits.

use diesel::dsl::{count_star, exists, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::job_queries::OPEN;
use super::schema::{jobs, operations, submissions};
use super::submission_state::WAITING;

/// The jobs that wait for a backend, of all relays on the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingCount {
    /// How many there are.
    pub jobs: usize,
    /// When the oldest one came.
    pub oldest: Option<Timestamp>,
}

impl Store {
    /// What operators have stopped, and how: a subject and its state.
    pub async fn operations(&self) -> Result<Vec<(String, String)>, StoreError> {
        let all = operations::table.select((operations::subject, operations::state));
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(all)?.load(connection).await?
            }))
        })
        .await
    }

    /// Records that an operator has stopped a subject, or with `None` that it goes on.
    pub async fn set_operation(
        &self,
        subject: &str,
        state: Option<&str>,
    ) -> Result<(), StoreError> {
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                match state {
                    Some(state) => {
                        let stop = diesel::insert_into(operations::table)
                            .values((operations::subject.eq(subject), operations::state.eq(state)))
                            .on_conflict(operations::subject)
                            .do_update()
                            .set(operations::state.eq(state));
                        names.statement(&stop)?.execute(connection).await?
                    }
                    None => {
                        let stopped = operations::table.filter(operations::subject.eq(subject));
                        let resume = diesel::delete(stopped);
                        names.statement(&resume)?.execute(connection).await?
                    }
                }
            });
            Ok(())
        })
        .await
    }

    /// The jobs that wait for a backend.
    pub async fn waiting(&self) -> Result<WaitingCount, StoreError> {
        let open = jobs::table.filter(
            jobs::job_key
                .eq(submissions::job_key)
                .and(jobs::status.eq_any(OPEN)),
        );
        // A submission stays after its job was cancelled. Those that go to the front have the negative of their moment.
        let waiting = submissions::table
            .filter(submissions::state.eq(WAITING).and(exists(open)))
            .select((count_star(), sql::<Nullable<BigInt>>("MIN(ABS(place))")));
        let (jobs, oldest): (i64, Option<i64>) = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(waiting)?.get_result(connection).await?
            }))
        })
        .await?;
        Ok(WaitingCount {
            jobs: usize::try_from(jobs).unwrap_or_default(),
            oldest: oldest.and_then(|place| Timestamp::from_microsecond(place).ok()),
        })
    }
}
