use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::comfy::{Message, NodeSign, NodeText, refused_outputs};
use crate::job::{Event, ImageFile, ImageSize, ImageSizes, Outcome, Plan, outputs};
use crate::recording::{FrameKind, RecordedOutcome, Recording};

/// An event of a recording: its time in seconds since the recording began, the prompt that it is
/// about if the frame names one, and the event.
pub(super) type TimedEvent = (f64, Option<String>, Event);

/// The prompts of a recording, by their ids.
pub(super) struct Prompts<'a> {
    submitted: HashMap<&'a str, VecDeque<SubmittedPrompt<'a>>>,
    images: ImageSizes,
}

/// A prompt that was submitted, and which of its nodes the server executes.
pub(super) struct SubmittedPrompt<'a> {
    graph: &'a Map<String, Value>,
    /// The outputs that the answer to its submission leaves over.
    outputs: Vec<String>,
    /// The outputs by the first answer of the queue that has it, and when that was received, in seconds
    /// since the recording began.
    queued: Option<(f64, Vec<String>)>,
}

impl<'a> Prompts<'a> {
    pub(super) fn of(recording: &'a Recording) -> Self {
        let mut submitted: HashMap<&str, VecDeque<SubmittedPrompt<'_>>> = HashMap::new();
        for exchange in recording.prompts() {
            let id = exchange.response.get("prompt_id").and_then(Value::as_str);
            let graph = exchange.request_body.get("prompt");
            let Some((id, graph)) = id.zip(graph.and_then(Value::as_object)) else {
                continue;
            };
            let refused = refused_outputs(&exchange.response["node_errors"]);
            let targets = exchange.request_body.get("partial_execution_targets");
            let targets = targets.and_then(Value::as_array).into_iter().flatten();
            let targets: Vec<String> = targets
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect();
            submitted.entry(id).or_default().push_back(SubmittedPrompt {
                graph,
                outputs: outputs(graph, None, &refused, &targets),
                queued: queued_outputs(recording, id, exchange.t),
            });
        }
        let sizes = recording.inputs.iter().filter_map(|(name, input)| {
            let size = ImageSize {
                width: input.width,
                height: input.height,
                frames: input.frames,
                milliseconds: 0,
            };
            Some((ImageFile::parse(name)?, size))
        });
        Self {
            submitted,
            images: sizes.collect(),
        }
    }

    /// A prompt that starts. Those with the same id start in the order of their submission.
    pub(super) fn start(&mut self, id: &str) -> Option<SubmittedPrompt<'a>> {
        self.submitted.get_mut(id)?.pop_front()
    }

    /// The plan of a prompt as it is known when it starts, and the one that the queue's answer shows
    /// later, with the seconds of that answer.
    pub(super) fn plans(
        &self,
        prompt: &SubmittedPrompt<'_>,
        start: f64,
    ) -> (Plan, Option<(f64, Plan)>) {
        let read = |outputs: &[String]| Plan::read(prompt.graph, Some(outputs), &self.images);
        match &prompt.queued {
            Some((t, outputs)) if *t <= start => (read(outputs), None),
            Some((t, outputs)) => (read(&prompt.outputs), Some((*t, read(outputs)))),
            None => (read(&prompt.outputs), None),
        }
    }
}

/// The outputs of a prompt in the first answer of the queue that has it.
fn queued_outputs(recording: &Recording, id: &str, since: f64) -> Option<(f64, Vec<String>)> {
    let answers = recording.exchanges.iter();
    let mut answers = answers.filter(|one| one.is("GET", "/queue") && one.t_end >= since);
    answers.find_map(|answer| {
        let lists = ["queue_running", "queue_pending"];
        let items = lists
            .iter()
            .filter_map(|list| answer.response[list].as_array());
        let mut items = items.flatten();
        let item = items.find(|item| item[1].as_str() == Some(id))?;
        let ids = item[4].as_array()?.iter().filter_map(Value::as_str);
        Some((answer.t_end, ids.map(str::to_owned).collect()))
    })
}

/// Every event that the sockets of a recording received, in order.
pub(super) fn events(recording: &Recording) -> Vec<TimedEvent> {
    let events = recording.frames.iter().filter_map(|frame| {
        let text = match &frame.kind {
            FrameKind::Text(text) => text,
            FrameKind::Binary(bytes) => return Some((frame.t, None, text_event(bytes)?)),
            _ => return None,
        };
        match Message::parse(text, "") {
            Message::Prompt { prompt_id, event } => Some((frame.t, prompt_id, event)),
            Message::PromptEnded { prompt_id } => {
                let recorded = prompt_id.as_ref().and_then(|id| recording.outcome(id));
                let outcome = match recorded {
                    Some(RecordedOutcome::Completed) => Outcome::Completed,
                    _ => Outcome::Cancelled,
                };
                Some((frame.t, prompt_id, Event::Ended(outcome)))
            }
            Message::Status { .. } | Message::Features | Message::Ignored | Message::Unknown => {
                None
            }
        }
    });
    events.collect()
}

/// What the text of a node shows, which is about the prompt that runs.
fn text_event(frame: &Bytes) -> Option<Event> {
    let text = NodeText::parse(frame.clone())?;
    let sign = text.sign()?;
    let node = text.node;
    Some(match sign {
        NodeSign::Rounds(rounds) => Event::Rounds { node, rounds },
        NodeSign::Service { status, remaining } => Event::Partner {
            node,
            status,
            remaining,
        },
    })
}

/// When a prompt that has started completes, if the recording holds its end.
pub(super) fn completion(id: &str, later: &[TimedEvent]) -> Option<f64> {
    later.iter().find_map(|(t, prompt_id, event)| {
        let is_end = prompt_id.as_deref() == Some(id) && *event == Event::Ended(Outcome::Completed);
        is_end.then_some(*t)
    })
}
