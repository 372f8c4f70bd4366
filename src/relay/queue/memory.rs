//! Has a backend free its memory after a job ran out of it.

use std::error::Error;

use crate::relay::Relay;
use crate::relay::backend::Backend;

impl Relay {
    /// Has a backend free the memory of its graphics card, if a job has failed for the lack of it since it last did, and the
    /// relay is to do so.
    pub(in crate::relay) async fn free_memory(&self, backend: &Backend) {
        if !self.0.config.free_after_oom || !backend.state().device.is_out_of_memory {
            return;
        }
        let backend_name = backend.name();
        match backend.comfy.rest().free_memory().await {
            Ok(()) => {
                backend.state().device.is_out_of_memory = false;
                tracing::info!(
                    backend = backend_name,
                    "freed ComfyUI's memory, because a job ran out of it"
                );
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(
                    backend = backend_name,
                    error,
                    "cannot free the memory of a server, retrying"
                );
            }
        }
    }
}
