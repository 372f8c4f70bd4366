use jiff::Timestamp;

use super::bar::Bar;
use super::service_end::ServiceEnd;

/// The ticks of a bar that counts in fractions of 1.
const FRACTION_TICKS: f64 = 100.0;

/// The most ticks that one bar counts, so that sums stay finite.
const MAX_TICKS: f64 = 1e9;

/// A tick that takes more than this many times the mean is a stall: it is assumed not to last.
const STALL: f64 = 4.0;

/// Ticks that take less than this share of the mean were delayed before, and arrive in a burst.
const BURST: f64 = 0.5;

/// The half-life of a tick in the recent pace, as a share of a bar's mean time, at least one tick.
const RECENT: f64 = 0.1;

/// The timing of one run of a node, and the pace of its bars.
///
/// A *tick* is one step of a bar. A node may have several bars, one after the other: their ticks add
/// up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeTiming {
    /// When its first message was received.
    pub started_at: Timestamp,
    /// When the message of its end was received.
    pub ended_at: Option<Timestamp>,
    /// Whether its start was missed: how long it took is not known.
    pub was_missed: bool,
    /// When a report of all nodes left it out, while it was not known to have ended. Most likely it has: ComfyUI's reports
    /// hold those that have, but nobody promises that.
    pub left_out_at: Option<Timestamp>,
    /// Whether its bar is a percentage that a service reports: its ticks are no steps, and show no pace of the machine.
    pub is_percentage: bool,
    /// When the service that does its work expects to be ready.
    pub service_end: Option<ServiceEnd>,
    /// When it began at the earliest.
    earliest_start: Timestamp,
    /// The ticks of the bars before the current one.
    before: f64,
    /// The ticks of the current bar when it is full.
    length: f64,
    /// When the first tick was received, and the number of ticks then.
    first: Option<(Timestamp, f64)>,
    /// The same of the newest tick.
    last: Option<(Timestamp, f64)>,
    /// The ticks after the first one and their seconds, weighted by age.
    recent: (f64, f64),
    /// The seconds of a stall that were left out of `recent`, and the mean seconds of a tick before it.
    stalled: Option<(f64, f64)>,
}

