//! The query for the client id of a backend.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::schema::backends;

impl Store {
    /// The client id of a backend: the stored one, or else `fresh`, which is stored now. It must outlive restarts:
    /// the events of prompts in flight go to it.
    pub async fn client_id(
        &self,
        name: &str,
        url: &str,
        fresh: &str,
    ) -> Result<String, StoreError> {
        in_time(async {
            with_connection!(&self.pools, connection => {
                diesel::insert_into(backends::table)
                    .values((
                        backends::name.eq(name),
                        backends::url.eq(url),
                        backends::client_id.eq(fresh),
                    ))
                    .on_conflict(backends::name)
                    .do_update()
                    .set(backends::url.eq(url))
                    .execute(connection)
                    .await?;
                let stored = backends::table.find(name).select(backends::client_id);
                Ok(stored.first(connection).await?)
            })
        })
        .await
    }
}
