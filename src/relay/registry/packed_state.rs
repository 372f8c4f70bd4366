//! [`PackedState`]: the final state of a job that nobody follows, compressed.

use std::io::Read;

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress};

use crate::hub::Publication;
use crate::job::{JobId, Outcome, Status};

/// What compressing adds at most to a text that cannot be compressed, in bytes.
const MARGIN: usize = 128;

/// The final state of a job as subscribers get it, in less than half the memory.
#[derive(Debug)]
pub(in crate::relay) struct PackedState {
    seq: u64,
    outcome: Option<Outcome>,
    /// The payload: raw deflate.
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
        self.0.reset();
        let mut payload = Vec::with_capacity(state.payload.len() + MARGIN);
        // It fails only on a stream that is broken, and each begins anew.
        let _ = (self.0).compress_vec(&state.payload, &mut payload, FlushCompress::Finish);
        PackedState {
            seq: state.seq,
            outcome: state.outcome.clone(),
            payload: payload.into(),
        }
    }
}

impl PackedState {
    /// The number of the state.
    pub(in crate::relay) fn seq(&self) -> u64 {
        self.seq
    }

    /// The state as it was.
    pub(in crate::relay) fn unpack(&self, job: JobId, status: Status) -> Publication {
        let mut payload = Vec::new();
        // Only what was packed above is read.
        let _ = DeflateDecoder::new(&self.payload[..]).read_to_end(&mut payload);
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
