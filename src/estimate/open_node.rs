use jiff::Timestamp;

use super::interval::IntervalWidth;
use super::prediction::{MatchLevel, Prediction};
use super::service::ServiceTrust;
use super::spread::Spread;
use crate::job::NodeTiming;

/// The weight of the predicted tick beside the ticks that were seen, in ticks.
const TICK_PRIOR_WEIGHT: f64 = 1.0;

/// The largest share of a tick that counts as done before it ends.
const MAX_TICK_SHARE: f64 = 0.9;

/// The remaining time of a node that is silent for longer than expected, as a share of its silence.
pub(super) const OVERTIME: f64 = 0.4;

/// The smallest standard deviation of a node, in seconds, beside what it is expected to have.
pub(super) const JITTER: f64 = 0.02;

/// After this many ticks, the variance of a pace is half of what it was.
const TICKS_OF_HALF_VARIANCE: f64 = 4.0;

/// The largest share of an unusual slowness that is expected to end before the node does.
const MAX_RELIEF: f64 = 0.5;

/// With so many seconds left, half of that share is, if the slowness has just begun: what has lasted
/// longer lasts longer.
const RELIEF_SECONDS: f64 = 5.0;

/// A node that has not ended.
#[derive(Clone, Copy)]
pub(super) struct OpenNode<'a> {
    pub(super) id: &'a str,
    pub(super) prediction: Prediction,
    /// `None` while it has not begun.
    pub(super) timing: Option<&'a NodeTiming>,
    /// The newest sign of progress of the runs that it was expanded to.
    pub(super) expanded_at: Option<Timestamp>,
    /// Its level among the nodes that run beside others; see [`super::parallel::ParallelLevels`].
    pub(super) level: Option<u32>,
    /// How many copies of it have ended in this job, and the mean of what one, or what as many as are open, takes in seconds.
    pub(super) measured: Option<(f64, f64)>,
}

/// How fast a job's nodes run.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// How many times as long as predicted they take.
    pub(super) factor: f64,
    /// The same by the jobs before: what is usual today.
    pub(super) usual_factor: f64,
    /// How far such predictions are off.
    pub(super) width: IntervalWidth,
}

impl Prediction {
    /// The seconds that a node at work has taken for a part of its work, and those that were predicted
    /// for it. `None` while it shows nothing: it is silent, but not for longer than expected.
    pub(super) fn compared_with(&self, timing: &NodeTiming, now: Timestamp) -> Option<(f64, f64)> {
        if timing.left_out_at.is_some() {
            return None;
        }
        if timing.was_missed {
            if timing.is_percentage {
                return None;
            }
            let (ticks, seconds) = timing.pace()?;
            return Some((seconds, self.tick? * ticks));
        }
        let seconds = timing.seconds(now);
        if timing.is_percentage {
            return (seconds > self.seconds).then_some((seconds, self.seconds));
        }
        match (timing.pace(), self.tick, timing.ticked_at()) {
            (Some((ticks, seconds)), Some(tick), _) => Some((seconds, tick * ticks)),
            // The first tick shows something before there is a pace.
            (None, Some(tick), Some(at)) => {
                let seconds = at.duration_since(timing.started_at).as_secs_f64();
                Some((seconds, self.until_newest_tick(timing, tick)))
            }
            _ => (seconds > self.seconds).then_some((seconds, self.seconds)),
        }
    }

    /// The seconds that were predicted from the node's start to its newest tick: its whole time without
    /// the ticks that follow, but at least the ticks so far. The difference is what it does before its
    /// first tick.
    fn until_newest_tick(&self, timing: &NodeTiming, tick: f64) -> f64 {
        let ticks = self.ticks.unwrap_or_else(|| timing.expected_ticks());
        let left = (ticks - timing.ticks()).max(0.0) * tick;
        (self.seconds - left).max(timing.ticks() * tick)
    }
}

