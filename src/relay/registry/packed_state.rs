//! [`PackedState`]: the final state of a job that nobody follows, compressed.

use std::io::Read;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress};

use crate::hub::Publication;
use crate::job::{JobId, Outcome, Status};

/// What final states have in common, in the order of their fields. Each is packed as though it came behind this text, and so takes
/// a third of what it would take alone.
const COMMON: &str = concat!(
    r#""error":"","status":"failed","status":"cancelled","message":"Cancelled","#,
    r#"{"type":"progress","job_id":"","status":"completed","progress":100,"estimated_remaining":0,"#,
    r#""estimated_low":0,"estimated_high":0,"message":"Completed","output_path":"ComfyUI_00001_.png","#,
    r#""timestamp":"2026-11-30T00:00:00.000Z","prompt_id":"","seq":4,"nodes":{"done":7,"cached":0,"total":7},"#,
    r#""elapsed":0.18,"outputs":[{"node":"9","kind":"images","filename":"ComfyUI_00001_.png","subfolder":"","#,
    r#""type":"output","url":"/api/anime/jobs//outputs/0"}],"outputs_total":1,"backend":"127.0.0.1:8188"}"#,
);

/// [`COMMON`], compressed: what each packed state goes on from.
static BEGINNING: LazyLock<Vec<u8>> = LazyLock::new(|| StatePacker::default().begin());

/// What compressing adds at most to a text that cannot be compressed, in bytes.
const MARGIN: usize = 128;

/// The final state of a job as subscribers get it, in a fifth of the memory.
#[derive(Debug)]
pub(in crate::relay) struct PackedState {
    seq: u64,
    outcome: Option<Outcome>,
    /// The payload: raw deflate, without its beginning.
    payload: Box<[u8]>,
}

/// Compresses states. Its tables, some 300 KB, are used again for each.
#[derive(Debug)]
pub(in crate::relay) struct StatePacker(Compress);

impl Default for StatePacker {
    fn default() -> Self {
        Self(Compress::new(Compression::default(), false))
    }
}

impl StatePacker {
    /// Compresses a state.
    pub(in crate::relay) fn pack(&mut self, state: &Publication) -> PackedState {
        self.begin();
        PackedState {
            seq: state.seq,
            outcome: state.outcome.clone(),
            payload: self.compress(&state.payload, FlushCompress::Finish).into(),
        }
    }

    /// Begins anew with [`COMMON`].
    fn begin(&mut self) -> Vec<u8> {
        self.0.reset();
        self.compress(COMMON.as_bytes(), FlushCompress::Sync)
    }

    fn compress(&mut self, text: &[u8], flush: FlushCompress) -> Vec<u8> {
        let mut compressed = Vec::with_capacity(text.len() + MARGIN);
        // It fails only on a stream that is broken, and each begins anew.
        let _ = self.0.compress_vec(text, &mut compressed, flush);
        compressed
    }
}

impl PackedState {
    /// The number of the state.
    pub(in crate::relay) fn seq(&self) -> u64 {
        self.seq
    }

    /// The state as it was.
    pub(in crate::relay) fn unpack(&self, job: JobId, status: Status) -> Publication {
        let packed = BEGINNING.chain(&self.payload[..]);
        let mut payload = Vec::new();
        // Only what was packed above is read.
        let _ = DeflateDecoder::new(packed).read_to_end(&mut payload);
        payload.drain(..COMMON.len());
        Publication {
            job,
            seq: self.seq,
            status,
            payload: Bytes::from(payload),
            outcome: self.outcome.clone(),
            event_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::JobError;

    #[test]
    fn a_final_state_takes_a_fifth_of_itself() {
        let job = "job-6f1b2c0e-4d2a-4f5e-9a8b-000000001234";
        let payload = format!(
            r#"{{"type":"progress","job_id":"{job}","status":"completed","progress":100,"estimated_remaining":0,"estimated_low":0,"estimated_high":0,"message":"Completed","output_path":"shots/{job}_00001_.png","timestamp":"2026-11-30T22:21:12.933Z","prompt_id":"6f1b2c0e-4d2a-4f5e-9a8b-000000001234","seq":3,"nodes":{{"done":100,"cached":0,"total":100}},"elapsed":0.22,"outputs":[{{"node":"100","kind":"images","filename":"{job}_00001_.png","subfolder":"shots","type":"output","url":"/api/anime/jobs/{job}/outputs/0"}}],"outputs_total":1,"backend":"gpu-1:8188"}}"#
        );
        let length = payload.len();
        let packed = StatePacker::default().pack(&Publication {
            job: JobId::parse(job).unwrap(),
            seq: 3,
            status: Status::Completed,
            payload: payload.into(),
            outcome: None,
            event_at: None,
        });
        assert!(packed.payload.len() < length / 5, "{packed:?}");
    }

    proptest! {
        #[test]
        fn a_state_is_unpacked_as_it_was(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2_000), 1..4)) {
            let mut packer = StatePacker::default();
            for (seq, payload) in payloads.into_iter().enumerate() {
                let state = Publication {
                    job: JobId::parse("job").unwrap(),
                    seq: seq as u64,
                    status: Status::Failed,
                    payload: payload.into(),
                    outcome: Some(Outcome::Failed(JobError::reported(None))),
                    event_at: None,
                };
                let packed = packer.pack(&state);
                prop_assert_eq!(packed.unpack(state.job.clone(), state.status), state);
            }
        }
    }
}
