use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest;
use bytes::Bytes;
use hyper::header::HeaderValue;
use uuid::Uuid;

use crate::relay::OutputSource;

/// The kinds of thumbnails, each with the end of its name.
const KINDS: [(&str, &str); 2] = [("image/jpeg", "jpg"), ("image/png", "png")];

/// A picture in a smaller size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Thumbnail {
    pub(in crate::server) bytes: Bytes,
    pub(in crate::server) media_type: &'static str,
}

/// What a thumbnail is found by: a digest of its file and its width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct ThumbnailKey(String);

/// Thumbnails in a folder. Those that were used last stay.
#[derive(Debug)]
pub(super) struct DiskCache {
    /// `None` if nothing is kept.
    folder: Option<PathBuf>,
    max_size: u64,
    /// The size of all files, in bytes; `None` before they were counted.
    size: Mutex<Option<u64>>,
    /// The last one could not be kept: that is logged once.
    has_failed: AtomicBool,
}

impl ThumbnailKey {
    pub(in crate::server) fn of(source: &OutputSource, width: u32) -> Self {
        let text = format!("{source:?} {width}");
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        // Half of it identifies a file.
        let digits = digest.as_ref()[..16].iter();
        Self(digits.map(|byte| format!("{byte:02x}")).collect())
    }

    pub(in crate::server) fn etag(&self) -> HeaderValue {
        HeaderValue::from_str(&format!("\"{}\"", self.0))
            .expect("hexadecimal digits are a valid header")
    }
}

impl DiskCache {
    pub(super) fn new(folder: Option<PathBuf>, max_size: u64) -> Self {
        Self {
            folder: folder.filter(|_| max_size > 0),
            max_size,
            size: Mutex::new(None),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Reads a thumbnail, and marks it as used. Blocks.
    pub(super) fn read(&self, key: &ThumbnailKey) -> Option<Thumbnail> {
        let folder = self.folder.as_ref()?;
        KINDS.iter().find_map(|(media_type, end)| {
            let path = folder.join(format!("{}.{end}", key.0));
            let bytes = fs::read(&path).ok()?;
            // It only lasts less long if that fails.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            Some(Thumbnail {
                bytes: bytes.into(),
                media_type,
            })
        })
    }

    /// Keeps a thumbnail, and removes those that were not used for longest if there are too many. Blocks.
    pub(super) fn keep(&self, key: &ThumbnailKey, thumbnail: &Thumbnail) {
        let Some(folder) = &self.folder else {
            return;
        };
        let kinds = KINDS.iter();
        let mut ends = kinds.filter(|(media_type, _)| *media_type == thumbnail.media_type);
        let Some((_, end)) = ends.next() else {
            return;
        };
        let path = folder.join(format!("{}.{end}", key.0));
        if let Err(error) = write(folder, &path, &thumbnail.bytes) {
            let folder = folder.display();
            if !self.has_failed.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, %folder, "cannot keep thumbnails; they are made anew each time");
            }
            return;
        }
        self.has_failed.store(false, Ordering::Relaxed);
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        let total = match *size {
            Some(size) => size + thumbnail.bytes.len() as u64,
            None => files(folder).iter().map(|file| file.bytes).sum(),
        };
        *size = Some(if total > self.max_size {
            shrink(folder, self.max_size / 10 * 9)
        } else {
            total
        });
    }
}

/// A file of the folder.
struct CachedFile {
    path: PathBuf,
    bytes: u64,
    used_at: SystemTime,
}

fn files(folder: &Path) -> Vec<CachedFile> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let path = entry.path();
        // Nothing that somebody else has put there is removed.
        let end = path.extension()?.to_str()?;
        let is_ours = end == PART || KINDS.iter().any(|(_, kind)| *kind == end);
        let metadata = entry.metadata().ok().filter(|it| is_ours && it.is_file())?;
        Some(CachedFile {
            bytes: metadata.len(),
            used_at: metadata.modified().ok()?,
            path,
        })
    });
    files.collect()
}

/// Removes files until the others have at most this size. Returns what they have.
fn shrink(folder: &Path, max_size: u64) -> u64 {
    let mut files = files(folder);
    files.sort_by_key(|file| file.used_at);
    let mut total = files.iter().map(|file| file.bytes).sum();
    for file in files {
        if total <= max_size {
            break;
        }
        if fs::remove_file(&file.path).is_ok() {
            total -= file.bytes;
        }
    }
    total
}

/// The end of the name of a file that is being written.
const PART: &str = "part";

/// Writes a file that is there whole or not at all.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let part = folder.join(format!("{}.{PART}", Uuid::new_v4()));
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .inspect_err(|_| {
            // It is an error already.
            let _ = fs::remove_file(&part);
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> ThumbnailKey {
        ThumbnailKey(name.to_owned())
    }

    fn thumbnail(size: usize) -> Thumbnail {
        Thumbnail {
            bytes: vec![7; size].into(),
            media_type: "image/jpeg",
        }
    }

    #[test]
    fn thumbnails_stay_until_there_are_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("made");
        let cache = DiskCache::new(Some(below.clone()), 1_000);
        assert_eq!(cache.read(&key("a")), None);
        for (age, name) in [(30, "a"), (20, "b"), (10, "c")] {
            cache.keep(&key(name), &thumbnail(300));
            let file = File::open(below.join(format!("{name}.jpg"))).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(then).unwrap();
        }
        fs::write(below.join("notes.txt"), "of somebody else").unwrap();
        // Used: it stays.
        assert_eq!(cache.read(&key("a")), Some(thumbnail(300)));
        // Another cache of the same folder counts what there is.
        let cache = DiskCache::new(Some(below.clone()), 1_000);
        cache.keep(&key("d"), &thumbnail(300));
        let kept = ["a", "b", "c", "d"].map(|name| cache.read(&key(name)).is_some());
        assert_eq!(kept, [true, false, true, true]);
        assert!(below.join("notes.txt").exists());
    }

    #[test]
    fn nothing_is_kept_without_a_folder_or_a_size() {
        let folder = tempfile::tempdir().unwrap();
        for cache in [
            DiskCache::new(None, 1_000),
            DiskCache::new(Some(folder.path().to_owned()), 0),
        ] {
            cache.keep(&key("a"), &thumbnail(10));
            assert_eq!(cache.read(&key("a")), None);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
