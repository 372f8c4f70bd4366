//! Entries of `GET /history/{prompt_id}`: how a prompt ended, and what it made.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::error::ExecutionError;
use super::output;
use crate::job::{History, JobError, Outcome, PromptGraph};

/// A prompt's entry in the server's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// How the prompt ended.
    pub history: History,
    /// Its graph; `None` if the entry has none.
    pub graph: Option<PromptGraph>,
}

impl HistoryEntry {
    /// Reads one entry. `view` is the URL of the server's `/view`, below which output files are found.
    ///
    /// Returns `None` if the value is not an entry. A part of an unknown shape counts as missing: that there
    /// is an entry at all means that the prompt has ended.
    pub fn read(mut entry: Value, view: &str) -> Option<Self> {
        let entry = entry.as_object_mut()?;
        let has = |field: &str| entry.contains_key(field);
        if !["prompt", "outputs", "status"].into_iter().any(has) {
            return None;
        }
        let graph = entry.get_mut("prompt").map(Value::take).and_then(graph);
        let empty = Map::new();
        let outputs = entry.get("outputs").and_then(Value::as_object);
        let outputs = outputs.unwrap_or(&empty);
        let made = outputs
            .iter()
            .flat_map(|(node, output)| output::outputs(node, output, view))
            .collect();
        let status = |field: &str| entry.get("status")?.get(field);
        let messages = status("messages").and_then(Value::as_array);
        let messages = messages.map(Vec::as_slice).unwrap_or_default();
        Some(Self {
            history: History {
                messages: by_messages(messages),
                started_at: moment(messages, &["execution_start"]),
                ended_at: moment(messages, &ENDS),
                word: status("status_str").and_then(by_word),
                outputs: made,
                produced: !outputs.is_empty(),
            },
            graph,
        })
    }
}

/// The graph of a prompt, which the queue and the history hold as
/// `[number, id, graph, extra_data, output node ids]`.
pub(super) fn graph(mut prompt: Value) -> Option<PromptGraph> {
    let outputs = prompt
        .get(4)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let outputs = outputs.filter_map(Value::as_str).map(str::to_owned);
    let outputs = outputs.collect();
    match prompt.get_mut(2)?.take() {
        Value::Object(nodes) => PromptGraph::new(nodes, outputs),
        _ => None,
    }
}

/// The messages with which a prompt ends.
const ENDS: [&str; 3] = [
    "execution_success",
    "execution_interrupted",
    "execution_error",
];

/// When the last message of one of these kinds was made, by the server's clock; `None` if it does not say.
fn moment(messages: &[Value], kinds: &[&str]) -> Option<Timestamp> {
    messages.iter().rev().find_map(|message| {
        let kind = message.get(0)?.as_str()?;
        let milliseconds = message.get(1)?.get("timestamp")?.as_f64()?;
        let is_wanted = kinds.contains(&kind);
        is_wanted.then(|| Timestamp::from_millisecond(milliseconds as i64).ok())?
    })
}

/// The outcome in the last message that has one; a blocked execution has none.
fn by_messages(messages: &[Value]) -> Option<Outcome> {
    messages.iter().rev().find_map(|message| {
        let (kind, data) = (message.get(0)?.as_str()?, message.get(1)?);
        match kind {
            "execution_success" => Some(Outcome::Completed),
            "execution_interrupted" => Some(Outcome::Cancelled),
            "execution_error" => {
                let error = ExecutionError::of(data);
                error.is_final().then(|| Outcome::Failed(error.into()))
            }
            _ => None,
        }
    })
}

fn by_word(word: &Value) -> Option<Outcome> {
    match word.as_str()? {
        "success" => Some(Outcome::Completed),
        "error" => Some(Outcome::Failed(JobError::execution(
            None,
            "the prompt failed; see the log of ComfyUI",
            "",
        ))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn history(status: Value) -> History {
        let entry = json!({"prompt": [0, "p", {}, {}, []], "outputs": {}, "status": status});
        HistoryEntry::read(entry, "").unwrap().history
    }

    #[test]
    fn an_interruption_differs_from_a_failure_by_its_message() {
        let interrupted = history(
            json!({"status_str": "error", "completed": false, "messages": [
                ["execution_start", {"prompt_id": "p"}],
                ["execution_interrupted", {"prompt_id": "p", "node_id": "3"}]
            ]}),
        );
        assert_eq!(interrupted.messages, Some(Outcome::Cancelled));
    }

    #[test]
    fn a_blocked_execution_in_a_success_is_a_success() {
        let blocked = history(json!({"status_str": "success", "messages": [
            ["execution_success", {}],
            ["execution_error", {"exception_type": "ExecutionBlocked"}]
        ]}));
        assert_eq!(blocked.messages, Some(Outcome::Completed));
    }

    #[test]
    fn entries_of_2023_have_no_status() {
        let entry = json!({"prompt": [0, "p", {"9": {"class_type": "SaveImage", "inputs": {}}}, {}, ["9"]],
            "outputs": {"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}}});
        let entry = HistoryEntry::read(entry, "").unwrap();
        assert_eq!((entry.history.messages, entry.history.word), (None, None));
        assert!(entry.history.produced);
        assert_eq!(entry.history.outputs.len(), 1);
        assert!(entry.graph.is_some_and(|graph| graph.has_outputs()));
    }

    #[test]
    fn a_part_of_an_unknown_shape_hides_no_end() {
        let entry = json!({"prompt": 7, "outputs": null, "status": {"status_str": 5, "messages": [
            7, [], ["execution_error"], ["execution_success", null]
        ]}});
        let entry = HistoryEntry::read(entry, "").unwrap();
        assert_eq!(entry.history.messages, Some(Outcome::Completed));
        let entry = json!({"outputs": [], "status": {"status_str": "success", "messages": {}}});
        let entry = HistoryEntry::read(entry, "").unwrap();
        assert_eq!(entry.history.word, Some(Outcome::Completed));
    }

    #[test]
    fn a_value_that_is_not_an_entry_is_none() {
        for value in [json!(null), json!([]), json!({"error": 7}), json!("x")] {
            assert_eq!(HistoryEntry::read(value, ""), None);
        }
    }
}
