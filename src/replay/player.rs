//! Plays the playbacks of a [`SharedState`], one after another, step by step.

use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

use super::server::state::{Readiness, SharedState};
use super::timeline::Step;

/// The longest pause between two steps: a year. The clock cannot add one that a damaged recording may have.
const MAX_PAUSE: Duration = Duration::from_secs(366 * 86_400);

/// How fast recordings are played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PlaybackSpeed {
    /// This many times as fast as they were recorded.
    Real(f64),
    /// As fast as the clients allow.
    Fastest,
}

/// Plays until the future is dropped.
pub(super) async fn play(state: &SharedState, speed: watch::Receiver<PlaybackSpeed>) {
    loop {
        let Some(timeline) = state.current_timeline() else {
            state.changed.notified().await;
            continue;
        };
        let mut clock = PlaybackClock {
            speed: speed.clone(),
            played: 0.0,
            at: Instant::now(),
        };
        for (t, step) in &timeline.steps {
            clock.wait_for(state, *t, step).await;
            state.play(step);
            // Let the sockets write, even at the fastest speed.
            tokio::task::yield_now().await;
        }
        state.finish_playback();
    }
}

/// Maps the recording's time to ours.
struct PlaybackClock {
    /// The pace, which may change at any time.
    speed: watch::Receiver<PlaybackSpeed>,
    /// The recorded time of the last step.
    played: f64,
    /// When that step was played, or was due; or when the pace was changed after it.
    at: Instant,
}

impl PlaybackClock {
    /// Waits until `step` is due and the clients are ready for it, or until it is certain that it is skipped.
    async fn wait_for(&mut self, state: &SharedState, t: f64, step: &Step) {
        let mut due = self.at + self.pause(t, step);
        while Instant::now() < due {
            if state.readiness(step) == Readiness::Skip {
                self.at = Instant::now();
                self.played = t;
                return;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = state.changed.notified() => {}
                Ok(()) = self.speed.changed() => {
                    // The pause begins anew: at the new pace, the step may have been due long ago.
                    self.at = Instant::now();
                    due = self.at + self.pause(t, step);
                }
            }
        }
        self.played = t;
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
            // The recording's time stands still while we wait for clients.
            self.at = Instant::now();
        }
        self.at = self.at.max(due);
    }

    /// The pause between the last step and this one. A POST comes when a client sends it.
    fn pause(&self, t: f64, step: &Step) -> Duration {
        match (*self.speed.borrow(), step) {
            (PlaybackSpeed::Fastest, _) | (_, Step::Post(_)) => Duration::ZERO,
            (PlaybackSpeed::Real(factor), _) => {
                let pause = Duration::try_from_secs_f64((t - self.played) / factor);
                pause.unwrap_or_default().min(MAX_PAUSE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_recorded_time_is_too_far_away() {
        let (_pace, speed) = watch::channel(PlaybackSpeed::Real(0.01));
        let clock = PlaybackClock {
            speed,
            played: 0.0,
            at: Instant::now(),
        };
        for t in [1e9, 1e17, 1e18, 1e19, 1e308, -1e308, f64::INFINITY] {
            let due = clock.at + clock.pause(t, &Step::Kill);
            assert!(due >= clock.at, "{t}");
        }
    }
}
