//! The prompts that run and wait on a server, as `GET /queue` answers with their graphs, and newer servers without them.

mod job_list;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::history;
use crate::job::PromptGraph;
use crate::python_json;

/// The prompts that run and wait on a server, in the order in which they will run.
///
/// An answer with graphs can be many megabytes, so each graph is parsed only on demand.
#[derive(Debug, Clone)]
pub struct Queue {
    running: Vec<QueueEntry>,
    pending: Vec<QueueEntry>,
    /// The index of each prompt among those that run, then those that wait. Of one that is there twice, the first.
    places: HashMap<Arc<str>, usize>,
    /// Whether the answer holds the graphs and the clients of the prompts.
    has_graphs: bool,
    /// The answer from which it was read.
    body: Bytes,
}

/// One prompt in the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueEntry {
    /// Lower ones run first; negative for prompts that were put in front.
    pub number: f64,
    /// The prompt.
    pub prompt_id: Arc<str>,
    /// The client that submitted it: its events go to the socket with this id. `None` for a prompt without
    /// one, and in an answer without graphs.
    pub client_id: Option<String>,
    /// When it was submitted, by the server's clock; `None` from servers before the end of 2025.
    pub submitted_at: Option<Timestamp>,
    /// Its JSON, with the graph; empty in an answer without graphs.
    item: Bytes,
}

impl QueueEntry {
    /// The prompt's graph with the outputs that the server executes, parsed now. `None` if the entry has
    /// no graph.
    pub fn graph(&self) -> Option<PromptGraph> {
        if self.item.is_empty() {
            return None;
        }
        let prompt: Option<Value> = python_json::read(&self.item).ok();
        prompt.and_then(history::graph)
    }

    /// The size of the entry in bytes; parsing its graph takes time in proportion to it.
    pub fn size(&self) -> usize {
        self.item.len()
    }
}

/// Where a prompt is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuePosition {
    /// It runs.
    Running,
    /// It waits.
    Pending {
        /// How many prompts run or wait before it.
        ahead: usize,
    },
}

#[derive(Deserialize)]
struct QueueBody<'a> {
    #[serde(borrow)]
    queue_running: Vec<&'a RawValue>,
    #[serde(borrow)]
    queue_pending: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ExtraData<'a> {
    #[serde(borrow)]
    client_id: Option<Cow<'a, str>>,
    /// Milliseconds since 1970.
    create_time: Option<Value>,
}

impl Queue {
    /// Reads the answer to `GET /queue`. Entries of an unknown shape are left out. An answer without the two
    /// lists is an error: it must not pass for an empty queue.
    pub fn parse(body: Bytes) -> serde_json::Result<Self> {
        let queue = Self::read(&body);
        if queue.is_err()
            && let Cow::Owned(strict) = python_json::to_strict(&body)
        {
            return Ok(Self {
                body,
                ..Self::read(&strict.into())?
            });
        }
        queue
    }

    fn read(body: &Bytes) -> serde_json::Result<Self> {
        let (running, pending) = {
            let read: QueueBody<'_> = serde_json::from_slice(body)?;
            let entries = |items: &[&RawValue]| entries(body, items);
            (entries(&read.queue_running), entries(&read.queue_pending))
        };
        Ok(Self::new(running, pending, body, true))
    }

    fn new(
        running: Vec<QueueEntry>,
        mut pending: Vec<QueueEntry>,
        body: &Bytes,
        has_graphs: bool,
    ) -> Self {
        // The server answers in no useful order.
        pending.sort_by(in_order);
        let mut places = HashMap::with_capacity(running.len() + pending.len());
        for (place, entry) in running.iter().chain(&pending).enumerate() {
            places.entry(entry.prompt_id.clone()).or_insert(place);
        }
        Self {
            running,
            pending,
            places,
            has_graphs,
            body: body.clone(),
        }
    }

    /// Whether it has the graphs and the clients of its prompts.
    pub fn has_graphs(&self) -> bool {
        self.has_graphs
    }

    /// Whether this answer is the one from which it was read, byte by byte: then nothing in it has changed.
    pub fn is_of(&self, answer: &[u8]) -> bool {
        self.body == answer
    }

