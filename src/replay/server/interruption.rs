//! What `POST /interrupt` does to the running prompt, its clients and the history.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::sockets::Outgoing;
use super::state::State;
use crate::replay::playback::Playback;
use crate::replay::python_json::dumps;

impl State {
    /// Interrupts the running prompt, unless the request names another one. Returns whether it did.
    pub(super) fn interrupt(&mut self, prompt_id: Option<&str>) -> bool {
        let Some(playback) = self.playbacks.front_mut() else {
            return false;
        };
        let Some(k) = playback.running() else {
            return false;
        };
        let running_id = playback.prompts[k].id.clone();
        if playback.timeline.uses_client_ids && prompt_id.is_some_and(|id| id != running_id) {
            return false;
        }
        let data = playback.interrupt(k);
        let entry = playback.interrupted_history_entry(k, &data);
        let client_id = playback.prompts[k].client_id.clone();
        self.history.insert(&running_id, entry);
        let interrupted = json!({"type": "execution_interrupted", "data": data});
        self.sockets.broadcast(&dumps(&interrupted));
        self.broadcast_status();
        if let Some(socket) = client_id.and_then(|id| self.sockets.registered_as(&id)) {
            let ended =
                json!({"type": "executing", "data": {"node": null, "prompt_id": running_id}});
            self.sockets.send(socket, Outgoing::Text(dumps(&ended)));
        }
        true
    }
}

impl Playback {
    /// Interrupts prompt `k`; returns the data of its `execution_interrupted`.
    fn interrupt(&mut self, k: usize) -> Value {
        let has_timestamps = self.timeline.has_timestamps;
        let prompt = &mut self.prompts[k];
        prompt.diverge();
        prompt.skips_status = true;
        let node = self
            .running_node
            .take()
            .or_else(|| Some(prompt.graph.as_object()?.keys().next()?.clone()))
            .unwrap_or_default();
        let executed: Vec<&String> = self
            .visited_nodes
            .iter()
            .filter(|visited| **visited != node)
            .collect();
        let mut data = json!({
            "prompt_id": prompt.id,
            "node_id": node,
            "node_type": prompt.graph[&node]["class_type"],
            "executed": executed,
        });
        if has_timestamps {
            data["timestamp"] = json!(Timestamp::now().as_millisecond());
        }
        data
    }

    /// The history entry of a prompt that was interrupted.
    fn interrupted_history_entry(&self, k: usize, interrupted: &Value) -> Value {
        let prompt = &self.prompts[k];
        let mut entry = json!({"prompt": prompt.listed(), "outputs": {}});
        if self.timeline.has_timestamps {
            let started = json!({"prompt_id": prompt.id, "timestamp": interrupted["timestamp"]});
            entry["status"] = json!({
                "status_str": "error",
                "completed": false,
                "messages": [["execution_start", started], ["execution_interrupted", interrupted]],
            });
        }
        entry
    }
}
