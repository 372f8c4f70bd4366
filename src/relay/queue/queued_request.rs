//! [`QueuedRequest`]: what is handed in to ComfyUI for a job, as the database keeps it.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::comfy::{PromptOptions, StoredOptions};
use crate::relay::backend_choice::BackendChoice;
use crate::relay::queue::allowed_backends::AllowedBackends;

/// The longest request that is unpacked, in bytes: more than any body that is accepted.
const MAX_UNPACKED: u64 = 256 << 20;

/// What is handed in to ComfyUI for a job, without keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::relay) struct QueuedRequest {
    /// In API format.
    pub(in crate::relay) graph: Map<String, Value>,
    /// What is passed on with it.
    #[serde(default)]
    pub(in crate::relay) options: StoredOptions,
    /// The backends that may run it; none for all of them.
    #[serde(default)]
    pub(in crate::relay) backends: Vec<BackendChoice>,
    /// The names of the backends that cannot run it, as far as was known when it came.
    #[serde(default)]
    pub(in crate::relay) unsuitable: Vec<String>,
    /// It came with keys of partner nodes, without which it cannot be handed in again.
    #[serde(default)]
    pub(in crate::relay) has_keys: bool,
}

impl QueuedRequest {
    /// The request, compressed.
    pub(in crate::relay) fn pack(&self) -> io::Result<Vec<u8>> {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        serde_json::to_writer(&mut packed, self)?;
        packed.flush()?;
        packed.finish()
    }

    /// The inverse of [`QueuedRequest::pack`].
    pub(in crate::relay) fn unpack(packed: &[u8]) -> io::Result<Self> {
        let unpacked = ZlibDecoder::new(packed).take(MAX_UNPACKED);
        Ok(serde_json::from_reader(io::BufReader::new(unpacked))?)
    }

    /// Where it may run.
    pub(in crate::relay) fn allowed(&self) -> AllowedBackends {
        AllowedBackends {
            choices: self.backends.clone(),
            unsuitable: self.unsuitable.clone(),
        }
    }

    /// What goes to ComfyUI beside the graph.
    pub(in crate::relay) fn prompt_options(&self) -> PromptOptions {
        PromptOptions::from(self.options.clone())
    }
}
