//! The player: plays the playbacks of a [`SharedState`], one after another, step by step.

use tokio::time::{Duration, Instant, sleep_until};

use super::server::state::{Readiness, SharedState};
use super::timeline::Step;

/// How fast recordings are played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PlaybackSpeed {
    /// So many times as fast as they were recorded.
    Real(f64),
    /// As fast as the callers can take it.
    Fastest,
}

/// Plays for ever; the caller ends it by dropping it.
pub(super) async fn play(state: &SharedState, speed: PlaybackSpeed) {
    loop {
        let Some(timeline) = state.playing() else {
            state.changed.notified().await;
            continue;
        };
        let mut clock = PlaybackClock {
            speed,
            played: 0.0,
            at: Instant::now(),
        };
        for (t, step) in &timeline.steps {
            clock.reach(state, *t, step).await;
            state.play(step);
            // Let the sockets write, however fast we are.
            tokio::task::yield_now().await;
        }
        state.finish();
    }
}

/// The recording's time on our clock.
struct PlaybackClock {
    speed: PlaybackSpeed,
    /// The recorded time of the last step.
    played: f64,
    /// When that was, or should have been.
    at: Instant,
}

impl PlaybackClock {
    /// Waits until it is time for `step` and the callers are ready for it, or it is clear that it does not happen.
    async fn reach(&mut self, state: &SharedState, t: f64, step: &Step) {
        let due = self.at + self.span(t, step);
        self.played = t;
        while Instant::now() < due {
            if state.readiness(step) == Readiness::Skip {
                self.at = Instant::now();
                return;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = state.changed.notified() => {}
            }
        }
        state.prepare(step);
        let waiting = Instant::now();
        loop {
            match state.readiness(step) {
                Readiness::Skip => {
                    self.at = Instant::now();
                    return;
                }
                Readiness::Ready => break,
                Readiness::Wait(None) => state.changed.notified().await,
                Readiness::Wait(Some(limit)) => {
                    tokio::select! {
                        () = sleep_until(waiting + limit) => break,
                        () = state.changed.notified() => {}
                    }
                }
            }
            // Waiting for callers takes no time of the recording.
            self.at = Instant::now();
        }
        self.at = self.at.max(due);
    }

    /// How long after the last step this one comes. What callers do comes when they do it.
    fn span(&self, t: f64, step: &Step) -> Duration {
        match (self.speed, step) {
            (PlaybackSpeed::Fastest, _) | (_, Step::Post(_)) => Duration::ZERO,
            (PlaybackSpeed::Real(factor), _) => {
                Duration::try_from_secs_f64((t - self.played) / factor).unwrap_or_default()
            }
        }
    }
}
