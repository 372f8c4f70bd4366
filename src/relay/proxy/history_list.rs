//! The histories of all servers as one, and what the database has of prompts that servers have forgotten.

use futures_util::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::caller::client_of;
use super::known_prompt::{KnownPrompt, rename_entry};
use crate::job::{Job, Output, Status};
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::{Relay, RelayError};

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
            if let Value::Object(history) = answer.json {
                entries.extend(
                    history
                        .into_iter()
                        .map(|(id, entry)| rename_entry(&id, entry)),
                );
            }
        }
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
        let known = self.stored_prompt(prompt_id).await;
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
                return Ok(Map::from_iter([rename_entry(server_id, entry)]));
            }
        }
        let kept = match known {
            Some(known) if is_over => self.kept_entry(&known).await,
            _ => None,
        };
        let entry = kept.map(|entry| (prompt_id.to_owned(), entry));
        Ok(Map::from_iter(entry))
    }

    /// Removes prompts from the histories of all servers; all of them, if none is named. The relay's own record of them stays.
    pub async fn delete_history(&self, prompt_ids: Option<&[String]>) -> Result<(), RelayError> {
        let named = match prompt_ids {
            Some(ids) => Some(self.ids_at_servers(ids).await),
            None => None,
        };
        let backends = self.answering_backends();
        let deleting = backends.iter().map(|backend| async {
            let deleted = backend.comfy.rest().delete_history(named.as_deref()).await;
            deleted.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        join_all(deleting).await.into_iter().collect()
    }

    /// The ids under which servers have prompts.
    async fn ids_at_servers(&self, prompt_ids: &[String]) -> Vec<String> {
        let (known, mut ids) = self.stored_prompts(prompt_ids).await;
        let at_servers = known.into_iter().map(|(id, known)| {
            let place = known.place;
            place.map_or(id, |(_, server_id)| server_id)
        });
        ids.extend(at_servers);
        ids
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
