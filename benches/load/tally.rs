//! [`Tally`]: counts what arrives.

use std::sync::Arc;

use memchr::memmem::Finder;

use crate::updates::Updates;

/// Where a message holds the number of its update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// In the message that the publisher posts. Each update is a state of its own.
    Report,
    /// In the step of a ComfyUI job's node. The relay publishes only some of the updates.
    Step,
}

/// What a subscriber has received.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// The `seq` of the last state.
    seq: u64,
    /// The number of the last update.
    mark: u64,
    has_final: bool,
    /// The message that nobody has registered the job yet.
    has_notice: bool,
}

impl Seen {
    /// Whether any state has arrived, or the message that there is none yet.
    pub(crate) fn any(&self) -> bool {
        self.seq > 0 || self.has_notice
    }
}

/// How many updates of a job can be in flight at once.
const RING: usize = 16_384;

/// Everything that arrived at all subscribers.
pub(crate) struct Tally {
    updates: Arc<Updates>,
    seq: Finder<'static>,
    mark: Finder<'static>,
    is_each_a_state: bool,
    end: Finder<'static>,
    notice: Finder<'static>,
    /// How many subscribers each update has reached, by job and by its number modulo [`RING`].
    reached: Vec<Vec<u32>>,
    /// The last update of each job that has reached all subscribers.
    complete: Vec<u64>,
    /// How many subscribers each job has.
    counts: Vec<u32>,
    /// The first job whose latencies are measured.
    first_timed: usize,
    pub(crate) states: u64,
    /// States and updates that a subscriber did not receive, although later ones arrived.
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    pub(crate) finals: u64,
    pub(crate) repeated_finals: u64,
    /// Microseconds from post to arrival, of each state.
    pub(crate) latencies: Vec<u32>,
}

impl Tally {
    /// `counts` are the subscribers of each job. Latencies are measured from job `first_timed` on.
    pub(crate) fn new(
        updates: Arc<Updates>,
        counts: Vec<u32>,
        first_timed: usize,
        mark: Mark,
    ) -> Self {
        let jobs = updates.jobs();
        let is_each_a_state = mark == Mark::Report;
        let mark = match mark {
            Mark::Report => "\"message\":\"#",
            Mark::Step => ": step ",
        };
        Self {
            updates,
            seq: Finder::new("\"seq\":"),
            mark: Finder::new(mark),
            is_each_a_state,
            end: Finder::new("\"status\":\"completed\""),
            notice: Finder::new("\"job_wait\":"),
            reached: vec![vec![0; RING]; jobs],
            complete: vec![0; jobs],
            counts,
            first_timed,
            states: 0,
            lost: 0,
            out_of_order: 0,
            finals: 0,
            repeated_finals: 0,
            latencies: Vec::new(),
        }
    }

    /// Resets the counts, but not what each subscriber has received.
    pub(crate) fn restart(&mut self) {
        self.states = 0;
        self.latencies.clear();
    }

    /// Whether this many updates of each job have reached all its subscribers.
    pub(crate) fn has_all(&self, posted: &[u64]) -> bool {
        let mut complete = self.complete.iter().zip(posted);
        complete.all(|(complete, posted)| complete >= posted)
    }

    /// Counts a text message that arrived at a subscriber of a job. Only states count.
    pub(crate) fn text(&mut self, job: usize, seen: &mut Seen, text: &[u8]) {
        let Some(seq) = number_after(&self.seq, text) else {
            seen.has_notice |= self.notice.find(text).is_some();
            return;
        };
        self.states += 1;
        if seq <= seen.seq {
            self.out_of_order += 1;
            return;
        }
        let mut missing = if seen.seq > 0 { seq - seen.seq - 1 } else { 0 };
        seen.seq = seq;
        if self.end.find(text).is_some() {
            self.finals += u64::from(!seen.has_final);
            self.repeated_finals += u64::from(seen.has_final);
            seen.has_final = true;
        }
        // A state that is repeated while nothing changes has the number of the last update.
        if let Some(mark) = number_after(&self.mark, text)
            && mark > seen.mark
        {
            let taken = self
                .updates
                .now()
                .saturating_sub(self.updates.posted_at(job, mark));
            if job >= self.first_timed {
                let micros = u32::try_from(taken / 1_000);
                self.latencies.push(micros.unwrap_or(u32::MAX));
            }
            self.arrive(job, seen.mark, mark);
            if self.is_each_a_state {
                missing = missing.max(mark - seen.mark - 1);
            }
            seen.mark = mark;
        }
        self.lost += missing;
    }

    /// Counts that an update, and with it the updates that it replaced, reached one more subscriber.
    fn arrive(&mut self, job: usize, before: u64, mark: u64) {
        for reached in before + 1..=mark {
            let count = &mut self.reached[job][reached as usize % RING];
            *count += 1;
            if *count == self.counts[job] {
                *count = 0;
                self.complete[job] = self.complete[job].max(reached);
                self.updates.arrived(job);
            }
        }
    }
}

fn number_after(finder: &Finder<'_>, text: &[u8]) -> Option<u64> {
    let start = finder.find(text)? + finder.needle().len();
    let digits = text[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0, |number: u64, digit| {
        number
            .wrapping_mul(10)
            .wrapping_add(u64::from(digit - b'0'))
    });
    Some(number)
}
