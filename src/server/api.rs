//! The HTTP API, one file a resource.

mod backend_field;
pub(super) mod backends;
pub(super) mod batches;
pub(super) mod documents;
pub(super) mod events;
pub(super) mod health;
pub(super) mod idempotency;
pub(super) mod inputs;
pub(super) mod jobs;
pub(super) mod metrics;
pub(super) mod outputs;
pub(super) mod preview;
pub(super) mod probes;
pub(super) mod queue;
pub(super) mod totals;
mod webhook_field;
pub(super) mod webhooks;
mod workflow_field;
pub(super) mod workflows;
