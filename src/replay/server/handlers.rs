//! What callers ask of a [`SharedState`] over HTTP, each as a function that returns the answer.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use uuid::Uuid;

use super::sockets::Outgoing;
use super::state::{SharedState, State};
use crate::replay::playback::{Playback, PostedPrompt, PromptState};
use crate::replay::substitution::dumps;
use crate::replay::timeline::Timeline;

impl SharedState {
    /// `POST /prompt`: the status and the answer.
    pub(super) fn post(&self, body: &Value) -> (u16, Value) {
        let mut live = self.live();
        let Some(place) = live.place(&body["prompt"]) else {
            return (400, no_further_prompt());
        };
        let answer = live.take(place, body);
        drop(live);
        self.changed.notify_one();
        answer
    }

    /// `GET /queue`.
    pub(super) fn queue(&self) -> Value {
        let live = self.live();
        let listed = |state: PromptState| {
            let posted = live.playbacks.iter().flat_map(|playback| &playback.posted);
            posted
                .filter(|prompt| prompt.state == state)
                .map(PostedPrompt::listed)
                .collect::<Value>()
        };
        json!({"queue_running": listed(PromptState::Running), "queue_pending": listed(PromptState::Pending)})
    }

    /// `GET /prompt`.
    pub(super) fn exec_info(&self) -> Value {
        json!({"exec_info": {"queue_remaining": self.live().remaining()}})
    }

    /// `POST /queue`: takes pending prompts out of the queue. Others are left alone, without a word.
    pub(super) fn delete_pending(&self, body: &Value) {
        let mut live = self.live();
        let posted = live
            .playbacks
            .iter_mut()
            .flat_map(|playback| &mut playback.posted);
        let named =
            posted.filter(|prompt| prompt.state == PromptState::Pending && names(body, &prompt.id));
        if named.map(PostedPrompt::break_off).count() > 0 {
            live.tell_remaining();
        }
        drop(live);
        self.changed.notify_one();
    }

    /// `GET /history/{id}`.
    pub(super) fn history(&self, id: &str) -> Value {
        let mut live = self.live();
        let entry = live.history.of(id);
        let posted = live
            .playbacks
            .iter_mut()
            .flat_map(|playback| &mut playback.posted);
        for prompt in posted.filter(|prompt| prompt.id == id) {
            if entry.is_some() {
                prompt.learned |= prompt.state == PromptState::Over;
            } else if prompt.announced {
                prompt.early_reads = prompt.early_reads.saturating_sub(1);
            }
        }
        drop(live);
        self.changed.notify_one();
        entry.unwrap_or_else(|| json!({}))
    }

    /// `GET /history`, of the newest `count`.
    pub(super) fn recent_history(&self, count: usize) -> Value {
        let mut live = self.live();
        let ids = live.history.newest(count);
        for prompt in live
            .playbacks
            .iter_mut()
            .flat_map(|playback| &mut playback.posted)
        {
            prompt.learned |= prompt.state == PromptState::Over && ids.contains(&prompt.id);
        }
        let list = live.history.list(&ids);
        drop(live);
        self.changed.notify_one();
        list
    }

    /// `POST /history`: forgets prompts.
    pub(super) fn delete_history(&self, body: &Value) {
        let mut live = self.live();
        if body["clear"] == true {
            live.history.clear();
        }
        for id in body["delete"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            live.history.forget(id);
        }
    }

    /// `POST /interrupt`: breaks off the running prompt, at once, where the recording let it playback on.
    pub(super) fn interrupt(&self, body: &Value) {
        let live = &mut *self.live();
        let Some(playback) = live.playbacks.front_mut() else {
            return;
        };
        let Some(k) = playback.running() else { return };
        let wanted = body["prompt_id"].as_str();
        if playback.timeline.honours_ids && wanted.is_some_and(|id| id != playback.posted[k].id) {
            return;
        }
        let interrupted = playback.interrupt(k);
        let ended = json!({"type": "executing", "data": {"node": null, "prompt_id": playback.posted[k].id}});
        live.history.enter(
            &playback.posted[k].id,
            playback.interrupted_history(k, &interrupted),
        );
        let client = playback.posted[k].client.clone();
        live.sockets.broadcast(&dumps(
            &json!({"type": "execution_interrupted", "data": interrupted}),
        ));
        live.tell_remaining();
        if let Some(socket) = client.and_then(|client| live.sockets.of(&client)) {
            live.sockets.send(socket, Outgoing::Text(dumps(&ended)));
        }
        self.changed.notify_one();
    }

    /// `GET /system_stats`.
    pub(super) fn system_stats(&self) -> Value {
        self.live()
            .present()
            .map_or(Value::Null, |timeline| timeline.system_stats.clone())
    }
}

