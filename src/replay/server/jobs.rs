//! `GET /api/jobs`: the prompts without their graphs, and a single one with everything.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::state::SharedState;
use crate::replay::playback::PostedPrompt;

impl SharedState {
    /// `GET /api/jobs` with these parameters of the query, the newest first; `None` from a server before that.
    pub(super) fn job_list(&self, parameter: impl Fn(&str) -> Option<String>) -> Option<Value> {
        let state = self.lock();
        if !state.current_or_next()?.lists_jobs {
            return None;
        }
        let statuses = parameter("status");
        let is_asked = |job: &Value| {
            let statuses = statuses.as_deref();
            statuses.is_none_or(|words| words.split(',').any(|word| job["status"] == word))
        };
        let open = state.prompts().filter_map(PostedPrompt::as_job);
        let ended = state.history.entries();
        let ended = ended.map(|(id, entry)| ended_job(id, entry));
        let mut jobs: Vec<Value> = open.chain(ended).filter(is_asked).collect();
        drop(state);
        jobs.sort_by_key(|job| Reverse(job["create_time"].as_i64()));
        let total = jobs.len();
        let number = |name: &str| parameter(name)?.parse::<usize>().ok();
        let (offset, limit) = (number("offset").unwrap_or_default(), number("limit"));
        let count = limit.unwrap_or(total);
        let jobs: Vec<Value> = jobs.into_iter().skip(offset).take(count).collect();
        let has_more = offset + jobs.len() < total;
        let pagination =
            json!({"offset": offset, "limit": limit, "total": total, "has_more": has_more});
        Some(json!({"jobs": jobs, "pagination": pagination}))
    }

    /// `GET /api/jobs/{id}`; `None` if the prompt is neither in the queue nor in the history.
    pub(super) fn job(&self, id: &str) -> Option<Value> {
        let state = self.lock();
        if !state.current_or_next()?.lists_jobs {
            return None;
        }
        let mut named = state.prompts().filter(|prompt| prompt.id == id);
        let open = named.find_map(PostedPrompt::as_job);
        open.or_else(|| {
            let entry = &state.history.get(id)?[id];
            let mut job = ended_job(id, entry);
            job["outputs"] = entry["outputs"].clone();
            job["execution_status"] = entry["status"].clone();
            job["workflow"] =
                json!({"prompt": entry["prompt"][2], "extra_data": entry["prompt"][3]});
            Some(job)
        })
    }
}

/// A prompt that has ended, by its entry in the history.
fn ended_job(id: &str, entry: &Value) -> Value {
    let messages = entry["status"]["messages"].as_array().into_iter().flatten();
    let time_of = |kinds: &[&str]| {
        let is_wanted = |message: &&Value| kinds.iter().any(|kind| message[0] == *kind);
        let found = messages.clone().find(is_wanted);
        found.map(|message| message[1]["timestamp"].clone())
    };
    let interrupted_at = time_of(&["execution_interrupted"]);
    let status = if entry["status"]["status_str"] == "success" {
        "completed"
    } else if interrupted_at.is_some() {
        "cancelled"
    } else {
        "failed"
    };
    let files = files(&entry["outputs"]);
    let mut job = json!({
        "id": id,
        "status": status,
        "priority": entry["prompt"][0],
        "create_time": entry["prompt"][3]["create_time"],
        "execution_start_time": time_of(&["execution_start"]),
        "execution_end_time": interrupted_at.or_else(|| time_of(&["execution_success", "execution_error"])),
        "outputs_count": files.len(),
        "previewable_outputs_count": files.len(),
    });
    let saved = files.iter().find(|file| file["type"] == "output");
    if let Some(file) = saved.or(files.first()) {
        job["preview_output"] = file.clone();
    }
    job
}

/// The files of a prompt, each with the node that has made it.
fn files(outputs: &Value) -> Vec<Value> {
    let mut files = Vec::new();
    for (node, output) in outputs.as_object().into_iter().flatten() {
        for (media_type, items) in output.as_object().into_iter().flatten() {
            let items = items.as_array().into_iter().flatten();
            for item in items.filter(|item| item["filename"].is_string()) {
                let mut file = item.clone();
                file["nodeId"] = json!(node);
                file["mediaType"] = json!(media_type);
                files.push(file);
            }
        }
    }
    files
}
