//! What `/history/{prompt_id}` says of a prompt.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ExecutionError;
use super::output;
use crate::job::{History, JobError, Plan, Verdict};

/// A prompt's entry in the server's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// How the prompt ended.
    pub history: History,
    /// Its graph.
    pub plan: Plan,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    prompt: Value,
    #[serde(default)]
    outputs: Map<String, Value>,
    #[serde(default)]
    status: Option<EntryStatus>,
}

#[derive(Deserialize)]
struct EntryStatus {
    #[serde(default)]
    status_str: Option<String>,
    #[serde(default)]
    messages: Vec<Value>,
}

impl HistoryEntry {
    /// Reads one entry. `view` is the address of the server's `/view`.
    ///
    /// `None` where the value is no entry.
    pub fn read(entry: Value, view: &str) -> Option<Self> {
        if !entry.is_object() {
            return None;
        }
        let entry: Entry = serde_json::from_value(entry).ok()?;
        let outputs = &entry.outputs;
        let files = outputs
            .iter()
            .flat_map(|(node, made)| output::files(node, made, view))
            .collect();
        let (messages, word) = match &entry.status {
            Some(status) => (by_messages(&status.messages), by_word(status)),
            None => (None, None),
        };
        Some(Self {
            history: History {
                messages,
                word,
                outputs: files,
                produced: !outputs.is_empty(),
            },
            plan: plan(&entry.prompt),
        })
    }
}

/// The graph and the output nodes of a prompt as the queue and the history hold it:
/// `[number, id, graph, extra_data, outputs]`.
pub(super) fn plan(prompt: &Value) -> Plan {
    let Some(graph) = prompt.get(2).and_then(Value::as_object) else {
        return Plan::default();
    };
    let outputs: Option<Vec<String>> = prompt.get(4).and_then(Value::as_array).map(|ids| {
        let ids = ids.iter().filter_map(Value::as_str);
        ids.map(str::to_owned).collect()
    });
    Plan::from_graph(graph, outputs.as_deref())
}

/// The last message that tells an end. A blocked execution is none.
fn by_messages(messages: &[Value]) -> Option<Verdict> {
    messages.iter().rev().find_map(|message| {
        let (kind, data) = (message.get(0)?.as_str()?, message.get(1)?);
        match kind {
            "execution_success" => Some(Verdict::Completed),
            "execution_interrupted" => Some(Verdict::Cancelled),
            "execution_error" => {
                let error = ExecutionError::deserialize(data).ok()?;
                error.is_final().then(|| Verdict::Failed(error.into()))
            }
            _ => None,
        }
    })
}

fn by_word(status: &EntryStatus) -> Option<Verdict> {
    match status.status_str.as_deref()? {
        "success" => Some(Verdict::Completed),
        "error" => Some(Verdict::Failed(JobError::execution(
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
        assert_eq!(interrupted.messages, Some(Verdict::Cancelled));
    }

    #[test]
    fn a_blocked_execution_in_a_success_is_a_success() {
        let blocked = history(json!({"status_str": "success", "messages": [
            ["execution_success", {}],
            ["execution_error", {"exception_type": "ExecutionBlocked"}]
        ]}));
        assert_eq!(blocked.messages, Some(Verdict::Completed));
    }

    #[test]
    fn entries_of_2023_have_no_status() {
        let entry = json!({"prompt": [0, "p", {"9": {"class_type": "SaveImage", "inputs": {}}}, {}, ["9"]],
            "outputs": {"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}}});
        let entry = HistoryEntry::read(entry, "").unwrap();
        assert_eq!((entry.history.messages, entry.history.word), (None, None));
        assert!(entry.history.produced);
        assert_eq!(entry.history.outputs.len(), 1);
        assert_eq!(entry.plan.needed().count(), 1);
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for value in [json!(null), json!([]), json!({"outputs": 7}), json!("x")] {
            assert_eq!(HistoryEntry::read(value, ""), None);
        }
    }
}
