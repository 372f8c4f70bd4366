//! Writes one state into the pipeline's table, one row a statement, in a transaction of its own. Nothing of the
//! pipeline's is altered, created or locked, beyond the row that is updated.

use std::time::{Duration, Instant};

use super::mirror_refusal::MirrorRefusal;
use super::pipeline::Pipeline;
use super::session::Session;
use super::state::MirroredState;
use super::statement::{any_id, assignments, check, insert, lock, update};
use crate::store::database::{Fault, StoreError};
use crate::store::names::Names;

/// How long a statement waits for a lock that the pipeline holds.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// The limits of a transaction. They end with it, because a pooler gives the session to others.
const LIMITS: &str = "SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '5s'";

// In the same transaction as the pipeline's row, whose statements are text.
const STORED_ID: &str = "SELECT pipeline_id AS v FROM comfy_relay.jobs WHERE job_key = $1";
const STORE_ID: &str = "UPDATE comfy_relay.jobs SET pipeline_id = $1 WHERE job_key = $2";
const ENDED: &str = "SELECT status AS v FROM comfy_relay.jobs \
    WHERE job_key = $1 AND status IN ('completed', 'failed', 'cancelled')";
const SETTLE: &str = "UPDATE comfy_relay.jobs SET mirror_due = false \
    WHERE job_key = $1 AND mirror_due AND completed_at IS NOT NULL";

/// Writes states into the pipeline's table.
pub(super) struct Writer<'a, S> {
    pub(super) session: &'a mut S,
    pub(super) pipeline: &'a Pipeline,
    pub(super) names: &'a Names,
    /// Whether jobs without a row get one.
    pub(super) inserts: bool,
}

