//! Steps from what happened on the recorded sockets.

use serde::Deserialize;
use serde_json::Value;

use super::Compiler;
use crate::recording::{FrameKind, RecordedFrame};
use crate::replay::substitution::preview_metadata;
use crate::replay::timeline::{Payload, ReceivedFrame, Step};

/// An event of ComfyUI. `data` stays a [`Value`]: its `prompt_id` and `node` can be of any type.
#[derive(Deserialize)]
struct FrameEvent {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Value,
}

impl FrameEvent {
    /// The event in a text frame; one without a type if the text is not an event.
    fn parse(text: &str) -> FrameEvent {
        serde_json::from_str(text).unwrap_or(FrameEvent {
            kind: String::new(),
            data: Value::Null,
        })
    }

    /// Whether the event announces the end of its prompt. An `execution_error` of the type `ExecutionBlocked` is about
    /// one blocked node: its prompt goes on.
    fn announces_end(&self) -> bool {
        match self.kind.as_str() {
            "execution_success" | "execution_interrupted" => true,
            "execution_error" => self.data["exception_type"] != "ExecutionBlocked",
            _ => false,
        }
    }
}

impl Compiler<'_> {
    /// Something happened on a socket.
    pub(super) fn frame(&mut self, t: f64, frame: &RecordedFrame) {
        let mut sockets = self.timeline.sockets.iter();
        let Some(socket) = sockets.position(|socket| socket.name == frame.socket) else {
            return;
        };
        match &frame.kind {
            FrameKind::Text(text) => self.text(t, socket, text),
            FrameKind::Binary(bytes) => {
                let id = preview_metadata(bytes).and_then(|(metadata, _)| {
                    let metadata: Value = serde_json::from_str(metadata).ok()?;
                    Some(metadata["prompt_id"].as_str()?.to_owned())
                });
                let prompt = id
                    .and_then(|id| self.prompt(&id))
                    .or_else(|| self.running());
                self.received(t, socket, Payload::Binary(bytes.clone()), prompt, None);
            }
            FrameKind::Open { .. } => {
                self.restart(t);
                self.greeting = Some((socket, self.timeline.steps.len()));
                self.push(
                    t,
                    Step::Open {
                        socket,
                        node: None,
                        awaited: false,
                    },
                );
            }
            FrameKind::Close {
                by_client: false, ..
            } => self.kill(t),
            FrameKind::Close { abrupt, .. } => {
                // Sockets that the recorded client closed for good stay open in the replay.
                if self.reconnects(socket, t) {
                    self.await_history_reads(t);
                    let abrupt = *abrupt;
                    self.push(t, Step::Close { socket, abrupt });
                }
            }
            FrameKind::Sent(_) | FrameKind::Other(_) => {}
        }
    }

    /// The server closed a socket: it died.
    fn kill(&mut self, t: f64) {
        if self.is_down {
            return;
        }
        self.await_history_reads(t);
        self.is_down = true;
        self.push(t, Step::Kill);
        let posted = self.evidence.iter_mut().filter(|evidence| evidence.posted);
        posted.for_each(|evidence| evidence.finished = true);
    }

    /// Whether the client of a socket opens another one later.
    fn reconnects(&self, socket: usize, after: f64) -> bool {
        let sockets = &self.timeline.sockets;
        self.recording.frames.iter().any(|frame| {
            frame.t > after
                && matches!(frame.kind, FrameKind::Open { .. })
                && sockets.iter().any(|other| {
                    other.name == frame.socket && other.client_id == sockets[socket].client_id
                })
        })
    }

    fn text(&mut self, t: f64, socket: usize, text: &str) {
        let event = FrameEvent::parse(text);
        let greeting = self.greeting.take_if(|(greeted, _)| *greeted == socket);
        let payload = Payload::Text(text.to_owned());
        if event.kind == "feature_flags" {
            self.timeline.feature_flags = Some(text.to_owned());
            self.greeting = greeting;
            return;
        }
        if event.kind == "status" {
            if event.data.get("sid").is_some() {
                self.greeting = greeting;
                return;
            }
            self.status(&event);
            self.received(t, socket, payload, None, None);
            return;
        }
        let node = event.data["node"].as_str().map(str::to_owned);
        let id = event.data["prompt_id"].as_str();
        if let (Some((_, open)), "executing", None) = (greeting, event.kind.as_str(), id) {
            if let Step::Open { node: greeted, .. } = &mut self.timeline.steps[open].1 {
                *greeted = node;
            }
            return;
        }
        let prompt = match id {
            Some(id) => self.prompt(id),
            None => self.running(),
        };
        if let Some(k) = prompt {
            self.start(t, k);
            if event.kind == "executing" && event.data["node"].is_null() {
                self.end(t, k);
            }
        }
        let executing = node.filter(|_| event.kind == "executing");
        self.received(t, socket, payload, prompt, executing);
        if let Some(k) = prompt.filter(|_| event.announces_end())
            && self.evidence[k].end_announced_at.is_none()
        {
            self.evidence[k].end_announced_at = Some(t);
            self.push(t, Step::EndAnnounced(k));
        }
    }

    /// Records the length of the queue, and the step at which it fell.
    fn status(&mut self, event: &FrameEvent) {
        let remaining = event
            .data
            .pointer("/status/exec_info/queue_remaining")
            .and_then(Value::as_u64);
        if remaining.is_some_and(|remaining| remaining < self.remaining) {
            self.fell_at = Some(self.timeline.steps.len());
        }
        self.remaining = remaining.unwrap_or(self.remaining);
    }

    fn received(
        &mut self,
        t: f64,
        socket: usize,
        payload: Payload,
        prompt: Option<usize>,
        executing: Option<String>,
    ) {
        let frame = ReceivedFrame {
            socket,
            payload,
            prompt,
            executing,
        };
        self.push(t, Step::Frame(frame));
    }
}
