//! [`OutputSizes`]: how large the files of jobs are, as their servers have said.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::job::JobId;

/// So many sizes are remembered. They are asked for again after that.
const MAX_SIZES: usize = 10_000;

/// The sizes that ComfyUI servers have said, by the place of a file among those of its job, in bytes. What a job has made does not
/// change.
#[derive(Debug, Default)]
pub(in crate::relay) struct OutputSizes(Mutex<HashMap<(JobId, usize), u64>>);

impl OutputSizes {
    pub(in crate::relay) fn get(&self, id: &JobId, number: usize) -> Option<u64> {
        let sizes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.get(&(id.clone(), number)).copied()
    }

    pub(in crate::relay) fn add(&self, id: &JobId, number: usize, size: u64) {
        let mut sizes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.len() >= MAX_SIZES {
            sizes.clear();
        }
        sizes.insert((id.clone(), number), size);
    }
}
