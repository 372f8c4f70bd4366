//! [`StoreInspection`]: what a database is like. Nothing in it is changed.

use std::error::Error;

use diesel::sql_types::BigInt;
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::mirror::PipelineInspection;

/// What a database is like.
#[derive(Debug)]
pub struct StoreInspection {
    /// How many migrations the relay's tables have; 0 if there are no tables.
    pub applied: usize,
    /// How many this program knows.
    pub known: usize,
    /// The time of its clock.
    pub clock: Timestamp,
    /// The pipeline's table, if there is one.
    pub pipeline: Option<PipelineInspection>,
}

#[derive(Debug, QueryableByName)]
struct ClockRow {
    #[diesel(sql_type = BigInt)]
    millis: i64,
}

impl Store {
    /// What the database is like. Fails with the reason why it does not say so.
    pub async fn inspect(&self) -> Result<StoreInspection, String> {
        let inspected = in_time(self.inspect_all()).await;
        inspected.map_err(|error| {
            let causes =
                std::iter::successors(Some(&error as &dyn Error), |error| Error::source(*error));
            let causes: Vec<String> = causes.map(ToString::to_string).collect();
            self.connect_failure().unwrap_or_else(|| causes.join(": "))
        })
    }

    async fn inspect_all(&self) -> Result<StoreInspection, StoreError> {
        let (applied, known) = self.migrations().await?;
        let query = sql_query(format!("SELECT {} AS millis", self.names.now()));
        let clock: ClockRow = with_connection!(self, reads, |connection, _names| {
            query.get_result(connection).await?
        });
        Ok(StoreInspection {
            applied,
            known,
            clock: Timestamp::from_millisecond(clock.millis).unwrap_or_default(),
            pipeline: self.inspect_pipeline().await?,
        })
    }
}
