//! Notices when files change.

use std::fs::{self, Metadata};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// One or several files that are read again when one of them is written or replaced. They need not exist.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Option<Version>>>,
}

/// What changes with every write of a file, and with every replacement: modification time, size, identity.
type Version = (SystemTime, u64, u64);

impl WatchedFile {
    /// Remembers the present versions. Call it before the files are read: a change between the two is
    /// noticed then.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let seen = Mutex::new(versions(&paths));
        Self { paths, seen }
    }

    /// Whether a file has changed since the last call, or since `new`. Blocks.
    pub(crate) fn has_changed(&self) -> bool {
        let now = versions(&self.paths);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let has_changed = *seen != now;
        *seen = now;
        has_changed
    }
}

/// Follows symbolic links: Kubernetes replaces a mounted secret by changing where a link points.
fn versions(paths: &[PathBuf]) -> Vec<Option<Version>> {
    let versions = paths.iter().map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len(), identity(&found)?))
    });
    versions.collect()
}

/// What distinguishes a file from one that has replaced it: its inode.
#[cfg(unix)]
fn identity(file: &Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(file))
}

/// What distinguishes a file from one that has replaced it: when it was made, in milliseconds since 1970.
#[cfg(not(unix))]
fn identity(file: &Metadata) -> Option<u64> {
    let made_at = file.created().ok()?.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(made_at.ok()?.as_millis()).ok()
}
