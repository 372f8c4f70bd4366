use super::backend_load::BackendLoad;
use super::guesses::Guesses;
use super::kind::Kind;
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
    /// Whether there is no guess in `free_in`.
    is_known: bool,
    /// The model that its last job leaves loaded.
    model: Option<u64>,
    room: usize,
    takes: bool,
    turn: u64,
    /// Its share of the speed of all backends that take jobs.
    speed_share: f64,
    slowness: f64,
}

/// Where a job could run.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    backend: usize,
    /// Seconds until it ends.
    end: f64,
    /// Its end, and the sum of what it delays the jobs behind it by loading models.
    cost: f64,
    seconds: f64,
    is_known: bool,
}

impl<'a> Schedule<'a> {
    pub(super) fn new(backends: &[BackendLoad], guesses: &'a Guesses) -> Self {
        let loads = || backends.iter().enumerate();
        let slowness = |backend: usize| guesses.slowness(backend).unwrap_or(1.0);
        let taking = loads().filter(|(_, load)| load.takes);
        let speed: f64 = taking.map(|(backend, _)| 1.0 / slowness(backend)).sum();
        let schedules = loads().map(|(backend, load)| {
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
                speed_share: if load.takes {
                    1.0 / slowness(backend) / speed
                } else {
                    0.0
                },
                slowness: slowness(backend),
            }
        });
        Self {
            backends: schedules.collect(),
            guesses,
            candidates: Vec::with_capacity(backends.len()),
            last_turn: backends.iter().map(|load| load.turn).max().unwrap_or(0),
        }
    }

    /// Plans a job behind everything on the backend where it costs least; `behind` is how many jobs come after it. Returns
    /// it with the seconds that it runs, guessed if they are not known; `None` if no backend can run it.
    pub(super) fn add(
        &mut self,
        kind: &Kind,
        kind_index: usize,
        loads: &ModelLoads,
        behind: usize,
    ) -> Option<(Planned, f64)> {
        let chosen = self.choose(kind, kind_index, loads, behind)?;
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
        schedule.model = kind.model;
        schedule.room = schedule.room.saturating_sub(1);
        schedule.turn = self.last_turn;
        Some((planned, chosen.seconds))
    }

    /// Where a job costs least, of the backends that take jobs if one of them can run it. Equal ones take turns.
    fn choose(
        &mut self,
        kind: &Kind,
        kind_index: usize,
        loads: &ModelLoads,
        behind: usize,
    ) -> Option<Candidate> {
        for takes in [true, false] {
            self.candidates.clear();
            for (backend, runtime) in kind.runtimes.iter().enumerate().take(self.backends.len()) {
                if let Some(runtime) = runtime
                    && self.backends[backend].takes == takes
                {
                    let schedule = &self.backends[backend];
                    let is_warm = kind.model.is_some() && schedule.model == kind.model;
                    let known = runtime.seconds(is_warm);
                    let seconds =
                        known.unwrap_or_else(|| self.guesses.seconds(kind_index, backend));
                    let end = schedule.free_in + seconds;
                    let loading = if is_warm {
                        0.0
                    } else {
                        runtime.load().unwrap_or(0.0)
                            + loads.reload(schedule.model) * schedule.slowness
                    };
                    self.candidates.push(Candidate {
                        backend,
                        end,
                        cost: end + behind as f64 * schedule.speed_share * loading,
                        seconds,
                        is_known: known.is_some(),
                    });
                }
            }
            if !self.candidates.is_empty() {
                break;
            }
        }
        let candidates = self.candidates.iter();
        let least = candidates.min_by(|a, b| a.cost.total_cmp(&b.cost))?;
        let limit = least.cost + SAME_COST * least.seconds;
        let equal = self
            .candidates
            .iter()
            .filter(|candidate| candidate.cost <= limit);
        let turn = |candidate: &&Candidate| self.backends[candidate.backend].turn;
        equal.min_by_key(turn).copied()
    }
}
