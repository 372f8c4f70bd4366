use super::backend_load::BackendLoad;
use super::guesses::Guesses;
use super::kind::{Kind, Runtime};
use super::model_loads::ModelLoads;
use super::planned::Planned;

/// Costs that differ by less than this share of the job's own time are the same: learned runtimes of equal machines
/// are never equal to the last digit.
const SAME_COST: f64 = 0.01;

/// What is planned on the backends so far.
#[derive(Debug)]
pub(super) struct Schedule<'a> {
    backends: Vec<BackendSchedule>,
    guesses: &'a Guesses,
    /// Where the job that is being planned could run.
    candidates: Vec<Candidate>,
    /// The latest turn of all.
    last_turn: u64,
}

/// What is planned on one backend so far.
#[derive(Debug)]
struct BackendSchedule {
    /// Seconds until the last of its jobs ends, guesses included: what backends are compared by.
    free_in: f64,
    /// Whether there is nothing in `free_in` that must not be published.
    is_known: bool,
    /// The model that its last job leaves loaded.
    model: Option<u64>,
    room: usize,
    takes: bool,
    turn: u64,
}

/// The job that is being planned.
#[derive(Debug, Clone, Copy)]
pub(super) struct NextJob<'a> {
    pub(super) kind: &'a Kind,
    pub(super) kind_index: usize,
}

/// Where a job could run.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    backend: usize,
    /// Seconds until it ends.
    end: f64,
    /// Its end, and the seconds of loading models that it causes.
    cost: f64,
    seconds: f64,
    is_known: bool,
}

impl<'a> Schedule<'a> {
    pub(super) fn new(backends: &[BackendLoad], guesses: &'a Guesses) -> Self {
        let schedules = backends.iter().enumerate().map(|(backend, load)| {
            let is_known = load.free_in.is_finite();
            BackendSchedule {
                free_in: if is_known {
                    load.free_in.max(0.0)
                } else {
                    guesses.of_backend(backend)
                },
                is_known: is_known && load.takes,
                model: load.model,
                room: if load.takes { load.room } else { 0 },
                takes: load.takes,
                turn: load.turn,
            }
        });
        Self {
            backends: schedules.collect(),
            guesses,
            candidates: Vec::with_capacity(backends.len()),
            last_turn: backends.iter().map(|load| load.turn).max().unwrap_or(0),
        }
    }

    /// Plans a job behind everything on the backend where it costs least. Returns it with the seconds that it runs,
    /// guessed if they are not known; `None` if no backend can run it.
    pub(super) fn add(&mut self, job: NextJob<'_>, loads: &ModelLoads) -> Option<(Planned, f64)> {
        let chosen = self
            .choose(job, loads, true)
            .or_else(|| self.choose(job, loads, false))?;
        self.last_turn += 1;
        let schedule = &mut self.backends[chosen.backend];
        let known = |seconds: f64, is_known: bool| if is_known { seconds } else { f64::NAN };
        let planned = Planned {
            backend: chosen.backend,
            number: self.last_turn,
            starts_in: known(schedule.free_in, schedule.is_known),
            ends_in: known(chosen.end, schedule.is_known && chosen.is_known),
            now: schedule.room > 0,
        };
        schedule.free_in = chosen.end;
        schedule.is_known &= chosen.is_known;
        schedule.model = job.kind.model;
        schedule.room = schedule.room.saturating_sub(1);
        schedule.turn = self.last_turn;
        Some((planned, chosen.seconds))
    }

    /// Where a job costs least, of the backends that take jobs or of those that do not. Equal ones take turns.
    fn choose(&mut self, job: NextJob<'_>, loads: &ModelLoads, takes: bool) -> Option<Candidate> {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let backends = self.backends.iter().zip(&job.kind.runtimes).enumerate();
        candidates.extend(
            backends
                .filter(|(_, (schedule, _))| schedule.takes == takes)
                .filter_map(|(backend, (_, runtime))| {
                    Some(self.candidate(backend, (*runtime)?, job, loads))
                }),
        );
        self.candidates = candidates;
        let candidates = self.candidates.iter();
        let least = candidates.min_by(|a, b| a.cost.total_cmp(&b.cost))?;
        let limit = least.cost + SAME_COST * least.seconds;
        let equal = self.candidates.iter();
        let equal = equal.filter(|candidate| candidate.cost <= limit);
        equal
            .min_by_key(|candidate| self.backends[candidate.backend].turn)
            .copied()
    }

    /// A job on a backend. Loading its model delays not only the job, but also the next one there; and the next one
    /// that works with the model that it replaces has to load that again. Both count beside its own end.
    fn candidate(
        &self,
        backend: usize,
        runtime: Runtime,
        job: NextJob<'_>,
        loads: &ModelLoads,
    ) -> Candidate {
        let schedule = &self.backends[backend];
        let slowness = self.guesses.slowness(backend);
        let is_warm = job.kind.model.is_some() && schedule.model == job.kind.model;
        let load = || {
            let load = runtime.load();
            load.unwrap_or_else(|| loads.of_kind(job.kind_index) * slowness)
        };
        let (seconds, is_known) = match runtime.seconds(is_warm) {
            Some(seconds) => (seconds, true),
            None => {
                let guess = self.guesses.of_kind(job.kind_index, backend);
                let load = if is_warm { 0.0 } else { load() };
                (guess.seconds + load, guess.is_derived)
            }
        };
        let end = schedule.free_in + seconds;
        let loading = if is_warm {
            0.0
        } else {
            load() + loads.of_model(schedule.model) * slowness
        };
        Candidate {
            backend,
            end,
            cost: end + loading,
            seconds,
            is_known,
        }
    }
}
