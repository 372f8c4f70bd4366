//! The ComfyUI servers that operators have added while relays ran.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::Store;
use super::database::{StoreError, in_time, with_connection};
use super::schema::added_backends;
use crate::config::BackendLabels;

/// A ComfyUI server that an operator has added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedBackend {
    /// What it is called.
    pub name: String,
    /// Its address, without credentials.
    pub url: String,
    /// Its labels.
    pub labels: BackendLabels,
}

impl Store {
    /// The servers that operators have added, by their names.
    pub async fn added_backends(&self) -> Result<Vec<AddedBackend>, StoreError> {
        let all = added_backends::table.order(added_backends::name).select((
            added_backends::name,
            added_backends::url,
            added_backends::labels,
        ));
        let rows: Vec<(String, String, String)> = in_time(async {
            Ok(with_connection!(self, reads, |connection, names| {
                names.query(all)?.load(connection).await?
            }))
        })
        .await?;
        let added = rows.into_iter().map(|(name, url, labels)| AddedBackend {
            name,
            url,
            labels: serde_json::from_str(&labels).unwrap_or_default(),
        });
        Ok(added.collect())
    }

    /// Stores a server. Returns whether it is new: one with this name stays as it is.
    pub async fn add_backend(&self, added: &AddedBackend) -> Result<bool, StoreError> {
        let labels = serde_json::to_string(&added.labels)?;
        let add = diesel::insert_into(added_backends::table)
            .values((
                added_backends::name.eq(&added.name),
                added_backends::url.eq(&added.url),
                added_backends::labels.eq(labels),
            ))
            .on_conflict(added_backends::name)
            .do_nothing();
        in_time(async {
            let rows = with_connection!(self, reads, |connection, names| {
                names.statement(&add)?.execute(connection).await?
            });
            Ok(rows > 0)
        })
        .await
    }

    /// Forgets a server.
    pub async fn remove_backend(&self, name: &str) -> Result<(), StoreError> {
        let remove = diesel::delete(added_backends::table.filter(added_backends::name.eq(name)));
        in_time(async {
            with_connection!(self, reads, |connection, names| {
                names.statement(&remove)?.execute(connection).await?
            });
            Ok(())
        })
        .await
    }
}
