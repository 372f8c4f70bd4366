use jiff::Timestamp;

use super::Bar;

/// The ticks of a bar that counts in fractions of 1.
const FRACTION_TICKS: f64 = 100.0;

/// The most ticks that one bar counts, so that sums stay finite.
const MAX_TICKS: f64 = 1e9;

/// What one run of a node has shown of its pace.
///
/// A *tick* is one step of a bar. A node may run several bars, one after the other: their ticks add up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// When it was first heard of.
    pub started_at: Timestamp,
    /// When its end was heard.
    pub ended_at: Option<Timestamp>,
    /// The ticks of the bars before the one that runs.
    before: f64,
    /// The ticks that the bar at work will have.
    length: f64,
    /// When the first tick was heard, and how many there were then.
    first: Option<(Timestamp, f64)>,
    /// The same of the newest one.
    last: Option<(Timestamp, f64)>,
}

impl Effort {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            started_at: now,
            ended_at: None,
            before: 0.0,
            length: 0.0,
            first: None,
            last: None,
        }
    }

    /// The bar moved from `old` to `new`.
    pub(super) fn advance(&mut self, old: Option<Bar>, new: Bar, now: Timestamp) {
        if old.is_some_and(|old| new.value < old.value || new.max != old.max) {
            self.before = self.ticks();
        }
        let length = if new.max > 1.0 {
            new.max
        } else {
            FRACTION_TICKS
        };
        self.length = length.min(MAX_TICKS);
        let ticks = self.before + self.length * new.share();
        if ticks > self.ticks() {
            self.first.get_or_insert((now, ticks));
            self.last = Some((now, ticks));
        }
    }

    /// The ticks so far.
    pub fn ticks(&self) -> f64 {
        self.last.map_or(0.0, |(_, ticks)| ticks)
    }

    /// The ticks that there will be, as far as its bars tell.
    pub fn expected_ticks(&self) -> f64 {
        self.before + self.length
    }

    /// When the newest tick was heard, once there was a whole one.
    pub fn ticked_at(&self) -> Option<Timestamp> {
        self.last
            .filter(|(_, ticks)| *ticks >= 1.0)
            .map(|(at, _)| at)
    }

    /// The ticks after the first one, and the seconds that they took. The first is often a warm-up.
    pub fn pace(&self) -> Option<(f64, f64)> {
        let ((first_at, first), (last_at, last)) = (self.first?, self.last?);
        let seconds = last_at.duration_since(first_at).as_secs_f64();
        (last - first >= 1.0 && seconds > 0.0).then_some((last - first, seconds))
    }

    /// Seconds from its start to its end, or to `until` if that came before.
    pub fn seconds(&self, until: Timestamp) -> f64 {
        let end = self.ended_at.map_or(until, |end| end.min(until));
        end.duration_since(self.started_at).as_secs_f64().max(0.0)
    }
}
