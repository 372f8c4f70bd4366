//! Which backend each waiting job runs on, and when. Pure: no I/O, no clock.
//!
//! The waiting jobs are taken in their order, and each is planned on the backend where it ends first, behind
//! everything that is planned there already. So no job delays one before it, and a job waits for a busy backend
//! only where it ends sooner there than on any that is free. `docs/queue.md` has the formula, and how far it
//! is from the best.

mod backend_load;
mod fair_share;
mod guesses;
mod kind;
mod order;
mod planned;
mod timeline;
mod waiting_job;

pub use backend_load::BackendLoad;
pub use fair_share::FairShare;
use guesses::Guesses;
pub use kind::{Kind, Runtime};
use order::Order;
pub use planned::Planned;
use timeline::Timelines;
pub use waiting_job::WaitingJob;

/// Plans every waiting job. The result has the indices of `waiting`; it is `None` for a job that no backend can run.
///
/// `kinds` are what waiting jobs have in common; [`Kind::runtimes`] has the indices of `backends`. With `fair`,
/// jobs of one priority are ordered by what their shares have had, else by [`WaitingJob::order`] alone. The same
/// input gives the same plan.
pub fn plan(
    backends: &[BackendLoad],
    kinds: &[Kind],
    waiting: &[WaitingJob],
    fair: Option<&FairShare>,
) -> Vec<Option<Planned>> {
    let guesses = Guesses::of(backends.len(), kinds);
    let mut timelines = Timelines::new(backends, &guesses);
    let mut planned = vec![None; waiting.len()];
    let mut order = Order::of(waiting, fair);
    while let Some(index) = order.next() {
        let placed = kinds
            .get(waiting[index].kind)
            .and_then(|kind| timelines.add(kind, guesses.of_kind(waiting[index].kind)));
        if let Some((job, seconds)) = placed {
            order.add_seconds(seconds);
            planned[index] = Some(job);
        }
    }
    planned
}

#[cfg(test)]
mod tests;
