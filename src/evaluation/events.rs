use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use crate::comfy::Message;
use crate::job::{Event, Outcome};
use crate::recording::{FrameKind, RecordedOutcome, Recording};

/// An event of a recording: its time in seconds since the recording began, the prompt that it is
/// about if the frame names one, and the event.
pub(super) type TimedEvent = (f64, Option<String>, Event);

/// The submitted graphs, by prompt id.
pub(super) struct Graphs<'a>(HashMap<&'a str, VecDeque<&'a Value>>);

impl<'a> Graphs<'a> {
    pub(super) fn of(recording: &'a Recording) -> Self {
        let mut graphs: HashMap<&str, VecDeque<&Value>> = HashMap::new();
        for exchange in recording.prompts() {
            let id = exchange.response.get("prompt_id").and_then(Value::as_str);
            if let Some((id, graph)) = id.zip(exchange.request_body.get("prompt")) {
                graphs.entry(id).or_default().push_back(graph);
            }
        }
        Self(graphs)
    }

    /// The graph of a prompt that starts. Prompts with the same id start in the order of their
    /// submission.
    pub(super) fn start(&mut self, id: &str) -> Option<&'a Value> {
        self.0.get_mut(id)?.pop_front()
    }
}

/// Every event that the sockets of a recording received, in order.
pub(super) fn events(recording: &Recording) -> Vec<TimedEvent> {
    let events = recording.frames.iter().filter_map(|frame| {
        let FrameKind::Text(text) = &frame.kind else {
            return None;
        };
        match Message::parse(text, "") {
            Message::Prompt { prompt_id, event } => Some((frame.t, prompt_id, event)),
            Message::PromptEnded { prompt_id } => {
                let recorded = prompt_id
                    .as_ref()
                    .and_then(|id| recording.meta.outcome.get(id));
                let outcome = match recorded {
                    Some(RecordedOutcome::Completed) => Outcome::Completed,
                    _ => Outcome::Cancelled,
                };
                Some((frame.t, prompt_id, Event::Ended(outcome)))
            }
            Message::Status { .. } | Message::Ignored | Message::Unknown => None,
        }
    });
    events.collect()
}

/// When a prompt that has started completes, if the recording holds its end.
pub(super) fn completion(id: &str, later: &[TimedEvent]) -> Option<f64> {
    later.iter().find_map(|(t, prompt_id, event)| {
        let is_end = prompt_id.as_deref() == Some(id) && *event == Event::Ended(Outcome::Completed);
        is_end.then_some(*t)
    })
}