impl<S: Session> Writer<'_, S> {
    /// Writes a state. Returns what the database refuses for a reason that waiting does not heal; the rest is written.
    /// Fails if all can be written later.
    pub(super) async fn write(
        &mut self,
        state: &MirroredState,
    ) -> Result<Vec<MirrorRefusal>, StoreError> {
        let began = Instant::now();
        match self.transaction(state, false).await {
            Err(error) if !is_passing(&error, began) => {}
            done => return done,
        }
        // The other columns are written without what is refused.
        let began = Instant::now();
        match self.transaction(state, true).await {
            // Not even the row can be read, locked or inserted.
            Err(error) if !is_passing(&error, began) => Ok(vec![MirrorRefusal::of("row", &error)]),
            done => done,
        }
    }

    /// Writes samples of every status into any row, and takes them back. Returns what is refused.
    pub(super) async fn try_samples(&mut self) -> Result<Vec<MirrorRefusal>, StoreError> {
        let mut refused: Vec<MirrorRefusal> = Vec::new();
        for state in MirroredState::samples() {
            self.begin().await?;
            let began = Instant::now();
            let tried = self.try_sample(&state).await;
            self.session.rollback().await?;
            let found = match tried {
                Err(error) if is_passing(&error, began) => return Err(error),
                Err(error) => vec![MirrorRefusal::of("row", &error)],
                Ok(found) => found,
            };
            for one in found {
                if !refused.contains(&one) {
                    refused.push(one);
                }
            }
        }
        Ok(refused)
    }

    async fn try_sample(
        &mut self,
        state: &MirroredState,
    ) -> Result<Vec<MirrorRefusal>, StoreError> {
        let mut refused = Vec::new();
        // An empty table shows this much.
        if let Some(status) = self.pipeline.column("status") {
            let sql = check(self.pipeline, status);
            let values = vec![Some(state.status.as_str().to_owned())];
            self.session.savepoint().await?;
            match self.session.rows(&sql, values).await {
                Ok(_) => self.session.commit().await?,
                Err(error) => {
                    self.session.rollback().await?;
                    refused.push(MirrorRefusal::of("status", &error));
                }
            }
        }
        let rows = self
            .session
            .rows(&any_id(self.pipeline), Vec::new())
            .await?;
        let Some(id) = rows.into_iter().next().flatten() else {
            return Ok(refused);
        };
        self.update(state, &id, true, &mut refused).await?;
        Ok(refused)
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        self.session.begin().await?;
        if self.pipeline.is_postgres()
            && let Err(error) = self.session.batch(LIMITS).await
        {
            self.session.rollback().await?;
            return Err(error);
        }
        Ok(())
    }

    async fn transaction(
        &mut self,
        state: &MirroredState,
        by_columns: bool,
    ) -> Result<Vec<MirrorRefusal>, StoreError> {
        self.begin().await?;
        match self.steps(state, by_columns).await {
            Ok(refused) => {
                self.session.commit().await?;
                Ok(refused)
            }
            Err(error) => {
                // The first error says more than one of a connection that is gone.
                let _ = self.session.rollback().await;
                Err(error)
            }
        }
    }

    async fn steps(
        &mut self,
        state: &MirroredState,
        by_columns: bool,
    ) -> Result<Vec<MirrorRefusal>, StoreError> {
        let mut refused = Vec::new();
        let can_name = self.pipeline.can_name_a_row(&state.job_key);
        let id = can_name.then_some(&*state.job_key);
        let mut is_written = false;
        if let Some(id) = id {
            is_written = self.update(state, id, by_columns, &mut refused).await?;
        }
        if !is_written && self.inserts {
            let key = Some(state.job_key.clone());
            let stored = self.own_rows(STORED_ID, vec![key.clone()]).await?;
            if let Some(id) = stored.into_iter().next().flatten() {
                self.update(state, &id, by_columns, &mut refused).await?;
            } else {
                let (sql, values) = insert(self.pipeline, state, id);
                let rows = self.session.rows(&sql, values).await?;
                let inserted = rows.into_iter().next().flatten();
                self.own_rows(STORE_ID, vec![inserted, key]).await?;
            }
        }
        if state.status.is_final() && refused.is_empty() {
            self.own_rows(SETTLE, vec![Some(state.job_key.clone())])
                .await?;
        }
        Ok(refused)
    }

    /// Updates a row, in one statement or column by column. Returns whether there is one.
    async fn update(
        &mut self,
        state: &MirroredState,
        id: &str,
        by_columns: bool,
        refused: &mut Vec<MirrorRefusal>,
    ) -> Result<bool, StoreError> {
        let sql = lock(self.pipeline);
        let found = self.session.rows(&sql, vec![Some(id.to_owned())]).await?;
        let Some(metadata) = found.into_iter().next() else {
            return Ok(false);
        };
        // Another relay may have ended the job since. Asked while the pipeline's row is locked: its end comes after this, or is
        // there.
        let key = || vec![Some(state.job_key.clone())];
        if !state.status.is_final() && !self.own_rows(ENDED, key()).await?.is_empty() {
            return Ok(true);
        }
        let assignments = assignments(self.pipeline, state, metadata.as_deref(), refused);
        if !by_columns {
            let (sql, values) = update(self.pipeline, &assignments, id);
            self.session.execute(&sql, values).await?;
            return Ok(true);
        }
        for one in assignments.chunks(1) {
            let (sql, values) = update(self.pipeline, one, id);
            let began = Instant::now();
            self.session.savepoint().await?;
            match self.session.execute(&sql, values).await {
                Ok(()) => self.session.commit().await?,
                Err(error) => {
                    self.session.rollback().await?;
                    if is_passing(&error, began) {
                        return Err(error);
                    }
                    refused.push(MirrorRefusal::of(&one[0].column.name, &error));
                }
            }
        }
        Ok(true)
    }

    async fn own_rows(
        &mut self,
        sql: &str,
        values: Vec<Option<String>>,
    ) -> Result<Vec<Option<String>>, StoreError> {
        self.session.rows(&self.names.text(sql), values).await
    }
}

/// Whether an error passes. The driver does not tell a lock that was not released from a value that is refused, but the
/// first one takes as long as the limit.
fn is_passing(error: &StoreError, began: Instant) -> bool {
    match error.fault() {
        Fault::Database => true,
        Fault::Data => false,
        Fault::Either => began.elapsed() >= LOCK_TIMEOUT,
    }
}
