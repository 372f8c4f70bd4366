//! Pictures that workflows load: they are kept here until the servers that run the jobs have them.

use std::time::Duration;

use diesel::OptionalExtension;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::schema::input_files;

/// How many rows one statement deletes at most: each can hold megabytes.
const DELETE_BATCH: i64 = 4;

/// By how much the last use of a picture that is noted may be too old: a write rewrites the whole row, which can have megabytes.
pub(crate) const INPUT_USE_PRECISION: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    /// Adds a picture, or notes that it was sent again. Returns whether it is kept: not if all would have more than `limit` bytes.
    pub async fn add_input(
        &self,
        name: &str,
        content: &[u8],
        limit: u64,
    ) -> Result<bool, StoreError> {
        if !self.use_inputs(&[name.to_owned()]).await?.is_empty() {
            return Ok(true);
        }
        let size = i64::try_from(content.len()).unwrap_or(i64::MAX);
        // PostgreSQL sums to a numeric.
        let sum = sql::<BigInt>("CAST(COALESCE(SUM(size), 0) AS BIGINT)");
        let sum = input_files::table.select(sum);
        let insert = diesel::insert_into(input_files::table)
            .values((
                input_files::name.eq(name),
                input_files::content.eq(content),
                input_files::size.eq(size),
                input_files::used_at.eq(sql::<BigInt>(self.names.now())),
            ))
            .on_conflict(input_files::name)
            .do_nothing();
        in_time(async {
            Ok(with_connection!(self, lists, |connection, names| {
                let others: i64 = names.query(sum)?.get_result(connection).await?;
                let has_room =
                    u64::try_from(others.saturating_add(size)).is_ok_and(|it| it <= limit);
                if has_room {
                    names.statement(&insert)?.execute(connection).await?;
                }
                has_room
            }))
        })
        .await
    }

    /// Notes that these pictures are used, with [`INPUT_USE_PRECISION`]. Returns those of them that there are.
    pub async fn use_inputs(&self, wanted: &[String]) -> Result<Vec<String>, StoreError> {
        let named = || input_files::name.eq_any(wanted.to_vec());
        let precision = INPUT_USE_PRECISION.as_millis();
        let day_ago = format!("{} - {precision}", self.names.now());
        let is_old = || input_files::used_at.lt(sql::<BigInt>(&day_ago));
        let find = input_files::table.filter(named());
        let find = find.select((input_files::name, is_old()));
        let touch = diesel::update(input_files::table.filter(named()).filter(is_old()))
            .set(input_files::used_at.eq(sql::<BigInt>(self.names.now())));
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                let mut found: Vec<(String, bool)> =
                    names.query(find.clone())?.load(connection).await?;
                if found.iter().any(|(_, is_old)| *is_old) {
                    names.statement(&touch)?.execute(connection).await?;
                    // One of them may have been deleted in between.
                    found = names.query(find)?.load(connection).await?;
                }
                found.into_iter().map(|(name, _)| name).collect()
            }))
        })
        .await
    }

    /// A picture.
    pub async fn input(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let find = input_files::table.filter(input_files::name.eq(name));
        let find = find.select(input_files::content);
        in_time(async {
            Ok(with_connection!(self, lists, |connection, names| {
                names.query(find)?.get_result(connection).await.optional()?
            }))
        })
        .await
    }

    /// Deletes the pictures that nobody has used for so long, a few at a time.
    pub async fn delete_inputs(&self, age: Duration) -> Result<(), StoreError> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = || sql::<BigInt>(&format!("{} - {age}", self.names.now()));
        let old = input_files::table
            .filter(input_files::used_at.lt(before()))
            .order(input_files::used_at)
            .select(input_files::name)
            .limit(DELETE_BATCH);
        loop {
            let deleted = in_time(async {
                Ok(with_connection!(self, lists, |connection, names| {
                    let all: Vec<String> = names.query(old.clone())?.load(connection).await?;
                    // Not one that was used in between.
                    let delete = diesel::delete(
                        input_files::table
                            .filter(input_files::name.eq_any(all))
                            .filter(input_files::used_at.lt(before())),
                    );
                    names.statement(&delete)?.execute(connection).await?
                }))
            });
            if deleted.await? == 0 {
                return Ok(());
            }
        }
    }
}
