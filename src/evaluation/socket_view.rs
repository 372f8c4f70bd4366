use super::baseline::Answer;
use crate::estimate::Estimate;

/// The least time between two messages, in seconds: the default of `--publish-rate`.
const INTERVAL: f64 = 0.1;

/// What a subscriber sees: the newest message, with whole seconds and whole percent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SocketView {
    /// When the newest message was sent, in seconds of the recording.
    sent_at: Option<f64>,
    /// When the next one is due, because something has changed since.
    due: Option<f64>,
    seen: Option<Answer>,
}

impl SocketView {
    /// Records that the job has changed.
    pub(super) fn changed(&mut self, t: f64) {
        let next = self.sent_at.map_or(t, |sent| t.max(sent + INTERVAL));
        self.due.get_or_insert(next);
    }

    /// The moment up to `until` at which a message is due, if there is one.
    pub(super) fn take_due(&mut self, until: f64) -> Option<f64> {
        self.due.take_if(|due| *due <= until)
    }

    /// Records a message.
    pub(super) fn send(&mut self, estimate: Estimate, t: f64) {
        let whole = |seconds: f64| seconds.max(0.0).round();
        let before = self.seen.map_or(0.0, |seen| seen.progress);
        self.sent_at = Some(t);
        self.seen = Some(Answer {
            progress: before.max((estimate.fraction * 100.0 + 1e-9).floor() / 100.0),
            remaining: estimate.remaining.map(whole),
            interval: estimate.low.map(whole).zip(estimate.high.map(whole)),
        });
    }

    /// What is seen now.
    pub(super) fn answer(&self) -> Answer {
        self.seen.unwrap_or(Answer {
            progress: 0.0,
            remaining: None,
            interval: None,
        })
    }
}
