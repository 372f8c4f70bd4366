//! Whether a server's graphics card still computes: after a fault of the device every later prompt fails, until ComfyUI is
//! restarted. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::job::{ErrorCode, Job, Status};

/// So many prompts of different graphs that fail in a row are no fault of their graphs.
const MAX_FAULTS: usize = 3;

/// What the errors of a device begin with. A card that is out of memory recovers.
const FAULTS: [&str; 5] = [
    "cuda error",
    "hip error",
    "cudnn_status_",
    "cublas_status_",
    "cufft_",
];

/// What the errors of a card hold that is out of memory.
const OUT_OF_MEMORY: [&str; 4] = [
    "out of memory",
    "outofmemory",
    "_alloc_failed",
    // The asynchronous allocator, which ComfyUI uses by default.
    "allocation on device",
];

/// How a prompt ended, as far as it shows something of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum DeviceEvidence {
    /// A node has run to its end.
    Works,
    /// The device has failed in this graph: a hash of what it runs.
    Fault(u64),
    /// The prompt failed for another reason.
    OtherFailure,
}

impl DeviceEvidence {
    /// What the end of a job shows. `None` if nothing: it was cancelled, all its nodes were cached, or its graph is not known.
    pub(in crate::relay) fn of(job: &Job) -> Option<Self> {
        match (job.status(), job.error()) {
            (Status::Completed, _) => {
                let counts = job.nodes().counts(job.plan());
                let has_run = counts.total == 0 || counts.cached < counts.total;
                has_run.then_some(Self::Works)
            }
            (Status::Failed, Some(error)) if error.code == ErrorCode::ExecutionError => {
                if !is_device_fault(&error.message) {
                    return Some(Self::OtherFailure);
                }
                let needed = job.plan().needed();
                let mut signatures: Vec<&str> = needed.map(|(_, node)| &*node.signature).collect();
                signatures.sort_unstable();
                let mut hasher = DefaultHasher::new();
                signatures.hash(&mut hasher);
                (!signatures.is_empty()).then(|| Self::Fault(hasher.finish()))
            }
            _ => None,
        }
    }
}

fn is_device_fault(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    FAULTS.iter().any(|fault| message.contains(fault)) && !is_out_of_memory(&message)
}

/// By the text of an error in lower case.
fn is_out_of_memory(message: &str) -> bool {
    OUT_OF_MEMORY.iter().any(|text| message.contains(text))
}

/// Whether a job has failed because the graphics card was out of memory.
pub(in crate::relay) fn ran_out_of_memory(job: &Job) -> bool {
    let error = job.error();
    let error = error.filter(|error| error.code == ErrorCode::ExecutionError);
    error.is_some_and(|error| is_out_of_memory(&error.message.to_ascii_lowercase()))
}

/// The record of one server's device.
#[derive(Debug, Default)]
pub(in crate::relay) struct DeviceFaults {
    /// The graphs that failed since a prompt has last ended otherwise, each once.
    graphs: Vec<u64>,
    /// The disconnect counter when the last one failed.
    pub(in crate::relay) disconnects: u64,
    /// A prompt has failed because the card was out of memory, and nothing was freed since.
    pub(in crate::relay) is_out_of_memory: bool,
}

impl DeviceFaults {
    /// Records the end of a prompt, which the server had under this disconnect counter. Returns whether its state has changed.
    pub(in crate::relay) fn record(&mut self, evidence: DeviceEvidence, disconnects: u64) -> bool {
        let was_sick = self.is_sick();
        match evidence {
            DeviceEvidence::Fault(graph) => {
                self.disconnects = disconnects;
                if !was_sick && !self.graphs.contains(&graph) {
                    self.graphs.push(graph);
                }
            }
            DeviceEvidence::Works => self.graphs.clear(),
            DeviceEvidence::OtherFailure if was_sick => {}
            DeviceEvidence::OtherFailure => self.graphs.clear(),
        }
        self.is_sick() != was_sick
    }

    /// Records that the server was restarted.
    pub(in crate::relay) fn on_restart(&mut self) {
        self.graphs.clear();
        self.is_out_of_memory = false;
    }

