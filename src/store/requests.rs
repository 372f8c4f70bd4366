//! Requests with an Idempotency-Key: which jobs they make or have made.

use std::time::Duration;

use diesel::OptionalExtension;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::query_dsl::methods;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::lease_owner::LeaseOwner;
use super::schema::{relays, requests};

/// How many rows one statement deletes at most.
const DELETE_BATCH: i64 = 1_000;

/// A request with an Idempotency-Key.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = requests)]
pub struct StoredRequest {
    /// Names it.
    pub request_key: String,
    /// Of its body.
    pub digest: String,
    /// The jobs that it makes or has made: JSON.
    pub made: String,
    /// The relay that makes them.
    pub owner: String,
}

impl Store {
    /// Adds a request. Returns the one that has the same key already, if there is one.
    pub async fn add_request(
        &self,
        request: &StoredRequest,
    ) -> Result<Option<StoredRequest>, StoreError> {
        let insert = diesel::insert_into(requests::table)
            .values((
                requests::request_key.eq(&request.request_key),
                requests::digest.eq(&request.digest),
                requests::made.eq(&request.made),
                requests::owner.eq(&request.owner),
                requests::created_at.eq(sql::<BigInt>(self.names.now())),
            ))
            .on_conflict(requests::request_key)
            .do_nothing();
        let named = requests::table.filter(requests::request_key.eq(&request.request_key));
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                let added = names.statement(&insert)?.execute(connection).await?;
                if added > 0 {
                    None
                } else {
                    let find = names.query(named.select(StoredRequest::as_select()))?;
                    find.get_result(connection).await.optional()?
                }
            }))
        })
        .await
    }

    /// The request with this key.
    pub async fn request(&self, key: &str) -> Result<Option<StoredRequest>, StoreError> {
        let named = requests::table.filter(requests::request_key.eq(key));
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                let find = names.query(named.select(StoredRequest::as_select()))?;
                find.get_result(connection).await.optional()?
            }))
        })
        .await
    }

    /// Makes `owner` the relay that makes the jobs of a request, if it is as it was read.
    pub async fn take_request(
        &self,
        request: &StoredRequest,
        owner: &LeaseOwner,
    ) -> Result<bool, StoreError> {
        let as_read = requests::request_key
            .eq(&request.request_key)
            .and(requests::owner.eq(&request.owner));
        let take =
            diesel::update(requests::table.filter(as_read)).set(requests::owner.eq(owner.as_str()));
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.statement(&take)?.execute(connection).await? > 0
            }))
        })
        .await
    }

    /// Removes a request of `owner` that was refused.
    pub async fn remove_request(&self, key: &str, owner: &LeaseOwner) -> Result<(), StoreError> {
        let own = requests::request_key
            .eq(key)
            .and(requests::owner.eq(owner.as_str()));
        let remove = diesel::delete(requests::table.filter(own));
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&remove)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Whether a relay runs, as far as its registration shows.
    pub async fn is_running(&self, owner: &str) -> Result<bool, StoreError> {
        if LeaseOwner::is_dead(owner) {
            return Ok(false);
        }
        let registered = relays::owner
            .eq(owner)
            .and(relays::held_until.ge(sql::<BigInt>(self.names.now())));
        let find = methods::FilterDsl::filter(relays::table, registered).select(relays::owner);
        let found: Option<String> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(find)?.get_result(connection).await.optional()?
            }))
        })
        .await?;
        Ok(found.is_some())
    }

    /// Deletes the requests that came before so long, a few at a time.
    pub async fn delete_requests(&self, age: Duration) -> Result<(), StoreError> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = sql::<BigInt>(&format!("{} - {age}", self.names.now()));
        let old = requests::table
            .filter(requests::created_at.lt(before))
            .order(requests::created_at)
            .select(requests::request_key)
            .limit(DELETE_BATCH);
        loop {
            let deleted = in_time(async {
                Ok(with_connection!(self, lists, |connection, names| {
                    let keys: Vec<String> = names.query(old.clone())?.load(connection).await?;
                    let delete =
                        diesel::delete(requests::table.filter(requests::request_key.eq_any(keys)));
                    names.statement(&delete)?.execute(connection).await?
                }))
            });
            if deleted.await? == 0 {
                return Ok(());
            }
        }
    }
}