impl State {
    /// The playback that a prompt with this graph belongs to, which is begun if need be.
    fn place(&mut self, graph: &Value) -> Option<usize> {
        let begins = |timeline: &Timeline| {
            timeline
                .prompts
                .first()
                .is_some_and(|first| first.graph == *graph)
        };
        if let Some(last) = self.playbacks.back()
            && let Some(next) = last.next()
            && (self.playlist.len() == 1
                || last.timeline.prompts[next].graph == *graph
                || !self.playlist.iter().any(|timeline| begins(timeline)))
        {
            return Some(self.playbacks.len() - 1);
        }
        let count = self.playlist.len();
        let in_turn = (0..count).map(|step| (self.turn + step) % count);
        let free = in_turn.filter(|index| {
            (self.repeat || !self.begun[*index]) && !self.playlist[*index].prompts.is_empty()
        });
        let free: Vec<usize> = free.collect();
        let of_graph = free.iter().find(|index| begins(&self.playlist[**index]));
        let index = *of_graph.or(free.first())?;
        self.begun[index] = true;
        self.turn = (index + 1) % count;
        if let Some(last) = self.playbacks.back_mut() {
            last.abandoned = true;
        }
        self.playbacks
            .push_back(Playback::new(self.playlist[index].clone()));
        Some(self.playbacks.len() - 1)
    }

    /// Takes a caller's prompt for the next one of a playback, and answers as the recorded server did.
    fn take(&mut self, place: usize, body: &Value) -> (u16, Value) {
        let playback = &mut self.playbacks[place];
        let k = playback.posted.len();
        let timeline = playback.timeline.clone();
        let expected = &timeline.prompts[k];
        let mut number = expected.answer["number"].clone();
        if expected.id.is_some() && body.get("number").is_none() {
            if !expected.placed {
                number = json!(self.number);
            }
            self.number += 1;
        }
        let wished = body["prompt_id"].as_str().filter(|_| timeline.honours_ids);
        let client = body["client_id"].as_str().map(str::to_owned);
        let mut extra_data = body["extra_data"].clone();
        if !extra_data.is_object() {
            extra_data = json!({});
        }
        if let Some(client) = &client {
            extra_data["client_id"] = json!(client);
        }
        let recorded = expected.history.as_ref();
        if recorded.is_some_and(|entry| entry.pointer("/prompt/3/create_time").is_some()) {
            extra_data["create_time"] = json!(now_ms());
        }
        let refused = expected.id.is_none();
        playback.take(PostedPrompt {
            id: wished.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
            client,
            graph: body["prompt"].clone(),
            extra_data,
            number: number.clone(),
            outputs: expected.outputs(),
            state: if refused {
                PromptState::Over
            } else {
                PromptState::Pending
            },
            broken: refused,
            quiet: false,
            announced: false,
            early_reads: expected.early_reads,
            learned: false,
        });
        let mut answer = playback.substitution(Some(k)).value(&expected.answer);
        if !refused {
            answer["number"] = number;
        }
        (expected.status, answer)
    }
}

impl Playback {
    /// Breaks off prompt `k`: the data of its `execution_interrupted`.
    fn interrupt(&mut self, k: usize) -> Value {
        let stamped = self.timeline.stamped;
        let prompt = &mut self.posted[k];
        prompt.break_off();
        prompt.quiet = true;
        let node = self
            .node
            .take()
            .or_else(|| Some(prompt.graph.as_object()?.keys().next()?.clone()));
        let node = node.unwrap_or_default();
        let executed: Vec<&String> = self
            .visited
            .iter()
            .filter(|visited| **visited != node)
            .collect();
        let mut data = json!({
            "prompt_id": prompt.id,
            "node_id": node,
            "node_type": prompt.graph[&node]["class_type"],
            "executed": executed,
        });
        if stamped {
            data["timestamp"] = json!(now_ms());
        }
        data
    }

    /// The history entry of a prompt that was broken off.
    fn interrupted_history(&self, k: usize, interrupted: &Value) -> Value {
        let prompt = &self.posted[k];
        let mut entry = json!({"prompt": prompt.listed(), "outputs": {}});
        if self.timeline.stamped {
            let mut started = json!({"prompt_id": prompt.id});
            started["timestamp"] = interrupted["timestamp"].clone();
            entry["status"] = json!({
                "status_str": "error",
                "completed": false,
                "messages": [["execution_start", started], ["execution_interrupted", interrupted]],
            });
        }
        entry
    }
}

/// Whether a `{"delete": [ids]}` or `{"clear": true}` names this prompt.
fn names(body: &Value, id: &str) -> bool {
    body["clear"] == true
        || body["delete"]
            .as_array()
            .is_some_and(|ids| ids.iter().any(|named| named == id))
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

/// Milliseconds since 1970, as ComfyUI's timestamps are.
fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
