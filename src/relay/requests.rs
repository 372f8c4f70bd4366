//! What callers ask of the relay, one file a verb.

mod cancel;
pub(super) mod explain;
pub(super) mod list;
mod lookup;
mod output;
pub(super) mod register;
mod report;
pub(super) mod status;
pub(super) mod submit;
pub(super) mod unknown_jobs;
