//! The files that clients have uploaded for graphs to load.

use diesel::OptionalExtension;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::schema::assets::{created_at, hash, id, table};

/// A file that graphs can load.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = super::schema::assets)]
pub struct StoredAsset {
    /// Names it.
    pub id: String,
    /// Of its content: `blake3:` and hexadecimal digits.
    pub hash: String,
    /// How large it is.
    pub size_bytes: i64,
    /// The media type, as the client says.
    pub content_type: String,
    /// As the client calls it.
    pub file_path: String,
    /// As it is called in the input folders of the ComfyUI servers.
    pub filename: String,
    /// When it came, in milliseconds since 1970.
    pub created_at: i64,
}

impl Store {
    /// Adds an asset. One with its id stays as it is.
    pub async fn add_asset(&self, asset: &StoredAsset) -> Result<(), StoreError> {
        let add = diesel::insert_into(table)
            .values(asset)
            .on_conflict(id)
            .do_nothing();
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&add)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// The asset with this id.
    pub async fn asset(&self, named: &str) -> Result<Option<StoredAsset>, StoreError> {
        let named = table.filter(id.eq(named));
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                let find = names.query(named.select(StoredAsset::as_select()))?;
                find.get_result(connection).await.optional()?
            }))
        })
        .await
    }

    /// The newest asset with this content.
    pub async fn asset_with_hash(&self, wanted: &str) -> Result<Option<StoredAsset>, StoreError> {
        let same = table
            .filter(hash.eq(wanted))
            .order(created_at.desc())
            .limit(1);
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                let find = names.query(same.select(StoredAsset::as_select()))?;
                find.get_result(connection).await.optional()?
            }))
        })
        .await
    }

    /// Removes the assets that came before a moment.
    pub async fn delete_assets(&self, before: Timestamp) -> Result<(), StoreError> {
        let old = table.filter(created_at.lt(before.as_millisecond()));
        let remove = diesel::delete(old);
        in_time(async {
            with_connection!(self, lists, |connection, names| {
                names.statement(&remove)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }

    /// Removes an asset. Returns whether there was one.
    pub async fn remove_asset(&self, named: &str) -> Result<bool, StoreError> {
        let remove = diesel::delete(table.filter(id.eq(named)));
        in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.statement(&remove)?.execute(connection).await? > 0
            }))
        })
        .await
    }
}
