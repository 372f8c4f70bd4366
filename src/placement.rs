//! Which backend each waiting job runs on, and when. Pure: no I/O, no clock.
//!
//! The waiting jobs are taken in their order, and each is planned behind everything that is planned on a backend already:
//! on each backend they run in their order. Of the backends a job takes the one where it ends first, and where
//! models have to be loaded, the one where its own end and what loading costs all jobs behind it are the least
//! together. `docs/queue.md` has the formula, and how far it is from the best.

mod backend_load;
mod fair_share;
mod guesses;
mod kind;
mod model_loads;
mod order;
mod planned;
mod schedule;
mod waiting_job;

pub use backend_load::BackendLoad;
pub use fair_share::FairShare;
use guesses::Guesses;
pub use kind::{Kind, Runtime};
use model_loads::ModelLoads;
use order::Order;
pub use planned::Planned;
use schedule::Schedule;
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
    let mut loads = ModelLoads::of(kinds, waiting, &guesses);
    let mut schedule = Schedule::new(backends, &guesses);
    let mut planned = vec![None; waiting.len()];
    let mut order = Order::of(waiting, fair);
    let mut behind = waiting.len();
    while let Some(index) = order.next() {
        behind -= 1;
        let kind = waiting[index].kind;
        loads.begin(kind);
        if kind >= kinds.len() {
            continue;
        }
        if let Some((job, seconds)) = schedule.add(&kinds[kind], kind, &loads, behind) {
            order.add_seconds(seconds);
            planned[index] = Some(job);
        }
    }
    planned
}

#[cfg(test)]
mod tests;
