//! Decides which waiting job goes to which backend now, and when the others will end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::estimate::Estimate;
use crate::job::{Event, JobId, QueueWait};
use crate::placement::{self, Planned, WaitingJob};
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::backends::Backends;
use crate::relay::queue::hand_in::Lot;
use crate::relay::queue::job_queue::{JobQueue, QueueState};
use crate::relay::queue::loads::{BackendView, allow_last_choice};
use crate::relay::registry::Entry;

/// How often everything is planned again, if nothing happens: times pass.
const TICK: Duration = Duration::from_secs(1);

/// After a pass that took a second, the next one waits so many seconds.
const PAUSE_FACTOR: u32 = 4;

/// A pause that is not worth a timer.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// How many jobs get their places under one lock: some tenths of a millisecond.
const JOBS_A_LOCK: usize = 200;

/// How many backends a reason names.
const MAX_NAMED: usize = 3;

/// Why the queue is planned.
#[derive(Debug, Clone, Copy)]
enum DispatchCause {
    /// Something has changed here.
    Change,
    /// Another relay has jobs that wait.
    OtherRelay,
    /// It is time to look whether others have some.
    Share,
    /// Time has passed.
    Tick,
}

/// Where a job waits.
struct Place {
    id: JobId,
    wait: QueueWait,
    estimate: Estimate,
}

/// What one pass has decided.
#[derive(Default)]
struct DispatchPass {
    lots: Vec<Lot>,
    places: Vec<Place>,
    /// The jobs whose callers wait, and that no backend takes now.
    fresh: Vec<JobId>,
}

impl Relay {
    /// Hands waiting jobs in until the relay stops.
    pub(in crate::relay) async fn dispatch(self) {
        let tracker = &self.0.tracker;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut planned_at = None;
        let mut share = interval(self.0.config.look_interval);
        share.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let cause = tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = tracker.queue.wake.notified() => DispatchCause::Change,
                () = tracker.looks.queue.wanted() => DispatchCause::OtherRelay,
                _ = share.tick() => DispatchCause::Share,
                _ = tick.tick() => DispatchCause::Tick,
            };
            match cause {
                DispatchCause::Change => {}
                DispatchCause::OtherRelay => {
                    tracker.count_look();
                    let looked_at = Instant::now();
                    self.share_queue_now().await;
                    tracker.looks.queue.took(looked_at.elapsed());
                }
                DispatchCause::Share => self.share_queue().await,
                DispatchCause::Tick => {
                    self.sync_queue().await;
                    self.take_back_unreachable().await;
                }
            }
            let began_at = Instant::now();
            let is_due = planned_at.is_none_or(|at: Instant| at.elapsed() >= TICK);
            let Some(pass) = self.plan_queue(is_due) else {
                continue;
            };
            planned_at = Some(began_at);
            let waiting = pass.places.len();
            let planned_in = began_at.elapsed();
            self.apply(pass);
            let took = began_at.elapsed();
            tracing::debug!(waiting, ?planned_in, ?took, "planned the queue");
            tracker.queue.passes.send_modify(|passes| *passes += 1);
            let pause = began_at.elapsed() * PAUSE_FACTOR;
            if pause >= MIN_PAUSE {
                // Ends early if the relay stops.
                let _ = timeout(pause.min(TICK), self.0.stop.cancelled()).await;
            }
        }
    }

    /// Plans all waiting jobs, unless it is not due and no backend has room.
    fn plan_queue(&self, is_due: bool) -> Option<DispatchPass> {
        let tracker = &self.0.tracker;
        let open: Vec<usize> = {
            let registry = tracker.registry();
            let backends = tracker.backends.slots();
            let open = |it: &Arc<Backend>| registry.count_open(it) - registry.ending(it).count();
            backends.map(open).collect()
        };
        let now = tracker.now();
        let mut state = tracker.queue.state();
        if state.jobs.is_empty() {
            return None;
        }
        let depth = self.0.config.dispatch_depth;
        let records = state.backends.iter_mut().zip(tracker.backends.slots());
        let views = records.zip(open).map(|((record, backend), open)| {
            record.view(backend, &tracker.estimator, (depth, open), now)
        });
        let mut views: Vec<BackendView> = views.collect();
        allow_last_choice(&mut views);
        if let Some(reason) = tracker.queue.operations.refusal() {
            views.iter_mut().for_each(|view| view.refuse(&reason));
        }
        let has_room = views.iter().any(|it| it.load.takes && it.load.room > 0);
        let is_awaited = std::mem::take(&mut state.is_awaited);
        let has_fresh = || state.jobs.values().any(|job| job.fresh.is_some());
        if !is_due && !has_room && !is_awaited && !has_fresh() {
            return None;
        }
        state.kinds.refresh(&tracker.backends, &tracker.estimator);
        Some(state.plan(&tracker.backends, views, self.0.config.fair_share))
    }

    /// Hands in what is to be, and publishes where the others wait.
    fn apply(&self, pass: DispatchPass) {
        let tracker = &self.0.tracker;
        for lot in pass.lots {
            self.0.tasks.spawn(self.clone().hand_in_lot(lot));
        }
        for id in pass.fresh {
            tracker.register_waiting(&mut tracker.registry(), &id);
        }
        let now = tracker.now();
        let mut places = pass.places.into_iter().peekable();
        while places.peek().is_some() {
            let mut registry = tracker.registry();
            for place in places.by_ref().take(JOBS_A_LOCK) {
                // Others publish theirs.
                if !registry.get(&place.id).is_some_and(Entry::is_owned) {
                    continue;
                }
                let is_new = registry.apply(&place.id, Event::Waits(place.wait), now);
                let Some(entry) = registry.get_mut(&place.id) else {
                    continue;
                };
                if entry.job.wait().is_some() {
                    entry.publishing.is_stale |= is_new;
                    entry.queue_estimate = Some((place.estimate, now));
                    tracker.republish_waiting(entry);
                }
            }
        }
    }
}

