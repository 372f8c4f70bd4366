//! How long earlier prompts took, from `GET /history`.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::history;
use crate::job::PromptGraph;
use crate::python_json;

/// Longer times are not believed, in seconds: a week. They come from a clock that was set meanwhile.
const MAX_SECONDS: f64 = 7.0 * 86_400.0;

/// How long a prompt took that succeeded before the relay followed it.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptTiming {
    /// Its graph.
    pub graph: PromptGraph,
    /// The nodes that did not need to run.
    pub cached: Vec<String>,
    /// Seconds from its start to its end.
    pub seconds: f64,
}

#[derive(Deserialize)]
struct HistoryItem<'a> {
    #[serde(borrow)]
    prompt: &'a RawValue,
    #[serde(borrow)]
    status: HistoryStatus<'a>,
}

#[derive(Deserialize)]
struct HistoryStatus<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct HistoryMessage<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] &'a RawValue);

#[derive(Deserialize)]
struct Timestamped {
    /// Milliseconds since 1970.
    timestamp: f64,
}

#[derive(Deserialize)]
struct CachedNodes {
    nodes: Vec<String>,
}

/// An entry whose messages have been read, but not its graph.
struct Timed<'a> {
    started_at: f64,
    seconds: f64,
    cached: Vec<String>,
    prompt: &'a RawValue,
}

/// Reads the answer to `GET /history`: the newest prompts, at most `count`, the oldest of them first. Only
/// their graphs are parsed.
///
/// Entries of an unknown shape are left out, and those without timestamps: of prompts that did not succeed,
/// and of servers from before the middle of 2024.
pub(super) fn read(body: &[u8], count: usize) -> serde_json::Result<Vec<PromptTiming>> {
    let timings = read_strict(body, count);
    if timings.is_err()
        && let Cow::Owned(strict) = python_json::to_strict(body)
    {
        return read_strict(&strict, count);
    }
    timings
}

fn read_strict(body: &[u8], count: usize) -> serde_json::Result<Vec<PromptTiming>> {
    let entries: HashMap<String, &RawValue> = serde_json::from_slice(body)?;
    let mut timed: Vec<Timed<'_>> = entries.values().copied().filter_map(time).collect();
    timed.sort_by(|a, b| a.started_at.total_cmp(&b.started_at));
    let newest = timed.split_off(timed.len().saturating_sub(count));
    let prompts = newest.into_iter().filter_map(|timed| {
        let prompt: Value = python_json::read(timed.prompt.get().as_bytes()).ok()?;
        Some(PromptTiming {
            graph: history::graph(prompt)?,
            cached: timed.cached,
            seconds: timed.seconds,
        })
    });
    Ok(prompts.collect())
}

fn time(entry: &RawValue) -> Option<Timed<'_>> {
    let entry: HistoryItem<'_> = serde_json::from_str(entry.get()).ok()?;
    let (mut started_at, mut ended_at, mut cached) = (None, None, Vec::new());
    for message in entry.status.messages {
        let Ok(HistoryMessage(kind, data)) = serde_json::from_str(message.get()) else {
            continue;
        };
        let timestamp = || {
            let data: Option<Timestamped> = serde_json::from_str(data.get()).ok();
            data.map(|data| data.timestamp)
        };
        match kind.as_ref() {
            "execution_start" => started_at = timestamp(),
            "execution_success" => ended_at = timestamp(),
            "execution_cached" => {
                let data: Option<CachedNodes> = serde_json::from_str(data.get()).ok();
                cached = data.map(|data| data.nodes).unwrap_or_default();
            }
            _ => {}
        }
    }
    let (started_at, seconds) = (started_at?, (ended_at? - started_at?) / 1_000.0);
    (0.0..=MAX_SECONDS).contains(&seconds).then_some(Timed {
        started_at,
        seconds,
        cached,
        prompt: entry.prompt,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The entry of a prompt; times are in milliseconds.
    fn entry(started_at: i64, took: i64) -> Value {
        json!({
            "prompt": [1, "p", {"9": {"class_type": "SaveImage", "inputs": {}}}, {}, ["9"]],
            "outputs": {},
            "status": {"status_str": "success", "completed": true, "messages": [
                ["execution_start", {"prompt_id": "p", "timestamp": started_at}],
                ["execution_cached", {"nodes": ["4", "5"], "prompt_id": "p", "timestamp": started_at + 1}],
                ["execution_success", {"prompt_id": "p", "timestamp": started_at + took}]
            ]}
        })
    }

    fn seconds(history: &Value, count: usize) -> Vec<f64> {
        let prompts = read(history.to_string().as_bytes(), count).unwrap();
        prompts.iter().map(|prompt| prompt.seconds).collect()
    }

    #[test]
    fn the_newest_prompts_come_in_the_order_of_their_starts() {
        let history =
            json!({"c": entry(3_000, 300), "a": entry(1_000, 100), "b": entry(2_000, 200)});
        assert_eq!(seconds(&history, 9), [0.1, 0.2, 0.3]);
        assert_eq!(seconds(&history, 2), [0.2, 0.3]);
        assert_eq!(seconds(&history, 0), [] as [f64; 0]);
        let prompts = read(history.to_string().as_bytes(), 1).unwrap();
        assert_eq!(prompts[0].cached, ["4", "5"]);
        assert!(prompts[0].graph.has_outputs());
    }

    #[test]
    fn an_entry_without_times_is_left_out_and_hides_no_other() {
        let with = |pointer: &str, value: Value| {
            let mut entry = entry(2_000, 200);
            *entry.pointer_mut(pointer).unwrap() = value;
            entry
        };
        let history = json!({
            "good": entry(1_000, 100),
            "old": with("/status", Value::Null),
            "none": with("/status/messages", json!([])),
            "no list": with("/status/messages", json!({"a": 1})),
            "odd": with("/status/messages/0", json!(["execution_start", {"timestamp": "now"}])),
            "interrupted": with("/status/messages/2/0", json!("execution_interrupted")),
            "unstamped": with("/status/messages/2/1", json!({"prompt_id": "p"})),
            "backwards": entry(2_000, -1),
            "endless": entry(2_000, i64::MAX - 2_000),
            "no graph": with("/prompt", json!([1, "p"])),
            "no prompt": with("/prompt", Value::Null),
            "null": null,
            "list": [1, 2],
        });
        assert_eq!(seconds(&history, 99), [0.1]);
        // A message of an unknown shape does not hide the others.
        let odd = json!({"p": with("/status/messages/1", json!(7))});
        assert_eq!(seconds(&odd, 99), [0.2]);
        for body in ["", "[]", "7", "{\"a\": ", "\u{0}"] {
            assert!(read(body.as_bytes(), 9).is_err(), "{body}");
        }
    }
}
