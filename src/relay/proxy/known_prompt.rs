//! What of the relay's jobs a prompt id of a client means.

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value};

use super::caller::{PromptCaller, is_from_comfy};
use crate::job::{Job, JobId, Status};
use crate::relay::backend::Backend;
use crate::relay::registry::Remembered;
use crate::relay::restore::Known;
use crate::relay::{Relay, RelayError};

/// So many prompts are looked up at the same time.
const AT_ONCE: usize = 32;

/// A job that a prompt id means.
#[derive(Debug, Clone)]
pub(super) struct KnownPrompt {
    pub(super) job: JobId,
    pub(super) status: Status,
    /// The index of the server that has it, and its id there.
    pub(super) place: Option<(usize, String)>,
}

/// What several prompt ids mean.
#[derive(Debug, Default)]
pub(super) struct StoredPrompts {
    /// The jobs, each with its prompt id.
    pub(super) known: Vec<(String, KnownPrompt)>,
    /// The ids that mean none.
    pub(super) unknown: Vec<String>,
    /// Why it is not known what some of them mean, which are among the unknown ones.
    pub(super) failure: Option<RelayError>,
}

impl KnownPrompt {
    /// The id under which its server has a prompt that a client asks for as `prompt_id`.
    pub(super) fn id_at_server<'a>(known: Option<&'a Self>, prompt_id: &'a str) -> &'a str {
        let place = known.and_then(|known| known.place.as_ref());
        place.map_or(prompt_id, |(_, id)| id)
    }
}

impl Relay {
    /// The job of a prompt id: the one of this id, or one that follows the prompt of this id.
    pub(super) fn known_prompt(&self, prompt_id: &str) -> Option<KnownPrompt> {
        let named = JobId::parse(prompt_id).ok();
        let named = named.filter(|id| id.group().is_none() && self.knows(id));
        let job = named.or_else(|| self.jobs_of_prompt(prompt_id).into_iter().next())?;
        let registry = self.0.tracker.registry();
        let entry = registry.get(&job)?;
        let index = entry.backend.as_ref().map(|backend| backend.index);
        let id = entry.job.prompt_id().map(str::to_owned);
        Some(KnownPrompt {
            status: entry.job.status(),
            place: index.zip(id),
            job,
        })
    }

    /// Whether what a server has of a prompt is an attempt that was given up: its job waits or runs elsewhere, or has ended there.
    pub(super) fn is_given_up(&self, prompt_id: &str, backend: &Backend, server_id: &str) -> bool {
        let Ok(job) = JobId::parse(prompt_id) else {
            return false;
        };
        let registry = self.0.tracker.registry();
        match registry.remembered(&job) {
            Some(Remembered::Whole(entry)) => {
                let job = &entry.job;
                let is_other = job.prompt_id().is_some_and(|id| id != server_id)
                    || job.backend().is_some_and(|name| name != backend.name());
                is_other && is_from_comfy(job.tags())
            }
            Some(Remembered::Ended(ended)) => ended
                .place()
                .is_some_and(|place| place != (backend.index, server_id)),
            None => false,
        }
    }

    /// The same, of jobs that only the database has, too.
    ///
    /// # Errors
    ///
    /// If the database, which may have it, does not answer.
    pub(super) async fn stored_prompt(
        &self,
        prompt_id: &str,
    ) -> Result<Option<KnownPrompt>, RelayError> {
        if let Some(known) = self.known_prompt(prompt_id) {
            return Ok(Some(known));
        }
        let job = JobId::parse(prompt_id);
        let Some(job) = job.ok().filter(|id| id.group().is_none()) else {
            return Ok(None);
        };
        match self.0.tracker.restore_from_store(&job).await {
            Known::Yes | Known::Unread => Ok(self.known_prompt(prompt_id)),
            Known::No => Ok(None),
            Known::Unreachable(error) => Err(error.into()),
        }
    }

    /// The same, of several. An id that is repeated counts once.
    pub(super) async fn stored_prompts(&self, prompt_ids: &[String]) -> StoredPrompts {
        let mut prompt_ids = prompt_ids.to_vec();
        prompt_ids.sort_unstable();
        prompt_ids.dedup();
        let looking = prompt_ids.into_iter().map(|id| async move {
            let known = self.stored_prompt(&id).await;
            (id, known)
        });
        let mut looking = stream::iter(looking).buffer_unordered(AT_ONCE);
        let mut found = StoredPrompts::default();
        while let Some((id, known)) = looking.next().await {
            match known {
                Ok(Some(known)) => found.known.push((id, known)),
                Ok(None) => found.unknown.push(id),
                Err(error) => {
                    found.failure = Some(error);
                    found.unknown.push(id);
                }
            }
        }
        found
    }
}

/// Whether a job is a prompt of ComfyUI, on a server or on its way to one: not that of another producer.
pub(super) fn is_prompt(job: &Job) -> bool {
    job.wait().is_some() || job.prompt_id().is_some()
}

/// Puts the ids that its caller knows into a prompt as queue and history show it: `[number, prompt_id, graph, extra_data,
/// outputs]`. The relay's `own` client id is taken out. Returns the prompt id.
pub(super) fn rename_listed(prompt: &mut Value, own: &str) -> Option<String> {
    let extra_data = prompt.get_mut(3).and_then(Value::as_object_mut);
    let caller = extra_data.and_then(|extra_data| PromptCaller::take_from(extra_data, own));
    let id = prompt.get_mut(1)?;
    if let Some(caller) = caller {
        *id = caller.prompt_id.into();
    }
    id.as_str().map(str::to_owned)
}

/// An entry of a history with the ids that its caller knows, and the prompt id.
pub(super) fn rename_entry(server_id: &str, mut entry: Value, own: &str) -> (String, Value) {
    let prompt = entry.get_mut("prompt");
    let known = prompt.and_then(|prompt| rename_listed(prompt, own));
    let known = known.unwrap_or_else(|| server_id.to_owned());
    if known != server_id {
        let messages = entry.pointer_mut("/status/messages");
        let messages = messages.and_then(Value::as_array_mut).into_iter().flatten();
        let data = messages.filter_map(|message| message.get_mut(1)?.as_object_mut());
        data.for_each(|data| rename_field(data, &known));
    }
    (known, entry)
}

fn rename_field(data: &mut Map<String, Value>, known: &str) {
    if let Some(id) = data.get_mut("prompt_id") {
        *id = known.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_has_the_ids_that_its_caller_knows() {
        let extra =
            json!({"client_id": "relay", "comfy_relay": {"prompt_id": "known", "client_id": "me"}});
        let entry = json!({"prompt": [1, "server", {}, extra, []], "outputs": {},
            "status": {"messages": [["execution_start", {"prompt_id": "server"}], ["odd"]]}});
        let (id, entry) = rename_entry("server", entry, "relay");
        assert_eq!(id, "known");
        assert_eq!(
            entry["prompt"],
            json!([1, "known", {}, {"client_id": "me"}, []])
        );
        assert_eq!(entry["status"]["messages"][0][1]["prompt_id"], "known");
        let foreign = json!({"prompt": [1, "server", {}, {"client_id": "x"}, []]});
        let renamed = rename_entry("server", foreign.clone(), "relay");
        assert_eq!(renamed, ("server".to_owned(), foreign));
    }
}
