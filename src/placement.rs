//! Which backend each waiting job runs on, and when. Pure: no I/O, no clock.
//!
//! The waiting jobs are taken in their order, and each is planned behind everything that is planned on a backend already.
//! Of the backends it takes the one where it ends first; where models have to be loaded, what that costs the next ones
//! counts as well. A job that comes later changes nothing for those before it. `docs/queue.md` has the formula, and
//! how far it is from the best.

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
use schedule::{NextJob, Schedule};
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
    let loads = ModelLoads::of(backends.len(), kinds, &guesses);
    let mut schedule = Schedule::new(backends, &guesses);
    let mut planned = vec![None; waiting.len()];
    let mut order = Order::of(waiting, fair);
    while let Some(index) = order.next() {
        let kind_index = waiting[index].kind;
        let Some(kind) = kinds.get(kind_index) else {
            continue;
        };
        let job = NextJob { kind, kind_index };
        if let Some((job, seconds)) = schedule.add(job, &loads) {
            order.add_seconds(seconds);
            planned[index] = Some(job);
        }
    }
    planned
}

#[cfg(test)]
mod tests;
