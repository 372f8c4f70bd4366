//! Whether files have changed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// What changes of a file when it is written or replaced. Links are followed: some systems change
/// where they lead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WatchedFile(Vec<Option<(SystemTime, u64, u64)>>);

impl WatchedFile {
    /// The stamp of some files, which need not exist. Taken before they are read, lest a change between
    /// the two be missed.
    pub(crate) fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let stamps = paths.into_iter().map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len(), found.ino()))
        });
        Self(stamps.collect())
    }
}
