//! [`TapQueue`]: what is still to be sent on one socket of a client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::tap_preview::TapPreview;

/// From so many frames or bytes on that wait, only the newest progress and the newest preview wait. A client that is merely behind
/// for a moment, as after a burst of cached nodes, receives all.
const CONFLATED_FROM_FRAMES: usize = 256;
const CONFLATED_FROM_BYTES: usize = 4 << 20;

/// So many frames wait for one socket at most, and so many bytes of them, unless a single one is longer.
const MAX_FRAMES: usize = 4_096;
const MAX_BYTES: usize = 32 << 20;

/// A frame for a client.
#[derive(Debug, Clone)]
pub struct TapFrame {
    /// What is sent.
    pub payload: TapPayload,
    pub(super) newest: Conflation,
}

/// What is sent to a client.
#[derive(Debug, Clone)]
pub enum TapPayload {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame that is no preview.
    Binary(Bytes),
    /// A preview.
    Preview(Arc<TapPreview>),
}

/// Of which frames only the newest matters to a client that reads slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Conflation {
    Progress,
    ProgressState,
    Preview,
    /// None may be left out.
    All,
}

impl TapFrame {
    pub(in crate::relay) fn text(text: Utf8Bytes, newest: Conflation) -> Self {
        let payload = TapPayload::Text(text);
        Self { payload, newest }
    }

    /// A binary frame that is no preview.
    pub(in crate::relay) fn binary(bytes: Bytes) -> Self {
        let (payload, newest) = (TapPayload::Binary(bytes), Conflation::All);
        Self { payload, newest }
    }

    pub(in crate::relay) fn preview(bytes: Bytes) -> Self {
        let payload = TapPayload::Preview(Arc::new(TapPreview::new(bytes)));
        let newest = Conflation::Preview;
        Self { payload, newest }
    }

    pub(super) fn length(&self) -> usize {
        match &self.payload {
            TapPayload::Text(text) => text.len(),
            TapPayload::Binary(bytes) => bytes.len(),
            TapPayload::Preview(preview) => preview.as_sent().len(),
        }
    }
}

/// What is still to be sent on one socket of a client. It is bounded: a client that does not read loses its socket, and holds
/// nobody up.
#[derive(Debug, Default)]
pub(super) struct TapQueue {
    waiting: Mutex<WaitingFrames>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct WaitingFrames {
    frames: VecDeque<TapFrame>,
    bytes: usize,
    /// There were too many.
    is_overfull: bool,
}

impl TapQueue {
    /// Adds a frame. Never waits.
    pub(super) fn push(&self, frame: TapFrame) {
        self.waiting().push(frame);
        self.changed.notify_one();
    }

    /// The next frame; `None` if so many have waited that the socket is to be closed. Cancel safe.
    pub(super) async fn next(&self) -> Option<TapFrame> {
        loop {
            {
                let mut waiting = self.waiting();
                if waiting.is_overfull {
                    return None;
                }
                if let Some(frame) = waiting.pop() {
                    return Some(frame);
                }
            }
            self.changed.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingFrames> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitingFrames {
    fn push(&mut self, frame: TapFrame) {
        if self.is_overfull {
            return;
        }
        let is_behind =
            self.frames.len() >= CONFLATED_FROM_FRAMES || self.bytes >= CONFLATED_FROM_BYTES;
        if is_behind && frame.newest != Conflation::All {
            let is_older = |older: &TapFrame| older.newest == frame.newest;
            let replaced = self.frames.iter().filter(|older| is_older(older));
            self.bytes -= replaced.map(TapFrame::length).sum::<usize>();
            self.frames.retain(|older| !is_older(older));
        }
        self.bytes += frame.length();
        self.frames.push_back(frame);
        let is_long = self.bytes > MAX_BYTES && self.frames.len() > 1;
        if is_long || self.frames.len() > MAX_FRAMES {
            *self = Self {
                is_overfull: true,
                ..Self::default()
            };
        }
    }

    fn pop(&mut self) -> Option<TapFrame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.length();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str, newest: Conflation) -> TapFrame {
        TapFrame::text(text.to_owned().into(), newest)
    }

    fn texts(waiting: &mut WaitingFrames) -> Vec<String> {
        let popped = std::iter::from_fn(|| waiting.pop());
        let texts = popped.map(|frame| match frame.payload {
            TapPayload::Text(text) => text.to_string(),
            TapPayload::Binary(_) | TapPayload::Preview(_) => "binary".to_owned(),
        });
        texts.collect()
    }

    #[test]
    fn of_much_progress_the_newest_waits_and_nothing_else_is_left_out() {
        let mut waiting = WaitingFrames::default();
        for number in 0..1_000 {
            waiting.push(text("executed", Conflation::All));
            waiting.push(text(&number.to_string(), Conflation::Progress));
        }
        assert!(!waiting.is_overfull);
        let texts = texts(&mut waiting);
        assert_eq!(texts.iter().filter(|it| *it == "executed").count(), 1_000);
        assert!(texts.len() <= 1_000 + CONFLATED_FROM_FRAMES);
        assert_eq!(texts.last().unwrap(), "999");
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn of_long_previews_the_newest_waits() {
        let mut waiting = WaitingFrames::default();
        for _ in 0..1_000 {
            waiting.push(TapFrame::preview(vec![0; 1 << 20].into()));
        }
        assert!(!waiting.is_overfull);
        assert!(waiting.bytes <= CONFLATED_FROM_BYTES, "{}", waiting.bytes);
    }

    #[test]
    fn a_socket_that_is_not_read_is_given_up() {
        let mut waiting = WaitingFrames::default();
        for _ in 0..=MAX_FRAMES {
            waiting.push(text("executed", Conflation::All));
        }
        assert!(waiting.is_overfull && waiting.frames.is_empty());
        let mut waiting = WaitingFrames::default();
        waiting.push(TapFrame::binary(vec![0; MAX_BYTES + 1].into()));
        assert!(!waiting.is_overfull, "a single one may be long");
        waiting.push(text("executed", Conflation::All));
        assert!(waiting.is_overfull);
    }
}
