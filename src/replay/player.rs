//! The player: plays the runs of a [`Stage`], one after another, beat by beat.

use tokio::time::{Duration, Instant, sleep_until};

use super::Speed;
use super::stage::{Readiness, Stage};
use super::timeline::Beat;

/// Plays for ever; the caller ends it by dropping it.
pub(super) async fn play(stage: &Stage, speed: Speed) {
    loop {
        let Some(timeline) = stage.playing() else {
            stage.stirred.notified().await;
            continue;
        };
        let mut clock = Clock {
            speed,
            played: 0.0,
            at: Instant::now(),
        };
        for (t, beat) in &timeline.beats {
            clock.reach(stage, *t, beat).await;
            stage.play(beat);
            // Let the sockets write, however fast we are.
            tokio::task::yield_now().await;
        }
        stage.finish();
    }
}

/// The recording's time on our clock.
struct Clock {
    speed: Speed,
    /// The recorded time of the last beat.
    played: f64,
    /// When that was, or should have been.
    at: Instant,
}

impl Clock {
    /// Waits until it is time for `beat` and the callers are ready for it, or it is clear that it does not happen.
    async fn reach(&mut self, stage: &Stage, t: f64, beat: &Beat) {
        let due = self.at + self.span(t, beat);
        self.played = t;
        while Instant::now() < due {
            if stage.readiness(beat) == Readiness::Skip {
                self.at = Instant::now();
                return;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = stage.stirred.notified() => {}
            }
        }
        stage.prepare(beat);
        let waiting = Instant::now();
        loop {
            match stage.readiness(beat) {
                Readiness::Skip => {
                    self.at = Instant::now();
                    return;
                }
                Readiness::Ready => break,
                Readiness::Wait(None) => stage.stirred.notified().await,
                Readiness::Wait(Some(limit)) => {
                    tokio::select! {
                        () = sleep_until(waiting + limit) => break,
                        () = stage.stirred.notified() => {}
                    }
                }
            }
            // Waiting for callers takes no time of the recording.
            self.at = Instant::now();
        }
        self.at = self.at.max(due);
    }

    /// How long after the last beat this one comes. What callers do comes when they do it.
    fn span(&self, t: f64, beat: &Beat) -> Duration {
        match (self.speed, beat) {
            (Speed::Fastest, _) | (_, Beat::Post(_)) => Duration::ZERO,
            (Speed::Real(factor), _) => {
                Duration::try_from_secs_f64((t - self.played) / factor).unwrap_or_default()
            }
        }
    }
}
