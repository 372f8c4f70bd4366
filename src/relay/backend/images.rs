//! The sizes of the images in a backend's folders.

use std::collections::{HashMap, HashSet, VecDeque};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::comfy::{Rest, RestError};
use crate::job::{ImageFile, ImageSize, ImageSizes, ObservedSize, ObservedSizes, SizeKey};

/// How many files are remembered; the oldest make room for others.
const MAX_FILES: usize = 10_000;

/// How many files are asked for at the same time: a backend has work of its own.
const MAX_REQUESTS: usize = 4;

/// How many files may wait to be asked for. What comes on top of them has no size.
const MAX_AWAITED: usize = 256;

/// Of how many nodes the sizes that were observed are remembered: some 50 bytes each.
const MAX_OBSERVED: usize = 10_000;

/// The sizes of the images in a backend's folders, as far as they are known, the files that it is
/// being asked for, and which sizes its jobs have shown.
#[derive(Debug)]
pub(in crate::relay) struct BackendImages {
    files: Mutex<KnownFiles>,
    /// Shared with plans that are being read.
    observed: Mutex<Arc<ObservedSizes>>,
    /// How often something has become known, or was forgotten.
    revision: AtomicU64,
    requests: Semaphore,
}

#[derive(Debug, Default)]
struct KnownFiles {
    /// `None` for a file that shows no size, such as a video.
    sizes: HashMap<ImageFile, Option<ImageSize>>,
    /// In the order in which they became known.
    order: VecDeque<ImageFile>,
    awaited: HashSet<ImageFile>,
}

impl BackendImages {
    pub(in crate::relay) fn new() -> Self {
        Self {
            files: Mutex::default(),
            observed: Mutex::default(),
            revision: AtomicU64::new(0),
            requests: Semaphore::new(MAX_REQUESTS),
        }
    }

    /// The sizes of images that jobs have shown, by the nodes that made them.
    pub(in crate::relay) fn observed(&self) -> Arc<ObservedSizes> {
        self.lock_observed().clone()
    }

    /// Records the size of the images that leave a node. Returns whether that is news.
    pub(in crate::relay) fn observe(&self, key: SizeKey, size: ObservedSize) -> bool {
        let mut observed = self.lock_observed();
        if observed.get(&key) == Some(&size) {
            return false;
        }
        let sizes = Arc::make_mut(&mut observed);
        if sizes.len() >= MAX_OBSERVED {
            // The next jobs show again what is still of use.
            sizes.clear();
        }
        sizes.insert(key, size);
        self.revision.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// How often something has become known, or was forgotten: as long as this stays, so do the plans.
    pub(in crate::relay) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// The sizes of these files that are known.
    pub(in crate::relay) fn sizes<'a>(
        &self,
        files: impl IntoIterator<Item = &'a ImageFile>,
    ) -> ImageSizes {
        let known = self.files();
        let sizes = files.into_iter().filter_map(|file| {
            let size = (*known.sizes.get(file)?)?;
            Some((file.clone(), size))
        });
        sizes.collect()
    }

    /// Whether the size of one of these files has become known.
    pub(in crate::relay) fn knows_any(&self, files: &[ImageFile]) -> bool {
        let known = self.files();
        files.iter().any(|file| known.has_size(file))
    }

    /// Whether the backend is being asked for a file.
    pub(in crate::relay) fn is_awaited(&self, file: &ImageFile) -> bool {
        self.files().awaited.contains(file)
    }

    /// Notes that the backend is to be asked for a file. `false` if nothing is known to come of that: it
    /// was asked already, or too many files wait.
    pub(in crate::relay) fn begin_request(&self, file: &ImageFile) -> bool {
        let mut known = self.files();
        !known.sizes.contains_key(file)
            && known.awaited.len() < MAX_AWAITED
            && known.awaited.insert(file.clone())
    }

    /// Asks for a file, once it is its turn.
    pub(in crate::relay) async fn fetch(
        &self,
        rest: &Rest,
        file: &ImageFile,
    ) -> Result<Option<ImageSize>, RestError> {
        // Fails only if the semaphore is closed, which nothing does.
        let _permit = self.requests.acquire().await;
        rest.image_size(file).await
    }

    /// Records what the backend has answered about a file. Returns whether its size is known now.
    pub(in crate::relay) fn record(
        &self,
        file: &ImageFile,
        fetched: Result<Option<ImageSize>, RestError>,
    ) -> bool {
        let mut known = self.files();
        self.revision.fetch_add(1, Ordering::Relaxed);
        known.awaited.remove(file);
        match fetched {
            Ok(size) => known.add(file, size),
            Err(error) => {
                // A backend that does not answer may do so the next time.
                if !error.is_unreachable() {
                    known.add(file, None);
                }
                let error = &error as &dyn Error;
                tracing::debug!(file = file.name, error, "cannot read the size of an image");
            }
        }
        known.has_size(file)
    }

    /// Forgets all files: the server may be another one.
    pub(in crate::relay) fn clear(&self) {
        let mut known = self.files();
        self.revision.fetch_add(1, Ordering::Relaxed);
        known.sizes.clear();
        known.order.clear();
    }

    /// Locks what was observed. Consistent at any moment.
    fn lock_observed(&self) -> MutexGuard<'_, Arc<ObservedSizes>> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks what is known. Consistent at any moment.
    fn files(&self) -> MutexGuard<'_, KnownFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownFiles {
    fn has_size(&self, file: &ImageFile) -> bool {
        matches!(self.sizes.get(file), Some(Some(_)))
    }

    fn add(&mut self, file: &ImageFile, size: Option<ImageSize>) {
        if self.sizes.insert(file.clone(), size).is_some() {
            return;
        }
        self.order.push_back(file.clone());
        if self.order.len() > MAX_FILES
            && let Some(oldest) = self.order.pop_front()
        {
            self.sizes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> ImageFile {
        ImageFile::parse(name).unwrap()
    }

    #[test]
    fn a_file_is_asked_for_once_and_at_most_so_many_wait() {
        let images = BackendImages::new();
        let files: Vec<ImageFile> = (0..=MAX_AWAITED)
            .map(|number| file(&format!("{number}.png")))
            .collect();
        let begun = files.iter().filter(|file| images.begin_request(file));
        assert_eq!(begun.count(), MAX_AWAITED);
        assert!(!images.begin_request(&files[0]));
        assert!(images.is_awaited(&files[0]) && !images.is_awaited(&files[MAX_AWAITED]));
    }

    #[test]
    fn the_oldest_file_makes_room() {
        let mut known = KnownFiles::default();
        for number in 0..=MAX_FILES {
            known.add(&file(&format!("{number}.png")), None);
        }
        known.add(&file("1.png"), None);
        assert_eq!(
            (known.sizes.len(), known.order.len()),
            (MAX_FILES, MAX_FILES)
        );
        assert!(!known.sizes.contains_key(&file("0.png")));
        assert!(known.sizes.contains_key(&file("1.png")));
    }
}
