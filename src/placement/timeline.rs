use super::backend_load::BackendLoad;
use super::guesses::{Guesses, KindGuesses};
use super::kind::Kind;
use super::planned::Planned;

/// Ends that differ by less than this share of the job's own time are the same: learned runtimes of equal machines
/// are never equal to the last digit.
const SAME_END: f64 = 0.01;

/// What is planned on the backends so far.
#[derive(Debug)]
pub(super) struct Timelines {
    backends: Vec<Timeline>,
    /// The latest turn of all.
    last_turn: u64,
}

/// What is planned on one backend so far.
#[derive(Debug)]
struct Timeline {
    /// Seconds until the last of its jobs ends, guesses included: what backends are compared by.
    free_in: f64,
    /// Whether there is no guess in `free_in`.
    is_known: bool,
    /// The model that its last job leaves loaded.
    model: Option<u64>,
    room: usize,
    takes: bool,
    turn: u64,
}

/// Where a job could run.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    backend: usize,
    end: f64,
    seconds: f64,
    is_known: bool,
}

impl Timelines {
    pub(super) fn new(backends: &[BackendLoad], guesses: &Guesses) -> Self {
        let timeline = |(backend, load): (usize, &BackendLoad)| {
            let is_known = load.free_in.is_finite();
            Timeline {
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
        };
        Self {
            last_turn: backends.iter().map(|load| load.turn).max().unwrap_or(0),
            backends: backends.iter().enumerate().map(timeline).collect(),
        }
    }

    /// Plans a job behind everything on the backend where it ends first. Returns it with the seconds that it runs,
    /// guessed if they are not known; `None` if no backend can run it.
    pub(super) fn add(&mut self, kind: &Kind, guesses: KindGuesses<'_>) -> Option<(Planned, f64)> {
        let chosen = self
            .choose(kind, guesses, true)
            .or_else(|| self.choose(kind, guesses, false))?;
        self.last_turn += 1;
        let timeline = &mut self.backends[chosen.backend];
        let known = |seconds: f64, is_known: bool| if is_known { seconds } else { f64::NAN };
        let planned = Planned {
            backend: chosen.backend,
            starts_in: known(timeline.free_in, timeline.is_known),
            ends_in: known(chosen.end, timeline.is_known && chosen.is_known),
            now: timeline.room > 0,
        };
        timeline.free_in = chosen.end;
        timeline.is_known &= chosen.is_known;
        timeline.model = kind.model;
        timeline.room = timeline.room.saturating_sub(1);
        timeline.turn = self.last_turn;
        Some((planned, chosen.seconds))
    }

    /// Where a job ends first, of the backends that take jobs or of those that do not. Equal ends take turns.
    fn choose(&self, kind: &Kind, guesses: KindGuesses<'_>, takes: bool) -> Option<Candidate> {
        let first = self.candidates(kind, guesses, takes);
        let first = first.min_by(|a, b| a.end.total_cmp(&b.end))?;
        let limit = first.end + SAME_END * first.seconds;
        let equal = self.candidates(kind, guesses, takes);
        let equal = equal.filter(|candidate| candidate.end <= limit);
        equal.min_by_key(|candidate| self.backends[candidate.backend].turn)
    }

    fn candidates<'a>(
        &'a self,
        kind: &'a Kind,
        guesses: KindGuesses<'a>,
        takes: bool,
    ) -> impl Iterator<Item = Candidate> + 'a {
        let backends = self.backends.iter().zip(&kind.runtimes).enumerate();
        backends
            .filter(move |(_, (timeline, _))| timeline.takes == takes)
            .filter_map(move |(backend, (timeline, runtime))| {
                let is_warm = kind.model.is_some() && timeline.model == kind.model;
                let known = (*runtime)?.seconds(is_warm);
                let seconds = known.unwrap_or_else(|| guesses.seconds(backend));
                Some(Candidate {
                    backend,
                    end: timeline.free_in + seconds,
                    seconds,
                    is_known: known.is_some(),
                })
            })
    }
}
