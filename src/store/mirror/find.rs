//! Finds the pipeline's table, and what the relay may do with it.

use diesel::sql_types::{Bool, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;

use super::pipeline::{Pipeline, PipelineColumn};
use crate::config::PipelineTable;
use crate::store::Store;
use crate::store::database::{Pools, StoreError, connection_of, in_time, with_connection};

/// Whether the role may do with the table what the mirror does.
const MAY_MIRROR: &str =
    "SELECT has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'UPDATE') AS is_allowed";

/// What the pipeline's table is like.
#[derive(Debug)]
pub struct PipelineInspection {
    /// Its quoted name, with its schema.
    pub table: String,
    /// Whether the role may read and update it.
    pub is_writable: bool,
    /// Whether policies hide or refuse rows.
    pub has_row_security: bool,
}

#[derive(Debug, QueryableByName)]
struct Permission {
    #[diesel(sql_type = Bool)]
    is_allowed: bool,
}

impl Store {
    /// The pipeline's table as it is now; `None` if there is none, or none is wanted.
    pub(super) async fn find_pipeline(&self) -> Result<Option<Pipeline>, StoreError> {
        let PipelineTable::Named { schema, table } = &self.mirror.0.table else {
            return Ok(None);
        };
        let names = &self.names;
        let query = sql_query(Pipeline::columns(names))
            .bind::<Nullable<Text>, _>(schema.as_deref())
            .bind::<Text, _>(table);
        let columns: Vec<PipelineColumn> = in_time(async {
            Ok(with_connection!(self, mirror, |connection, _names| {
                query.load(connection).await?
            }))
        })
        .await?;
        Ok(Pipeline::of(columns, names))
    }

    /// What the pipeline's table is like; `None` if there is none. Nothing in it is changed.
    pub(in crate::store) async fn inspect_pipeline(
        &self,
    ) -> Result<Option<PipelineInspection>, StoreError> {
        let Some(pipeline) = self.find_pipeline().await? else {
            return Ok(None);
        };
        let is_writable = match &self.pools.mirror {
            Pools::Sqlite(_) => true,
            Pools::Postgres(pool) => {
                let mut connection = connection_of(pool).await?;
                let query = sql_query(MAY_MIRROR).bind::<Text, _>(&pipeline.name);
                let permission: Permission = query.get_result(&mut *connection).await?;
                permission.is_allowed
            }
        };
        Ok(Some(PipelineInspection {
            is_writable,
            has_row_security: pipeline.has_row_security,
            table: pipeline.name,
        }))
    }
}
