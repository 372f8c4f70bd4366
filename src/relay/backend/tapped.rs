//! Passes what the socket receives on to ComfyUI's own clients, as it is.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::comfy::{EventKind, FrameHead, PreviewImage};
use crate::relay::backend::follower::Follower;
use crate::relay::proxy::tap_queue::{Conflation, TapFrame};

impl Follower {
    /// Passes a text frame on to the client whose prompt it is about. Before its event is applied: a job that has ended
    /// must not seem to have an end that nobody has sent.
    pub(super) fn tap_text(&self, text: &Utf8Bytes) {
        let tap = &self.tracker.tap;
        if !tap.is_open() {
            return;
        }
        let Some(head) = FrameHead::read(text) else {
            return;
        };
        let newest = match head.kind {
            // The relay sends the length of all queues.
            EventKind::OfSocket => return,
            EventKind::Progress => Conflation::Progress,
            EventKind::ProgressState => Conflation::ProgressState,
            EventKind::End | EventKind::Done | EventKind::OfPrompt | EventKind::Unknown => {
                Conflation::All
            }
        };
        let frame = TapFrame::text(text.clone(), newest);
        let prompt_id = head.prompt_id.or_else(|| self.running_prompt());
        match prompt_id {
            Some(prompt_id) => self.send_tapped(&prompt_id, frame, head.kind),
            // Of an extension, about no prompt: ComfyUI sends it to everybody.
            None if head.kind == EventKind::Unknown => tap.broadcast(&frame),
            None => {}
        }
    }

    /// Passes a binary frame on to the client whose prompt it is about.
    pub(super) fn tap_binary(&self, bytes: &Bytes) {
        if !self.tracker.tap.is_open() {
            return;
        }
        let preview = PreviewImage::parse(bytes.clone());
        let frame = if preview.is_some() {
            TapFrame::preview(bytes.clone())
        } else {
            TapFrame::binary(bytes.clone())
        };
        let named = preview.and_then(|preview| preview.prompt_id);
        if let Some(prompt_id) = named.or_else(|| self.running_prompt()) {
            self.send_tapped(&prompt_id, frame, EventKind::OfPrompt);
        }
    }

    fn running_prompt(&self) -> Option<String> {
        self.backend.state().queue.current.clone()
    }

    fn send_tapped(&self, prompt_id: &str, frame: TapFrame, kind: EventKind) {
        let (tap, index) = (&self.tracker.tap, self.backend.index);
        let Err(frame) = tap.send(index, prompt_id, frame, kind) else {
            return;
        };
        {
            let registry = self.tracker.registry();
            let jobs = registry.of_prompt(&self.backend, prompt_id);
            for entry in jobs.iter().filter_map(|id| registry.get(id)) {
                tap.add_route(index, prompt_id, entry.job.id(), entry.job.tags());
            }
            // The job came over another API.
            if !jobs.is_empty() && !tap.has_route(index, prompt_id) {
                return;
            }
        }
        tap.send_or_keep(index, prompt_id, frame, kind);
    }
}