impl OpenNode<'_> {
    /// One that has not begun, of a prompt that waits.
    pub(super) fn waiting(prediction: Prediction, level: Option<u32>) -> Self {
        Self {
            id: "",
            prediction,
            timing: None,
            expanded_at: None,
            level,
            measured: None,
        }
    }

    /// Whether nothing but the built-in table shows what it takes.
    pub(super) fn is_guess(&self) -> bool {
        let is_said = self
            .timing
            .is_some_and(|timing| timing.service_end.is_some());
        self.prediction.match_level == MatchLevel::Default && self.measured.is_none() && !is_said
    }

    /// The remaining seconds, and their spread.
    pub(super) fn remaining(&self, pace: Pace, now: Timestamp) -> (f64, Spread) {
        let Some((runs, mean)) = self.measured else {
            return self.with_service(self.by_runs(pace, now), pace, now);
        };
        let at_this_pace = self.prediction.scaled(pace.factor);
        let measured = Self {
            prediction: at_this_pace.measured(runs, mean),
            measured: None,
            ..*self
        };
        // The copies have run at the speed of this job.
        let factor = 1.0;
        measured.remaining(Pace { factor, ..pace }, now)
    }

    /// What remains, together with what a service says, each weighted by the inverse of its variance.
    fn with_service(
        &self,
        (left, spread): (f64, Spread),
        pace: Pace,
        now: Timestamp,
    ) -> (f64, Spread) {
        let Some(end) = self.timing.and_then(|timing| timing.service_end) else {
            return (left, spread);
        };
        let ServiceTrust {
            log_error,
            deviation,
        } = self.prediction.service;
        let stated = end.expected_at.duration_since(now).as_secs_f64().max(0.0) * log_error.exp();
        let own_weight = self.prediction.match_level.deviation(pace.width).powi(-2);
        let weight = deviation.powi(-2);
        let left = (own_weight * left + weight * stated) / (own_weight + weight);
        let deviation = left / (own_weight + weight).sqrt();
        (left, Spread::symmetric(deviation + JITTER))
    }

    /// What remains by what such nodes have taken before, and by what this one has shown.
    fn by_runs(&self, pace: Pace, now: Timestamp) -> (f64, Spread) {
        let Some(timing) = self.timing else {
            return self.whole(pace);
        };
        if timing.left_out_at.is_some() {
            return (0.0, Spread::default());
        }
        // A percentage is the guess of a service, or of ComfyUI: what the node has taken before is the better guide.
        let is_known = self.prediction.match_level != MatchLevel::Default;
        let ticked_at = timing
            .ticked_at()
            .filter(|_| !(timing.is_percentage && is_known));
        let Some(ticked_at) = ticked_at else {
            let silent = timing.seconds(now);
            // How many more runs will follow is not known of a class that has never run: the time that it has taken is
            // the better guide then.
            let silent = self.expanded_at.filter(|_| is_known).map_or(silent, |at| {
                silent.min(now.duration_since(at).as_secs_f64().max(0.0))
            });
            return self.by_time(timing, silent, pace, now);
        };
        let ticks = self.prediction.ticks;
        let expected = ticks.unwrap_or(0.0).max(timing.expected_ticks());
        let silent = now.duration_since(ticked_at).as_secs_f64().max(0.0);
        // Some nodes work on when their bar is full, such as those that write a video.
        if timing.ticks() >= expected {
            return self.by_time(timing, silent, pace, now);
        }
        let by_ticks = self.by_ticks(timing, expected, silent, pace, now);
        // How many more bars will follow is not known: then the predicted time is the better guide.
        if ticks.is_none() && timing.had_bars() {
            let by_time = self.by_time(timing, 0.0, pace, now);
            if by_time.0 > by_ticks.0 {
                return by_time;
            }
        }
        by_ticks
    }

    /// For a node that has not begun.
    fn whole(&self, pace: Pace) -> (f64, Spread) {
        let seconds = self.prediction.seconds * pace.factor;
        let deviation = seconds * self.prediction.match_level.deviation(pace.width);
        (seconds, self.spread(pace.factor, deviation))
    }

    /// For a node at work, from its predicted seconds. `silent` are the seconds since it last showed
    /// progress.
    fn by_time(
        &self,
        timing: &NodeTiming,
        silent: f64,
        pace: Pace,
        now: Timestamp,
    ) -> (f64, Spread) {
        let expected = self.prediction.seconds * pace.factor;
        let left = (expected - timing.longest(now)).max(OVERTIME * silent);
        // Near the expected end, the deviation shrinks less than the remaining time.
        let late = (expected / left.max(1e-3)).sqrt().clamp(1.0, 10.0);
        let share = (left / expected.max(1e-3)).min(1.0);
        let deviation = left * self.prediction.match_level.deviation(pace.width) * late;
        (left, self.spread(pace.factor * share, deviation))
    }

    /// For a node at work, from the ticks of its bar: with `n` seen ticks that took `t` seconds, the
    /// seconds of one are shrunk to the predicted ones, `(t + w·predicted) / (n + w)`.
    fn by_ticks(
        &self,
        timing: &NodeTiming,
        expected: f64,
        silent: f64,
        pace: Pace,
        now: Timestamp,
    ) -> (f64, Spread) {
        let predicted = self.prediction.match_level.deviation(pace.width);
        let remaining = (expected - timing.ticks()).max(0.0);
        let mut slowness = 0.0;
        let (seen, tick, deviation) = match (timing.recent_pace(), self.prediction.tick) {
            (Some((seen, seconds)), Some(tick)) => {
                let shrunk =
                    (seconds + TICK_PRIOR_WEIGHT * tick * pace.factor) / (seen + TICK_PRIOR_WEIGHT);
                if self.prediction.match_level == MatchLevel::Signature {
                    slowness = (shrunk / (tick * pace.usual_factor)).ln().max(0.0);
                }
                let lasts = remaining * shrunk;
                let lasted = timing.pace().map_or(0.0, |(_, seconds)| seconds);
                slowness *= MAX_RELIEF * lasts / (lasts + lasted + RELIEF_SECONDS);
                (seen, shrunk * (-slowness).exp(), pace.width.deviation())
            }
            (Some((seen, seconds)), None) => (seen, seconds / seen, pace.width.deviation()),
            (None, Some(tick)) => (0.0, tick * pace.factor, predicted),
            // Silence since the tick is weak evidence of the next ones.
            (None, None) => (
                0.0,
                (timing.longest(now) - silent) / timing.ticks(),
                predicted,
            ),
        };
        let left = remaining * tick;
        let left = (left - silent.min(MAX_TICK_SHARE * tick)).max(0.0);
        let deviation = deviation / (1.0 + seen / TICKS_OF_HALF_VARIANCE).sqrt();
        let deviation = left * deviation.hypot(slowness);
        (left, Spread::symmetric(deviation + JITTER))
    }

    /// The spread of the runs so far, with at least this standard deviation in seconds.
    fn spread(&self, factor: f64, deviation: f64) -> Spread {
        let seen = self.prediction.spread.scaled(factor);
        let variance = seen.variance.max((deviation + JITTER).powi(2));
        Spread { variance, ..seen }
    }
}
