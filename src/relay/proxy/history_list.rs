//! The histories of all servers as one, and what the database has of prompts that servers have forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::all_servers::some_of;
use super::caller::client_of;
use super::known_prompt::{KnownPrompt, rename_entry};
use crate::job::{Job, JobId, Output, Status};
use crate::relay::backend::Backend;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::{Relay, RelayError};

/// The entry of a prompt, with the server that has it and its id there.
type PlacedEntry = (String, (Arc<Backend>, String), Value);

impl Relay {
    /// The entries of all histories, the oldest first: `max_items` of them from `offset` on; without an offset the newest ones.
    ///
    /// # Errors
    ///
    /// If no server answers.
    pub async fn comfy_history(
        &self,
        max_items: Option<usize>,
        offset: Option<usize>,
    ) -> Result<Map<String, Value>, RelayError> {
        let query = max_items.filter(|_| offset.is_none());
        let query = query.map(|count| format!("max_items={count}"));
        let mut entries = Vec::new();
        for answer in self.ask_all("/history", query.as_deref()).await? {
            let Value::Object(history) = answer.json else {
                continue;
            };
            let own = answer.backend.comfy.client_id();
            for (server_id, entry) in history {
                let (prompt_id, entry) = rename_entry(&server_id, entry, own);
                if !self.is_given_up(&prompt_id, &answer.backend, &server_id) {
                    let place = (answer.backend.clone(), server_id);
                    entries.push((prompt_id, place, entry));
                }
            }
        }
        let mut entries = self.without_given_up(entries).await;
        // Those without times stay where they are on their server, before the others.
        entries.sort_by_key(|(_, entry)| ended_at(entry));
        let count = max_items.unwrap_or(entries.len());
        let start = offset.unwrap_or(entries.len().saturating_sub(count));
        Ok(entries.into_iter().skip(start).take(count).collect())
    }

    /// The entry of a prompt, `{id: entry}`; empty if there is none (yet).
    ///
    /// # Errors
    ///
    /// If no server that may have it answers.
    pub async fn comfy_history_entry(
        &self,
        prompt_id: &str,
    ) -> Result<Map<String, Value>, RelayError> {
        // Without the database, what the servers have of the prompt.
        let known = self.stored_prompt(prompt_id).await.ok().flatten();
        let server_id = KnownPrompt::id_at_server(known.as_ref(), prompt_id);
        let encoded = utf8_percent_encode(server_id, NON_ALPHANUMERIC);
        let asked = self.ask_all(&format!("/history/{encoded}"), None).await;
        let is_over = known.as_ref().is_some_and(|known| known.status.is_final());
        let answers = match asked {
            Err(_) if is_over => Vec::new(),
            asked => asked?,
        };
        for answer in answers {
            let Value::Object(mut history) = answer.json else {
                continue;
            };
            if let Some(entry) = history.shift_remove(server_id) {
                let own = answer.backend.comfy.client_id();
                return Ok(Map::from_iter([rename_entry(server_id, entry, own)]));
            }
        }
        let kept = match known {
            Some(known) if is_over => self.kept_entry(&known).await,
            _ => None,
        };
        let entry = kept.map(|entry| (prompt_id.to_owned(), entry));
        Ok(Map::from_iter(entry))
    }

