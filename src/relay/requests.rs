//! What callers ask of the relay, one file a verb.

mod await_socket;
pub(super) mod cancel;
pub(super) mod check;
pub(super) mod explain;
pub(super) mod list;
mod lookup;
pub(super) mod operated;
pub(super) mod output;
pub(super) mod post_prompt;
pub(super) mod register;
mod report;
pub(super) mod shared_lookup;
pub(super) mod status;
pub(super) mod submit;
pub(super) mod suitability;
pub(super) mod totals;
mod unanswered;
pub(super) mod unknown_jobs;
mod workflow;
