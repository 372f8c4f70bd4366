//! Pictures in smaller sizes: made in a bounded number at a time, and kept on the disk.

mod cache;
mod scale;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::relay::OutputSource;
use cache::DiskCache;

pub(super) use cache::{Thumbnail, ThumbnailKey};
pub(super) use scale::ThumbnailError;

/// The widest thumbnail, in pixels.
pub(super) const MAX_WIDTH: u32 = 2_048;

/// The largest file that a thumbnail is made of, in bytes.
pub(super) const MAX_FILE: usize = 64 << 20;

/// How many thumbnails are made at a time: each needs the memory of its picture.
const MAX_SCALED: usize = 2;

/// How many files of one ComfyUI server are read for thumbnails at a time. One that is slow delays no other.
const MAX_READ: usize = 2;

/// The thumbnails of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Thumbnails {
    cache: Arc<DiskCache>,
    scaling: Arc<Semaphore>,
    /// By the name of the server.
    reading: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Thumbnails {
    /// Kept in a folder, up to a size in bytes; without a folder each is made anew.
    pub(super) fn new(folder: Option<PathBuf>, size: u64) -> Self {
        Self {
            cache: Arc::new(DiskCache::new(folder, size)),
            scaling: Arc::new(Semaphore::new(MAX_SCALED)),
            reading: Arc::default(),
        }
    }

    /// A thumbnail that was made before.
    pub(super) async fn cached(&self, key: &ThumbnailKey) -> Option<Thumbnail> {
        let (cache, key) = (self.cache.clone(), key.clone());
        spawn_blocking(move || cache.read(&key)).await.ok()?
    }

    /// Waits until another file of a server may be read. The result is held until the thumbnail is made.
    pub(super) async fn turn(&self, source: &OutputSource) -> Option<OwnedSemaphorePermit> {
        let reading = {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            let of_server = reading.entry(source.backend().to_owned());
            let new = || Arc::new(Semaphore::new(MAX_READ));
            of_server.or_insert_with(new).clone()
        };
        // Fails only if the semaphore is closed, which it never is.
        reading.acquire_owned().await.ok()
    }

    /// Makes a thumbnail of a picture, no wider than that, and keeps it. The turn ends with the work, which goes on where its
    /// client has left.
    pub(super) async fn make(
        &self,
        key: ThumbnailKey,
        file: Bytes,
        width: u32,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Thumbnail, ThumbnailError> {
        let cache = self.cache.clone();
        // Fails only if the semaphore is closed, which it never is.
        let scaling = self.scaling.clone().acquire_owned().await.ok();
        let making = spawn_blocking(move || {
            let _turns = (turn, scaling);
            let scaled = scale::scale(&file, width)?;
            if scaled.is_smaller {
                cache.keep(&key, &scaled.thumbnail);
            }
            Ok(scaled.thumbnail)
        });
        making.await.unwrap_or(Err(ThumbnailError::Unreadable))
    }
}
