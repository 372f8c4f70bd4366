use jiff::Timestamp;

use super::Bar;

/// The ticks of a bar that counts in fractions of 1.
const FRACTION_TICKS: f64 = 100.0;

/// The most ticks that one bar counts, so that sums stay finite.
const MAX_TICKS: f64 = 1e9;

/// How many times the usual a tick may take and be believed to last: what takes longer is a stall.
const STALL: f64 = 4.0;

/// The share of the usual below which ticks have been held back: they come all at once.
const AT_ONCE: f64 = 0.5;

/// After how much of a bar's usual time, or one tick, what was seen counts half for the recent pace.
const RECENT: f64 = 0.1;

/// What one run of a node has shown of its pace.
///
/// A *tick* is one step of a bar. A node may run several bars, one after the other: their ticks add up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeTiming {
    /// When it was first heard of.
    pub started_at: Timestamp,
    /// When its end was heard.
    pub ended_at: Option<Timestamp>,
    /// It was over when it was first heard of: how long it took is not known.
    pub was_missed: bool,
    /// The ticks of the bars before the one that runs.
    before: f64,
    /// The ticks that the bar at work will have.
    length: f64,
    /// When the first tick was heard, and how many there were then.
    first: Option<(Timestamp, f64)>,
    /// The same of the newest one.
    last: Option<(Timestamp, f64)>,
    /// The ticks after the first one and their seconds, older ones counting less.
    recent: (f64, f64),
    /// The seconds of a stall that were not believed, and what a tick took before it.
    stalled: Option<(f64, f64)>,
}

impl NodeTiming {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            started_at: now,
            ended_at: None,
            was_missed: false,
            before: 0.0,
            length: 0.0,
            first: None,
            last: None,
            recent: (0.0, 0.0),
            stalled: None,
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
            if let Some((at, before)) = self.last {
                self.remember(
                    ticks - before,
                    now.duration_since(at).as_secs_f64().max(0.0),
                );
            }
            self.first.get_or_insert((now, ticks));
            self.last = Some((now, ticks));
        }
    }

    /// Forgets by time, not by ticks: those that a stall held back come all at once, and must not be
    /// taken for speed.
    fn remember(&mut self, ticks: f64, seconds: f64) {
        let (mut seconds, mut kept) = (seconds, 1.0);
        if let Some((all, took)) = self.pace() {
            seconds = self.believed(ticks, seconds, took / all);
            // Until it is clear what a stall was, nothing is forgotten.
            if self.stalled.is_none() {
                kept = 0.5_f64.powf(seconds * all / ((RECENT * self.length).max(1.0) * took));
            }
        }
        self.recent = (self.recent.0 * kept + ticks, self.recent.1 * kept + seconds);
    }

    /// The seconds that ticks are believed to have taken. A stall is cut short; where what it held back
    /// then comes all at once, the rest of it was theirs.
    fn believed(&mut self, ticks: f64, seconds: f64, usual: f64) -> f64 {
        let most = STALL * ticks.max(1.0) * usual;
        match self.stalled.take() {
            _ if seconds > most => {
                self.stalled = Some((seconds - most, usual));
                most
            }
            Some((rest, usual)) if seconds < AT_ONCE * ticks * usual => {
                let theirs = rest.min(ticks * usual - seconds);
                self.stalled = Some((rest - theirs, usual));
                seconds + theirs
            }
            _ => seconds,
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

    /// Whether it has had a bar before the one that runs.
    pub fn had_bars(&self) -> bool {
        self.before > 0.0
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

    /// The same, but what is older counts less: whatever else the machine does comes and goes.
    pub fn recent_pace(&self) -> Option<(f64, f64)> {
        self.pace().and(Some(self.recent))
    }

    /// Seconds from its start to its end, or to `until` if that came before.
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
        let mut timing = NodeTiming::new(at(0.0));
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
    fn ticks_that_come_all_at_once_are_not_taken_for_speed() {
        for held in [4, 5, 14] {
            let end = 4.0 + f64::from(held);
            let moved = [1.0, 2.0, 3.0, 4.0].into_iter();
            let timing = timing(moved.chain((0..held).map(|_| end)));
            assert_eq!(tick(timing.pace()), 1.0);
            let recent = tick(timing.recent_pace());
            assert!((recent - 1.0).abs() < 0.1, "{held}: {recent}");
        }
    }

    #[test]
    fn one_stall_is_not_taken_for_the_pace() {
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