    /// The prompts that run.
    pub fn running(&self) -> &[QueueEntry] {
        &self.running
    }

    /// The prompts that wait, the next one first.
    pub fn pending(&self) -> &[QueueEntry] {
        &self.pending
    }

    /// Every prompt that runs or waits.
    pub fn prompt_ids(&self) -> impl Iterator<Item = &str> {
        let entries = self.running.iter().chain(&self.pending);
        entries.map(|entry| entry.prompt_id.as_ref())
    }

    /// The prompts that have come or gone or begun since an earlier answer. Those that run in either are among them.
    pub fn changed_since<'a>(&'a self, before: &'a Self) -> Vec<&'a str> {
        let running = self.running.iter().chain(&before.running);
        let mut changed: Vec<&QueueEntry> = running.collect();
        let (mut now, mut then) = (
            self.pending.iter().peekable(),
            before.pending.iter().peekable(),
        );
        loop {
            let order = match (now.peek(), then.peek()) {
                (Some(new), Some(old)) => in_order(new, old),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            match order {
                Ordering::Equal => {
                    now.next();
                    then.next();
                }
                Ordering::Less => changed.extend(now.next()),
                Ordering::Greater => changed.extend(then.next()),
            }
        }
        changed
            .into_iter()
            .map(|it| it.prompt_id.as_ref())
            .collect()
    }

    /// How many of [`Queue::prompt_ids`] there are up to the last one for which this holds.
    pub fn count_up_to_last(&self, holds: impl Fn(&str) -> bool) -> usize {
        let last = |entries: &[QueueEntry]| entries.iter().rposition(|it| holds(&it.prompt_id));
        match last(&self.pending) {
            Some(last) => self.running.len() + last + 1,
            None => last(&self.running).map_or(0, |last| last + 1),
        }
    }

    /// How many prompts wait.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Where a prompt is; `None` if it is not in the queue.
    pub fn position(&self, prompt_id: &str) -> Option<QueuePosition> {
        let place = *self.places.get(prompt_id)?;
        Some(if place < self.running.len() {
            QueuePosition::Running
        } else {
            QueuePosition::Pending { ahead: place }
        })
    }

    /// A prompt's entry; `None` if it is not in the queue.
    pub fn entry(&self, prompt_id: &str) -> Option<&QueueEntry> {
        let place = *self.places.get(prompt_id)?;
        let waiting = place.checked_sub(self.running.len());
        waiting.map_or_else(|| self.running.get(place), |place| self.pending.get(place))
    }
}

/// The server takes the lowest (number, prompt id) next.
fn in_order(a: &QueueEntry, b: &QueueEntry) -> Ordering {
    let by_number = a.number.total_cmp(&b.number);
    by_number.then_with(|| a.prompt_id.cmp(&b.prompt_id))
}

fn entries(body: &Bytes, items: &[&RawValue]) -> Vec<QueueEntry> {
    let items = items.iter().map(|item| item.get().as_bytes());
    items
        .filter_map(|item| read_entry(body.slice_ref(item)))
        .collect()
}

/// Reads `[number, id, graph, extra_data, output node ids]` part by part: one of an unknown shape must not make a prompt
/// look gone.
fn read_entry(item: Bytes) -> Option<QueueEntry> {
    let parts: Vec<&RawValue> = serde_json::from_slice(&item).ok()?;
    let number = serde_json::from_str(parts.first()?.get());
    let extra = parts.get(3).map(|extra| serde_json::from_str(extra.get()));
    let extra: Option<ExtraData<'_>> = extra.and_then(Result::ok);
    Some(QueueEntry {
        number: number.unwrap_or(f64::MAX),
        prompt_id: python_json::read::<String>(parts.get(1)?.get().as_bytes())
            .ok()?
            .into(),
        submitted_at: extra.as_ref().and_then(|extra| {
            let milliseconds = extra.create_time.as_ref()?.as_i64()?;
            Timestamp::from_millisecond(milliseconds).ok()
        }),
        client_id: extra.and_then(|extra| Some(extra.client_id?.into_owned())),
        item: item.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn graph(queue: &Queue, prompt_id: &str) -> Option<PromptGraph> {
        queue.entry(prompt_id)?.graph()
    }

    fn queue(text: &'static str) -> Queue {
        Queue::parse(Bytes::from_static(text.as_bytes())).unwrap()
    }

    #[test]
    fn entries_are_in_the_order_in_which_they_will_run() {
        let queue = queue(
            r#"{"queue_running": [[0, "r", {}, {}, []]],
                "queue_pending": [[-2, "b", {}, {"client_id": "c"}, []], [3, "d", {}, {}, []], [-50.0, "a", {}, {}, []]]}"#,
        );
        assert_eq!(queue.position("r"), Some(QueuePosition::Running));
        assert_eq!(
            queue.position("a"),
            Some(QueuePosition::Pending { ahead: 1 })
        );
        assert_eq!(
            queue.position("b"),
            Some(QueuePosition::Pending { ahead: 2 })
        );
        assert_eq!(
            queue.position("d"),
            Some(QueuePosition::Pending { ahead: 3 })
        );
        assert_eq!(queue.position("x"), None);
        assert_eq!(queue.entry("b").unwrap().client_id.as_deref(), Some("c"));
    }

    #[test]
    fn an_answer_without_its_lists_is_an_error() {
        for text in [
            "{}",
            "[]",
            "null",
            r#"{"queue_running": []}"#,
            r#"{"error": "busy"}"#,
        ] {
            assert!(Queue::parse(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_part_of_an_unknown_shape_hides_no_prompt() {
        let queue = queue(
            r#"{"queue_running": [[null, "r", 7, {"client_id": 5}, null, "new"]],
                "queue_pending": [[1, "a", {}, null], [2, "b"], [3], {}, [4, 5]]}"#,
        );
        assert_eq!(queue.position("r"), Some(QueuePosition::Running));
        assert_eq!(
            queue.position("b"),
            Some(QueuePosition::Pending { ahead: 2 })
        );
        assert_eq!(queue.prompt_ids().count(), 3);
    }

    #[test]
    fn pythons_nan_hides_no_queue() {
        let queue = queue(
            r#"{"queue_running": [[0, "r", {"9": {"class_type": "SaveImage", "inputs": {}, "is_changed": [NaN]}}, {}, ["9"]]],
                "queue_pending": []}"#,
        );
        assert!(graph(&queue, "r").unwrap().has_outputs());
    }

    #[test]
    fn graphs_are_parsed_on_demand() {
        let queue = queue(
            r#"{"queue_running": [[0, "r", {"9": {"class_type": "SaveImage", "inputs": {}}}, {}, ["9"]], "no item"],
                "queue_pending": []}"#,
        );
        assert!(graph(&queue, "r").unwrap().has_outputs());
        assert_eq!(graph(&queue, "x"), None);
    }

    /// A queue of these prompts, of which the first runs.
    fn numbered(numbers: &[u8]) -> Queue {
        let entry = |number: &u8| QueueEntry {
            number: f64::from(number % 7),
            prompt_id: format!("p{number}").into(),
            client_id: None,
            submitted_at: None,
            item: Bytes::new(),
        };
        let mut entries = numbers.iter().map(entry);
        let running = entries.next().into_iter().collect();
        Queue::new(running, entries.collect(), &Bytes::new(), false)
    }

    proptest! {
        #[test]
        fn what_has_changed_is_what_is_not_where_it_was(
            before in prop::collection::hash_set(0u8..40, 0..30),
            now in prop::collection::hash_set(0u8..40, 0..30),
        ) {
            let queue = |numbers: HashSet<u8>| numbered(&numbers.into_iter().collect::<Vec<u8>>());
            let (before, now) = (queue(before), queue(now));
            let waits = |queue: &Queue, prompt: &str| {
                matches!(queue.position(prompt), Some(QueuePosition::Pending { .. }))
            };
            let all = before.prompt_ids().chain(now.prompt_ids());
            let moved = all.filter(|prompt| !(waits(&before, prompt) && waits(&now, prompt)));
            let moved: HashSet<&str> = moved.collect();
            let changed: HashSet<&str> = now.changed_since(&before).into_iter().collect();
            prop_assert_eq!(changed, moved);
        }
    }
}
