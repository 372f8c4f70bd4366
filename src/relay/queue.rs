//! The relay's own queue: jobs wait here, in memory and in the database, until a backend has room for them.
//!
//! `dispatch` decides which job goes where, by the pure plan of [`placement`](crate::placement); `hand_in` hands it in;
//! `lost` takes back what was lost with its server, `drain` what waits at one that is being drained; `operate` has
//! operators stop backends or the whole queue; `shared` makes it one queue for all relays on a database. A job that waits
//! is in the registry like any other, without a backend.

pub(super) mod admission;
pub(super) mod allowed_backends;
mod barred;
mod batch_admission;
mod class_losses;
mod dispatch;
mod drain;
mod hand_in;
pub(super) mod job_queue;
mod kinds;
mod loads;
pub(super) mod lost;
mod memory;
mod operate;
pub(super) mod operations;
mod peer_load;
pub(super) mod queued_request;
mod release;
pub(super) mod removals;
mod seal;
mod settle;
mod shared;
mod sync;
