//! [`EtaLog`]: what was shown to jobs that waited, compared with what happened.

/// The ends that were shown to the jobs of a run while they waited.
#[derive(Debug)]
pub(crate) struct EtaLog {
    /// By job: when it was shown, and the end; `None` if that was not known.
    shown: Vec<Vec<(f64, Option<f64>)>>,
}

/// How far the ends were off, as shares of the time from the moment to the true end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EtaErrors {
    /// The mean over jobs, of the first end that a job was shown: as it was submitted, if the end was known.
    pub(crate) first: f64,
    /// The share of jobs whose end was known as they were submitted, of those that waited.
    pub(crate) known_at_submission: f64,
    /// The mean over jobs and their waits: the integral of the error over the wait by that of the time to the end.
    pub(crate) over_wait: f64,
    /// The share of all waiting without an end.
    pub(crate) not_shown: f64,
}

impl EtaLog {
    pub(crate) fn new(jobs: usize) -> Self {
        Self {
            shown: vec![Vec::new(); jobs],
        }
    }

    /// Records what a job is shown from now on.
    pub(crate) fn record(&mut self, job: usize, now: f64, end: Option<f64>) {
        self.shown[job].push((now, end));
    }

    /// Compares it with when the jobs were handed in and when they ended. `None` if no job waited.
    pub(crate) fn errors(&self, handed_in: &[f64], ends: &[f64]) -> Option<EtaErrors> {
        let (mut first, mut whole) = (Mean::default(), Mean::default());
        let (mut waited, mut dark) = (0.0, 0.0);
        let (mut jobs, mut submitted) = (0_usize, 0_usize);
        for (job, shown) in self.shown.iter().enumerate() {
            let Some((arrived, at_arrival)) = shown.first() else {
                continue;
            };
            jobs += 1;
            waited += handed_in[job] - arrived;
            let end = ends[job];
            let relative = |at: f64, shown: f64| (shown - end).abs() / (end - at);
            submitted += usize::from(at_arrival.is_some());
            let mut known = shown.iter().filter_map(|(at, end)| Some((*at, (*end)?)));
            if let Some((at, shown)) = known.next() {
                first.add(relative(at, shown));
            }
            let (mut error, mut left) = (0.0, 0.0);
            for (place, (at, shown)) in shown.iter().enumerate() {
                let until = shown_until(self.shown[job].get(place + 1), handed_in[job]);
                match shown {
                    Some(shown) => {
                        error += (shown - end).abs() * (until - at);
                        left += (end - (at + until) / 2.0) * (until - at);
                    }
                    None => dark += until - at,
                }
            }
            if left > 0.0 {
                whole.add(error / left);
            }
        }
        Some(EtaErrors {
            first: first.get()?,
            known_at_submission: submitted as f64 / jobs as f64,
            over_wait: whole.get()?,
            not_shown: dark / waited,
        })
    }
}

/// Until when something was shown: until the next one, or the end of the wait.
fn shown_until(next: Option<&(f64, Option<f64>)>, handed_in: f64) -> f64 {
    next.map_or(handed_in, |(at, _)| *at)
}

/// A mean.
#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}
