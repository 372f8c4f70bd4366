//! The responses to HTTP requests, one method of [`SharedState`] a route.

use serde_json::{Value, json};

use super::state::SharedState;
use crate::job::ImageFile;
use crate::recording::RecordedInput;
use crate::replay::playback::{PostedPrompt, PromptState};

impl SharedState {
    /// `POST /prompt`: the status and the body of the response.
    pub(super) fn post_prompt(&self, body: &Value) -> (u16, Value) {
        let response = self.lock().submit(body);
        self.changed.notify_one();
        response
    }

    /// `GET /queue`.
    pub(super) fn queue(&self) -> Value {
        let state = self.lock();
        let listed = |wanted: PromptState| {
            state
                .prompts()
                .filter(|prompt| prompt.state == wanted)
                .map(PostedPrompt::listed)
                .collect::<Value>()
        };
        json!({"queue_running": listed(PromptState::Running), "queue_pending": listed(PromptState::Pending)})
    }

    /// `GET /prompt`.
    pub(super) fn exec_info(&self) -> Value {
        json!({"exec_info": {"queue_remaining": self.lock().remaining()}})
    }

    /// `POST /queue`: removes pending prompts from the queue. Ids of other prompts are ignored, as ComfyUI does.
    pub(super) fn delete_pending(&self, body: &Value) {
        self.lock().remove_pending(|id| names(body, id));
        self.changed.notify_one();
    }

    /// `GET /history/{id}`.
    pub(super) fn history(&self, id: &str) -> Value {
        let mut state = self.lock();
        let entry = state.history.get(id);
        for prompt in state.prompts_mut().filter(|prompt| prompt.id == id) {
            if entry.is_some() {
                prompt.history_read |= prompt.state == PromptState::Finished;
            } else if prompt.end_announced {
                prompt.early_reads = prompt.early_reads.saturating_sub(1);
            }
        }
        drop(state);
        self.changed.notify_one();
        entry.unwrap_or_else(|| json!({}))
    }

    /// `GET /history`, of the newest `count` prompts.
    pub(super) fn recent_history(&self, count: usize) -> Value {
        let mut state = self.lock();
        let ids = state.history.newest(count);
        for prompt in state.prompts_mut() {
            prompt.history_read |=
                prompt.state == PromptState::Finished && ids.contains(&prompt.id);
        }
        let list = state.history.list(&ids);
        drop(state);
        self.changed.notify_one();
        list
    }

    /// `POST /history`: removes prompts from the history.
    pub(super) fn delete_history(&self, body: &Value) {
        let mut state = self.lock();
        if body["clear"] == true {
            state.history.clear();
        }
        let ids = body["delete"].as_array().into_iter().flatten();
        for id in ids.filter_map(Value::as_str) {
            state.history.remove(id);
        }
    }

    /// `POST /interrupt`: interrupts the running prompt at once, even if the recorded one ran on.
    pub(super) fn interrupt(&self, body: &Value) {
        if self.lock().interrupt(body["prompt_id"].as_str()) {
            self.changed.notify_one();
        }
    }

    /// `POST /api/jobs/{id}/cancel`: interrupts a running prompt or removes a pending one, and answers whether it has. `None`
    /// from a server that is too old.
    pub(super) fn cancel(&self, id: &str) -> Option<Value> {
        let mut state = self.lock();
        if !state.current_or_next()?.cancels_by_id {
            return None;
        }
        let is_cancelled = state.interrupt(Some(id)) || state.remove_pending(|it| it == id);
        drop(state);
        self.changed.notify_one();
        Some(json!({"cancelled": is_cancelled}))
    }

    /// The picture that `GET /view` asks for, if graphs load it.
    pub(super) fn input(&self, file: &ImageFile) -> Option<RecordedInput> {
        self.lock().input(file)
    }

    /// `GET /system_stats`.
    pub(super) fn system_stats(&self) -> Value {
        self.lock()
            .current_or_next()
            .map_or(Value::Null, |timeline| timeline.system_stats.clone())
    }
}

/// Whether a `{"delete": [ids]}` or `{"clear": true}` names this prompt.
fn names(body: &Value, id: &str) -> bool {
    body["clear"] == true
        || body["delete"]
            .as_array()
            .is_some_and(|ids| ids.iter().any(|named| named == id))
}
