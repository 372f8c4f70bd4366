//! What the recorded sockets heard, as steps.

use serde::Deserialize;
use serde_json::Value;

use super::Compiler;
use crate::recording::{FrameKind, RecordedFrame};
use crate::replay::substitution::preview_metadata;
use crate::replay::timeline::{Payload, ReceivedFrame, Step};

/// The parts of an event that place it. `prompt_id` and `node` can hold anything.
#[derive(Deserialize)]
struct FrameEvent {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Value,
}

impl Compiler<'_> {
    pub(super) fn frame(&mut self, t: f64, frame: &RecordedFrame) {
        let Some(label) = self
            .timeline
            .labels
            .iter()
            .position(|label| label.name == frame.socket)
        else {
            return;
        };
        match &frame.kind {
            FrameKind::Text(text) => self.text(t, label, text),
            FrameKind::Binary(bytes) => {
                let id = preview_metadata(bytes).and_then(|(metadata, _)| {
                    let metadata: Value = serde_json::from_str(metadata).ok()?;
                    Some(metadata["prompt_id"].as_str()?.to_owned())
                });
                let prompt = id
                    .and_then(|id| self.prompt(&id))
                    .or_else(|| self.running());
                self.heard(t, label, Payload::Binary(bytes.clone()), prompt, None);
            }
            FrameKind::Open { .. } => {
                self.up(t);
                self.greeting = Some((label, self.timeline.steps.len()));
                self.push(
                    t,
                    Step::Open {
                        label,
                        node: None,
                        awaited: false,
                    },
                );
            }
            FrameKind::Close {
                by_client: false, ..
            } => {
                if !self.down {
                    self.learn(t);
                    self.down = true;
                    self.push(t, Step::Kill);
                    for known in self.known.iter_mut().filter(|known| known.posted) {
                        known.over = true;
                    }
                }
            }
            FrameKind::Close { abrupt, .. } => {
                // What the client closed for good is none of the callers' business: their sockets live on.
                if self.comes_back(label, t) {
                    self.learn(t);
                    self.push(
                        t,
                        Step::Close {
                            label,
                            abrupt: *abrupt,
                        },
                    );
                }
            }
            FrameKind::Sent(_) | FrameKind::Other(_) => {}
        }
    }

    fn comes_back(&self, label: usize, after: f64) -> bool {
        let labels = &self.timeline.labels;
        self.recording.frames.iter().any(|frame| {
            frame.t > after
                && matches!(frame.kind, FrameKind::Open { .. })
                && labels
                    .iter()
                    .any(|other| other.name == frame.socket && other.client == labels[label].client)
        })
    }

    fn text(&mut self, t: f64, label: usize, text: &str) {
        let event: FrameEvent = serde_json::from_str(text).unwrap_or(FrameEvent {
            kind: String::new(),
            data: Value::Null,
        });
        let greeting = self.greeting.take_if(|(greeted, _)| *greeted == label);
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
            let remaining = event
                .data
                .pointer("/status/exec_info/queue_remaining")
                .and_then(Value::as_u64);
            if remaining.is_some_and(|remaining| remaining < self.remaining) {
                self.fell = Some(self.timeline.steps.len());
            }
            self.remaining = remaining.unwrap_or(self.remaining);
            self.heard(t, label, payload, None, None);
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
        self.heard(t, label, payload, prompt, executing);
        if let Some(k) = prompt.filter(|_| announces_end(&event))
            && self.known[k].ending_at.is_none()
        {
            self.known[k].ending_at = Some(t);
            self.push(t, Step::Ending(k));
        }
    }

    fn heard(
        &mut self,
        t: f64,
        label: usize,
        payload: Payload,
        prompt: Option<usize>,
        executing: Option<String>,
    ) {
        self.push(
            t,
            Step::Frame(ReceivedFrame {
                label,
                payload,
                prompt,
                executing,
            }),
        );
    }
}

/// Whether the prompt is over with this event, but for the books. A blocked node is reported as an error, and yet
/// the prompt goes on.
fn announces_end(event: &FrameEvent) -> bool {
    match event.kind.as_str() {
        "execution_success" | "execution_interrupted" => true,
        "execution_error" => event.data["exception_type"] != "ExecutionBlocked",
        _ => false,
    }
}