    /// Whether a prompt has failed since one has last ended otherwise.
    pub(in crate::relay) fn has_faults(&self) -> bool {
        !self.graphs.is_empty()
    }

    /// Whether every further prompt is expected to fail.
    pub(in crate::relay) fn is_sick(&self) -> bool {
        self.graphs.len() >= MAX_FAULTS
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::job::{Event, JobError, JobId, Outcome};

    #[test]
    fn a_card_that_is_out_of_memory_has_no_fault() {
        for (message, is_fault) in [
            (
                "KSampler (node 3): CUDA error: an illegal memory access was encountered",
                true,
            ),
            (
                "KSampler (node 3): CUDA error: device-side assert triggered",
                true,
            ),
            (
                "VAEDecode (node 8): cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
                true,
            ),
            (
                "A (node 1): CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm",
                true,
            ),
            ("A (node 1): HIP error: unspecified launch failure", true),
            (
                "A (node 1): CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
                false,
            ),
            ("A (node 1): CUDA error: out of memory", false),
            (
                "A (node 1): CUDA out of memory. Tried to allocate 2.00 GiB",
                false,
            ),
            ("A (node 1): Allocation on device", false),
            ("A (node 1): Torch not compiled with CUDA enabled", false),
            ("LoadImage (node 2): no such file", false),
        ] {
            assert_eq!(is_device_fault(message), is_fault, "{message}");
        }
    }

    #[test]
    fn a_card_that_is_out_of_memory_is_known_by_its_error() {
        for (exception, message, is_out) in [
            (
                "torch.OutOfMemoryError",
                "Allocation on device 0 would exceed allowed memory. (out of memory)",
                true,
            ),
            ("torch.cuda.OutOfMemoryError", "Allocation on device", true),
            ("torch.OutOfMemoryError", "", true),
            (
                "RuntimeError",
                "CUDA out of memory. Tried to allocate 2.00 GiB",
                true,
            ),
            (
                "RuntimeError",
                "CUDA error: device-side assert triggered",
                false,
            ),
            ("ValueError", "no such file", false),
        ] {
            let error = JobError::execution(Some(("KSampler", "3")), message, exception);
            let mut job = Job::new(JobId::parse("job").unwrap(), Timestamp::UNIX_EPOCH);
            job.apply(Event::Closed(Outcome::Failed(error)), Timestamp::UNIX_EPOCH);
            assert_eq!(ran_out_of_memory(&job), is_out, "{exception}: {message}");
        }
    }

    #[test]
    fn three_different_graphs_in_a_row_make_a_server_sick() {
        use DeviceEvidence::{Fault, OtherFailure, Works};
        // How the prompts ended, and whether the server is sick then.
        let table: [(&[DeviceEvidence], bool); 10] = [
            (&[Fault(1), Fault(2)], false),
            (&[Fault(1), Fault(2), Fault(3)], true),
            (&[Fault(1), Fault(1), Fault(1), Fault(1)], false),
            (&[Fault(1), Fault(2), Fault(1), Fault(3)], true),
            (&[Fault(1), Fault(2), Works, Fault(3)], false),
            (&[Fault(1), Fault(2), OtherFailure, Fault(3)], false),
            (&[Fault(1), Fault(2), Fault(3), OtherFailure], true),
            (&[Fault(1), Fault(2), Fault(3), Works], false),
            (
                &[Fault(1), Fault(2), Fault(3), Works, Fault(4), Fault(5)],
                false,
            ),
            (&[OtherFailure, OtherFailure, OtherFailure], false),
        ];
        for (ends, is_sick) in table {
            let mut faults = DeviceFaults::default();
            for end in ends {
                let before = faults.is_sick();
                let changed = faults.record(*end, 0);
                assert_eq!(changed, before != faults.is_sick());
            }
            assert_eq!(faults.is_sick(), is_sick, "{ends:?}");
            faults.on_restart();
            assert!(!faults.is_sick() && !faults.has_faults());
        }
    }
}