impl JobQueue {
    /// Nothing is handed in to a backend any more.
    pub(super) fn set_idle(&self, backend: &Backend) {
        let record = &mut self.state().backends[backend.index];
        (record.is_busy, record.is_resting) = (false, false);
    }
}

impl QueueState {
    fn plan(
        &mut self,
        backends: &Backends,
        mut views: Vec<BackendView>,
        is_fair: bool,
    ) -> DispatchPass {
        for job in self.jobs.values() {
            if let Some(backend) = job.claimed_for {
                let view = &mut views[backend];
                let own = self.kinds.estimate(job.kind, backend, view.load.model);
                view.add_claimed(own);
            }
        }
        let unclaimed = self.jobs.iter();
        let unclaimed = unclaimed.filter(|(_, job)| job.claimed_for.is_none());
        let (ids, waiting): (Vec<JobId>, Vec<WaitingJob>) = unclaimed
            .map(|(id, job)| {
                let waiting = WaitingJob {
                    kind: job.kind,
                    priority: job.priority,
                    order: order(job.place),
                    share: job.share,
                };
                (id.clone(), waiting)
            })
            .unzip();
        let loads: Vec<_> = views.iter().map(|view| view.load).collect();
        if is_fair {
            self.fair_share.update(&waiting);
        }
        let fair = is_fair.then_some(&self.fair_share);
        let planned = placement::plan(&loads, self.kinds.as_slice(), &waiting, fair);
        let later = planned.iter().flatten().filter(|planned| !planned.now);
        let starts = later.map(|planned| planned.starts_in);
        let starts = starts.filter(|seconds| seconds.is_finite());
        self.next_start = starts.min_by(f64::total_cmp);
        let mut by_backend: BTreeMap<usize, Vec<(usize, Planned)>> = BTreeMap::new();
        let mut pass = DispatchPass::default();
        for (index, planned) in planned.into_iter().enumerate() {
            match planned {
                Some(planned) => {
                    let jobs = by_backend.entry(planned.backend).or_default();
                    jobs.push((index, planned));
                }
                None => pass.places.push(Place {
                    id: ids[index].clone(),
                    wait: QueueWait {
                        reason: Some(self.kinds.lack(waiting[index].kind, backends).into()),
                        ..QueueWait::default()
                    },
                    estimate: Estimate::default(),
                }),
            }
        }
        for (backend, mut jobs) in by_backend {
            jobs.sort_by_key(|(_, planned)| planned.number);
            let jobs = jobs
                .into_iter()
                .map(|(index, planned)| (ids[index].clone(), waiting[index].kind, planned.now));
            self.place(&backends[backend], &views, jobs, &mut pass);
        }
        let is_fresh = |id: &JobId| self.jobs.get(id).is_some_and(|job| job.fresh.is_some());
        let fresh = pass.places.iter().map(|place| &place.id);
        pass.fresh = fresh.filter(|id| is_fresh(id)).cloned().collect();
        pass
    }

    /// Adds the jobs that are planned on one backend, in their order, to a pass.
    fn place(
        &mut self,
        backend: &Arc<Backend>,
        views: &[BackendView],
        jobs: impl Iterator<Item = (JobId, usize, bool)>,
        pass: &mut DispatchPass,
    ) {
        let view = &views[backend.index];
        let name: Arc<str> = backend.name().into();
        // Nobody knows when one that takes nothing takes jobs again.
        let free = view.free.filter(|_| view.load.takes);
        let (mut until, mut model) = (free, view.load.model);
        let mut lot = Vec::new();
        for (ahead, (id, kind, is_now)) in (view.prompts..).zip(jobs) {
            let own = self.kinds.estimate(kind, backend.index, model);
            let starts_in = until.and_then(|until| until.remaining);
            until = until.map(|until| Estimate::queued([until], own));
            model = self.kinds.model(kind).or(model);
            if is_now {
                lot.push(id);
            } else {
                let estimate = until.unwrap_or_default();
                let reason = (!view.load.takes).then(|| self.refusals(kind, views));
                pass.places.push(Place {
                    id,
                    wait: QueueWait {
                        ahead: Some(ahead).filter(|_| reason.is_none()),
                        backend: Some(name.clone()),
                        reason,
                    },
                    estimate: Estimate {
                        starts_in: starts_in.filter(|_| estimate.remaining.is_some()),
                        ..estimate
                    },
                });
            }
        }
        if lot.is_empty() {
            return;
        }
        for id in &lot {
            if let Some(job) = self.jobs.get_mut(id) {
                job.claimed_for = Some(backend.index);
            }
        }
        self.backends[backend.index].is_busy = true;
        pass.lots.push(Lot {
            backend: backend.clone(),
            jobs: lot,
        });
    }

    /// Why none of the backends that can run jobs of a kind takes any.
    fn refusals(&self, kind: usize, views: &[BackendView]) -> Arc<str> {
        let able = views.iter().enumerate();
        let able = able.filter(|(backend, _)| self.kinds.can_run(kind, *backend));
        let refusals = able.filter_map(|(_, view)| view.refusal.as_deref());
        let mut refusals: Vec<&str> = refusals.collect();
        refusals.dedup();
        refusals.truncate(MAX_NAMED);
        refusals.join(", ").into()
    }
}

/// A place as a number without a sign, in the same order.
fn order(place: i64) -> u64 {
    place.cast_unsigned() ^ (1 << 63)
}
