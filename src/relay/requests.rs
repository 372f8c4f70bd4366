//! What callers ask of the relay, one file a verb.

mod adopt;
mod await_socket;
pub(super) mod batch;
pub(super) mod cancel;
pub(super) mod check;
mod choices;
pub(super) mod explain;
pub(super) mod job_links;
pub(super) mod list;
mod lookup;
pub(super) mod once;
pub(super) mod operated;
pub(super) mod output;
pub(super) mod post_prompt;
mod prepare;
pub(super) mod register;
mod report;
pub(super) mod request_locks;
pub(super) mod retry;
pub(super) mod shared_lookup;
pub(super) mod status;
pub(super) mod submit;
pub(super) mod suitability;
pub(super) mod totals;
mod unanswered;
pub(super) mod unknown_jobs;
mod workflow;
