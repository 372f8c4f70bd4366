//! [`OutputSizes`]: how large the files of jobs are, as their servers have said.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// So many sizes are remembered. They are asked for again after that.
const MAX_SIZES: usize = 10_000;

/// The sizes that ComfyUI servers have said, in bytes, by what identifies a file. What a job has made does not change.
#[derive(Debug, Default)]
pub(in crate::relay) struct OutputSizes(Mutex<HashMap<String, u64>>);

impl OutputSizes {
    pub(in crate::relay) fn get(&self, key: &str) -> Option<u64> {
        let sizes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.get(key).copied()
    }

    pub(in crate::relay) fn add(&self, key: String, size: u64) {
        let mut sizes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.len() >= MAX_SIZES {
            sizes.clear();
        }
        sizes.insert(key, size);
    }
}
