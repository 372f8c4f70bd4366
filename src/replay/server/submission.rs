//! What `POST /prompt` does: finds the recorded prompt that a client's prompt stands for, and responds as the recorded
//! server did.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::state::State;
use crate::replay::playback::{Playback, PostedPrompt, PromptState};
use crate::replay::timeline::Timeline;

impl State {
    /// Puts a client's prompt in place of the next recorded one: the status and the body of the response.
    pub(super) fn submit(&mut self, body: &Value) -> (u16, Value) {
        match self.playback_for(&body["prompt"]) {
            Some(playback) => self.add_prompt(playback, body),
            None => (400, no_further_prompt()),
        }
    }

    /// The index of the playback that continues with a prompt of this graph, which is begun if necessary.
    fn playback_for(&mut self, graph: &Value) -> Option<usize> {
        let begins = |timeline: &Timeline| {
            let first = timeline.prompts.first();
            first.is_some_and(|first| first.graph == *graph)
        };
        if let Some(last) = self.playbacks.back()
            && let Some(next) = last.next_prompt()
            && (self.playlist.len() == 1
                || last.timeline.prompts[next].graph == *graph
                || !self.playlist.iter().any(|timeline| begins(timeline)))
        {
            return Some(self.playbacks.len() - 1);
        }
        let count = self.playlist.len();
        let in_turn = (0..count).map(|offset| (self.next_timeline + offset) % count);
        let free: Vec<usize> = in_turn
            .filter(|index| {
                (self.repeat || !self.begun[*index]) && !self.playlist[*index].prompts.is_empty()
            })
            .collect();
        let with_graph = free.iter().find(|index| begins(&self.playlist[**index]));
        let index = *with_graph.or(free.first())?;
        self.begun[index] = true;
        self.next_timeline = (index + 1) % count;
        if let Some(last) = self.playbacks.back_mut() {
            last.is_abandoned = true;
        }
        self.playbacks
            .push_back(Playback::new(self.playlist[index].clone()));
        Some(self.playbacks.len() - 1)
    }

    fn add_prompt(&mut self, playback: usize, body: &Value) -> (u16, Value) {
        let playback = &mut self.playbacks[playback];
        let k = playback.prompts.len();
        let timeline = playback.timeline.clone();
        let recorded = &timeline.prompts[k];
        let mut number = recorded.response["number"].clone();
        let asked = body["number"].as_f64();
        if recorded.id.is_some() {
            let (next, is_front) = (self.next_number, body["front"] == true);
            if !recorded.keeps_number {
                number = match asked {
                    Some(asked) => json!(asked),
                    None if is_front => json!(-next.cast_signed()),
                    None => json!(next),
                };
            }
            if asked.is_none() {
                self.next_number += 1;
            }
        }
        let requested_id = body["prompt_id"]
            .as_str()
            .filter(|_| timeline.uses_client_ids);
        let client_id = body["client_id"].as_str().map(str::to_owned);
        let mut extra_data = body["extra_data"].clone();
        if !extra_data.is_object() {
            extra_data = json!({});
        }
        if let Some(client_id) = &client_id {
            extra_data["client_id"] = json!(client_id);
        }
        let history = recorded.history.as_ref();
        if history.is_some_and(|entry| entry.pointer("/prompt/3/create_time").is_some()) {
            extra_data["create_time"] = json!(Timestamp::now().as_millisecond());
        }
        let is_rejected = recorded.id.is_none();
        playback.add_prompt(PostedPrompt {
            id: requested_id.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
            client_id,
            graph: body["prompt"].clone(),
            extra_data,
            number: number.clone(),
            outputs: asked_for(recorded.outputs(), &body["partial_execution_targets"]),
            state: if is_rejected {
                PromptState::Finished
            } else {
                PromptState::Pending
            },
            diverges: is_rejected,
            skips_status: false,
            end_announced: false,
            early_reads: recorded.early_reads,
            history_read: false,
        });
        let mut response = playback.substitution(Some(k)).value(&recorded.response);
        if !is_rejected {
            response["number"] = number;
        }
        (recorded.status, response)
    }
}

/// The outputs that run: those that are asked for, or all of them.
fn asked_for(outputs: Value, targets: &Value) -> Value {
    match (outputs, targets.as_array()) {
        (Value::Array(outputs), Some(targets)) => {
            let mut outputs = outputs;
            outputs.retain(|output| targets.contains(output));
            Value::Array(outputs)
        }
        (outputs, _) => outputs,
    }
}

fn no_further_prompt() -> Value {
    json!({
        "error": {
            "type": "replay_over",
            "message": "The recording has no further prompt",
            "details": "every prompt of the recordings was posted: start the replay again, or with repeat",
            "extra_info": {},
        },
        "node_errors": {},
    })
}