impl NodeTiming {
    /// Of a run whose first message is received now. It may have begun before, but not before
    /// `earliest_start`.
    pub(super) fn new(earliest_start: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            started_at: now,
            ended_at: None,
            was_missed: earliest_start.is_some(),
            left_out_at: None,
            is_percentage: false,
            service_end: None,
            earliest_start: earliest_start.unwrap_or(now),
            before: 0.0,
            length: 0.0,
            first: None,
            last: None,
            recent: (0.0, 0.0),
            stalled: None,
        }
    }

    /// The bar moves from `old` to `new`.
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
            if let Some((at, before)) = self.last {
                self.add_recent(
                    ticks - before,
                    now.duration_since(at).as_secs_f64().max(0.0),
                );
            }
            self.first.get_or_insert((now, ticks));
            self.last = Some((now, ticks));
        }
    }

    /// Its bar was a percentage, and has counted as steps.
    pub(super) fn forget_steps(&mut self) {
        *self = Self {
            ended_at: self.ended_at,
            was_missed: self.was_missed,
            left_out_at: self.left_out_at,
            service_end: self.service_end,
            is_percentage: true,
            ..Self::new(Some(self.earliest_start), self.started_at)
        };
    }

    /// Adds ticks to the recent pace. Older ticks decay with time, not with ticks: those that a stall
    /// delayed arrive in a burst, which must not count as speed.
    fn add_recent(&mut self, ticks: f64, seconds: f64) {
        let (mut seconds, mut decay) = (seconds, 1.0);
        if let Some((all, took)) = self.pace() {
            seconds = self.without_stall(ticks, seconds, took / all);
            // Nothing decays until it is clear whether a stall delayed ticks.
            if self.stalled.is_none() {
                decay = 0.5_f64.powf(seconds * all / ((RECENT * self.length).max(1.0) * took));
            }
        }
        self.recent = (
            self.recent.0 * decay + ticks,
            self.recent.1 * decay + seconds,
        );
    }

    /// The seconds that count for ticks. A stall is cut short; if a burst follows, the rest of the
    /// stall counts for the ticks of the burst. `mean` are the seconds of a tick so far.
    fn without_stall(&mut self, ticks: f64, seconds: f64, mean: f64) -> f64 {
        let max = STALL * ticks.max(1.0) * mean;
        match self.stalled.take() {
            _ if seconds > max => {
                self.stalled = Some((seconds - max, mean));
                max
            }
            Some((rest, mean)) if seconds < BURST * ticks * mean => {
                let delay = rest.min(ticks * mean - seconds);
                self.stalled = Some((rest - delay, mean));
                seconds + delay
            }
            _ => seconds,
        }
    }

    /// The ticks so far.
    pub fn ticks(&self) -> f64 {
        self.last.map_or(0.0, |(_, ticks)| ticks)
    }

    /// The ticks at the end of the current bar.
    pub fn expected_ticks(&self) -> f64 {
        self.before + self.length
    }

    /// Whether there was a bar before the current one.
    pub fn had_bars(&self) -> bool {
        self.before > 0.0
    }

    /// When the newest tick was received; `None` before the first whole one.
    pub fn ticked_at(&self) -> Option<Timestamp> {
        self.last
            .filter(|(_, ticks)| *ticks >= 1.0)
            .map(|(at, _)| at)
    }

    /// When it last showed progress: by its start, a tick, or its end.
    pub fn newest_sign(&self) -> Timestamp {
        let ticked_at = self.last.map(|(at, _)| at);
        let signs = [Some(self.started_at), ticked_at, self.ended_at];
        signs.into_iter().flatten().max().unwrap_or(self.started_at)
    }

    /// The ticks after the first one, and their seconds. The first is often a warm-up.
    pub fn pace(&self) -> Option<(f64, f64)> {
        let ((first_at, first), (last_at, last)) = (self.first?, self.last?);
        let seconds = last_at.duration_since(first_at).as_secs_f64();
        (last - first >= 1.0 && seconds > 0.0).then_some((last - first, seconds))
    }

    /// Like [`NodeTiming::pace`], with exponentially decaying weights: other loads on the machine come
    /// and go.
    pub fn recent_pace(&self) -> Option<(f64, f64)> {
        self.pace().and(Some(self.recent))
    }

    /// Seconds that it has run at most, until `now`.
    pub fn longest(&self, now: Timestamp) -> f64 {
        now.duration_since(self.earliest_start)
            .as_secs_f64()
            .max(0.0)
    }

    /// Seconds from its start to its end, or to `until` if that is earlier.
    pub fn seconds(&self, until: Timestamp) -> f64 {
        let end = self.ended_at.map_or(until, |end| end.min(until));
        end.duration_since(self.started_at).as_secs_f64().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    /// The timing of a node whose bar of 20 ticks moved at these seconds.
    fn timing(moved: impl IntoIterator<Item = f64>) -> NodeTiming {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(seconds);
        let mut timing = NodeTiming::new(None, at(0.0));
        let mut old = None;
        for (ticks, seconds) in moved.into_iter().enumerate() {
            let (value, max) = (ticks as f64 + 1.0, 20.0);
            let new = Bar { value, max };
            timing.advance(old, new, at(seconds));
            old = Some(new);
        }
        timing
    }

    fn tick(pace: Option<(f64, f64)>) -> f64 {
        let (ticks, seconds) = pace.unwrap();
        seconds / ticks
    }

    #[test]
    fn the_recent_pace_is_nearer_to_the_newest_ticks() {
        let timing = timing([1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0, 11.0]);
        assert_eq!(tick(timing.pace()), 10.0 / 7.0);
        assert!(tick(timing.recent_pace()) > 1.8);
    }

    #[test]
    fn a_burst_of_ticks_does_not_count_as_speed() {
        for delayed in [4, 5, 14] {
            let end = 4.0 + f64::from(delayed);
            let moved = [1.0, 2.0, 3.0, 4.0].into_iter();
            let timing = timing(moved.chain((0..delayed).map(|_| end)));
            assert_eq!(tick(timing.pace()), 1.0);
            let recent = tick(timing.recent_pace());
            assert!((recent - 1.0).abs() < 0.1, "{delayed}: {recent}");
        }
    }

    #[test]
    fn one_stall_does_not_count_as_the_pace() {
        let stalled = timing([1.0, 2.0, 3.0, 4.0, 5.0, 35.0]);
        assert!(tick(stalled.pace()) > 6.0);
        assert!(tick(stalled.recent_pace()) < 4.0);
        let later = timing([1.0, 2.0, 3.0, 4.0, 5.0, 35.0, 36.0, 37.0, 38.0, 39.0]);
        assert!(tick(later.recent_pace()) < 2.0);
    }

    #[test]
    fn one_tick_has_no_pace() {
        assert_eq!(timing([1.0]).recent_pace(), None);
        assert_eq!(timing([1.0, 1.0]).recent_pace(), None);
    }
}
