//! Counts what arrives.

use std::sync::Arc;

use memchr::memmem::Finder;

use crate::board::Board;

/// Where the number of an update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// In the message that the publisher reports. Each update is a state of its own.
    Report,
    /// In the step of a ComfyUI job's node. The relay publishes some of the updates only.
    Step,
}

/// What a subscriber has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// The `seq` of the last state.
    seq: u64,
    /// The number of the last update.
    mark: u64,
    has_final: bool,
}

impl Seen {
    /// Whether any state has come.
    pub(crate) fn any(&self) -> bool {
        self.seq > 0
    }
}

/// How many updates of a job may be under way at once.
const RING: usize = 16_384;

/// All that arrived at all subscribers.
pub(crate) struct Tally {
    board: Arc<Board>,
    seq: Finder<'static>,
    mark: Finder<'static>,
    is_each_a_state: bool,
    end: Finder<'static>,
    /// Of each job, how many subscribers an update has reached, by its number in the ring.
    reached: Vec<Vec<u32>>,
    /// Of each job, the last update that has reached all.
    complete: Vec<u64>,
    /// How many subscribers each job has.
    counts: Vec<u32>,
    /// The first job of which latencies are taken.
    first_timed: usize,
    pub(crate) states: u64,
    /// States and updates that a subscriber did not get, though later ones came.
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    pub(crate) finals: u64,
    pub(crate) repeated_finals: u64,
    /// Microseconds from post to arrival.
    pub(crate) latencies: Vec<u32>,
}

impl Tally {
    /// `counts` are the subscribers of each job; latencies are taken from job `first_timed` on.
    pub(crate) fn new(board: Arc<Board>, counts: Vec<u32>, first_timed: usize, mark: Mark) -> Self {
        let jobs = board.jobs();
        let is_each_a_state = mark == Mark::Report;
        let mark = match mark {
            Mark::Report => "\"message\":\"#",
            Mark::Step => ": step ",
        };
        Self {
            board,
            seq: Finder::new("\"seq\":"),
            mark: Finder::new(mark),
            is_each_a_state,
            end: Finder::new("\"status\":\"completed\""),
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

    /// Forgets what arrived so far, not what each subscriber has seen.
    pub(crate) fn restart(&mut self) {
        self.states = 0;
        self.latencies.clear();
    }

    /// Whether so many updates of each job have reached all its subscribers.
    pub(crate) fn has_all(&self, posted: &[u64]) -> bool {
        let mut complete = self.complete.iter().zip(posted);
        complete.all(|(complete, posted)| complete >= posted)
    }

    /// A text message came to a subscriber of a job. Only states count.
    pub(crate) fn text(&mut self, job: usize, seen: &mut Seen, text: &[u8]) {
        let Some(seq) = number_after(&self.seq, text) else {
            return;
        };
        self.states += 1;
        if seq <= seen.seq {
            self.out_of_order += 1;
            return;
        }
        let mut missing = match seen.any() {
            true => seq - seen.seq - 1,
            false => 0,
        };
        seen.seq = seq;
        if self.end.find(text).is_some() {
            self.finals += u64::from(!seen.has_final);
            self.repeated_finals += u64::from(seen.has_final);
            seen.has_final = true;
        }
        // A state that is repeated while nothing changes has the number of the update before.
        if let Some(mark) = number_after(&self.mark, text)
            && mark > seen.mark
        {
            let taken = self
                .board
                .now()
                .saturating_sub(self.board.posted_at(job, mark));
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

    /// An update reached one more subscriber, and with it those that it stands for.
    fn arrive(&mut self, job: usize, before: u64, mark: u64) {
        for reached in before + 1..=mark {
            let count = &mut self.reached[job][reached as usize % RING];
            *count += 1;
            if *count == self.counts[job] {
                *count = 0;
                self.complete[job] = self.complete[job].max(reached);
                self.board.arrived(job);
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
