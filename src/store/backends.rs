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
        let store = diesel::insert_into(backends::table)
            .values((
                backends::name.eq(name),
                backends::url.eq(url),
                backends::client_id.eq(fresh),
            ))
            .on_conflict(backends::name)
            .do_update()
            .set(backends::url.eq(url));
        let stored = backends::table
            .filter(backends::name.eq(name))
            .select(backends::client_id);
        in_time(async {
            with_connection!(self, leases, |connection, names| {
                names.statement(&store)?.execute(connection).await?;
                Ok(names.query(stored)?.get_result(connection).await?)
            })
        })
        .await
    }
}