    /// Leaves out the given-up attempts at prompts of which several servers have one, and of whose jobs only the database knows.
    async fn without_given_up(&self, entries: Vec<PlacedEntry>) -> Vec<(String, Value)> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (id, ..) in &entries {
            *counts.entry(id).or_default() += 1;
        }
        let repeated = counts.into_iter().filter(|(_, count)| *count > 1);
        let repeated = repeated.filter_map(|(id, _)| JobId::parse(id).ok());
        let repeated: Vec<JobId> = repeated.collect();
        let mut jobs = HashMap::new();
        if !repeated.is_empty() {
            let stored = self.0.tracker.recorder.store().jobs_with_ids(&repeated);
            // Without the database all are shown.
            let stored = stored.await.unwrap_or_default();
            jobs.extend(stored.into_iter().map(|job| (job.id.to_string(), job)));
        }
        let counts = |(id, (backend, server_id), entry): PlacedEntry| {
            let is_other = jobs.get(&id).is_some_and(|job| {
                job.prompt_id.as_ref().is_some_and(|id| *id != server_id)
                    || (job.backend.as_deref()).is_some_and(|name| name != backend.name())
            });
            (!is_other).then_some((id, entry))
        };
        entries.into_iter().filter_map(counts).collect()
    }

    /// Removes prompts from the histories of all servers; all of them, if none is named. The relay's own record of them stays.
    ///
    /// # Errors
    ///
    /// If no server answers, one of them fails, or the database does not say under which ids servers have the prompts.
    pub async fn delete_history(&self, prompt_ids: Option<&[String]>) -> Result<(), RelayError> {
        let (named, unread) = match prompt_ids {
            Some(ids) => {
                let (ids, unread) = self.ids_at_servers(ids).await;
                (Some(ids), unread)
            }
            None => (None, Ok(())),
        };
        let backends = some_of(self.listing_backends())?;
        let deleting = backends.iter().map(|backend| async {
            let deleted = backend.comfy.rest().delete_history(named.as_deref()).await;
            deleted.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        let deleted: Result<(), RelayError> = join_all(deleting).await.into_iter().collect();
        deleted.and(unread)
    }

    /// The ids under which servers have prompts, and whether the database could be asked for them.
    async fn ids_at_servers(&self, prompt_ids: &[String]) -> (Vec<String>, Result<(), RelayError>) {
        let found = self.stored_prompts(prompt_ids).await;
        let mut ids = found.unknown;
        let at_servers = found.known.into_iter().map(|(id, known)| {
            let place = known.place;
            place.map_or(id, |(_, server_id)| server_id)
        });
        ids.extend(at_servers);
        (ids, found.failure.map_or(Ok(()), Err))
    }

    /// What the relay itself has of a prompt that has ended.
    async fn kept_entry(&self, known: &KnownPrompt) -> Option<Value> {
        let store = self.0.tracker.recorder.store();
        let stored = store.submission(&known.job).await.ok().flatten();
        let request = stored.and_then(|stored| QueuedRequest::unpack(&stored.request).ok());
        let graph = request.map(|request| request.graph).unwrap_or_default();
        let registry = self.0.tracker.registry();
        let entry = registry.get(&known.job)?;
        Some(entry_of(&entry.job, graph))
    }
}

/// A job that has ended as ComfyUI's history would show it.
fn entry_of(job: &Job, graph: Map<String, Value>) -> Value {
    let mut outputs = Map::new();
    for output in job.outputs() {
        let node = outputs
            .entry(output.node.clone())
            .or_insert_with(|| json!({}));
        let made = node.as_object_mut().map(|made| {
            let list = made.entry(output.kind.clone()).or_insert_with(|| json!([]));
            list.as_array_mut()
                .map(|list| list.push(listed_output(output)))
        });
        debug_assert!(made.flatten().is_some(), "both were made here");
    }
    let extra_data = client_of(job.tags()).map_or_else(|| json!({}), |id| json!({"client_id": id}));
    let is_completed = job.status() == Status::Completed;
    let word = if is_completed { "success" } else { "error" };
    json!({
        "prompt": [0, job.id(), graph, extra_data, []],
        "outputs": outputs,
        "status": {"status_str": word, "completed": is_completed, "messages": []},
    })
}

fn listed_output(output: &Output) -> Value {
    match &output.text {
        Some(text) if output.filename.is_empty() => json!(text),
        _ => json!({
            "filename": output.filename,
            "subfolder": output.subfolder,
            "type": output.r#type,
        }),
    }
}

/// When a prompt ended, in milliseconds since 1970, by its last message that says when it was sent.
fn ended_at(entry: &Value) -> Option<i64> {
    let messages = entry.pointer("/status/messages")?.as_array()?;
    let mut times = messages
        .iter()
        .rev()
        .filter_map(|message| message.get(1)?.get("timestamp"));
    times.find_map(|time| time.as_f64().map(|time| time as i64))
}
