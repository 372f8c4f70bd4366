//! What the recorded client asked and was answered: its deeds, as steps, and evidence of where its prompts were.

use serde_json::Value;

use super::Compiler;
use crate::recording::Exchange;
use crate::replay::timeline::Step;

impl Compiler<'_> {
    /// A request was sent: here are the client's own deeds.
    pub(super) fn asked(&mut self, t: f64, exchange: &Exchange) {
        let body = &exchange.request_body;
        if exchange.is("POST", "/prompt") {
            if let Some(k) = self.known.iter().position(|known| !known.posted) {
                self.known[k].posted = true;
                self.known[k].answered_at = exchange.t_end;
                self.known[k].over = self.timeline.prompts[k].id.is_none();
                self.push(t, Step::Post(k));
            }
        } else if exchange.is("POST", "/queue") {
            let named: Vec<usize> = self
                .named(body)
                .filter(|k| !self.known[*k].started && !self.known[*k].over)
                .collect();
            for k in named {
                self.learn(t);
                self.known[k].over = true;
                self.push(t, Step::Gone(k));
            }
        } else if exchange.is("POST", "/history") {
            let named: Vec<usize> = self.named(body).filter(|k| self.known[*k].ended).collect();
            for k in named {
                self.learn(t);
                self.push(t, Step::HistoryDeleted(k));
            }
        }
    }

    /// The posted prompts that a `{"delete": [ids]}` or `{"clear": true}` names.
    fn named(&self, body: &Value) -> impl Iterator<Item = usize> + use<> {
        let all = body["clear"] == true;
        let ids = body["delete"].as_array().cloned().unwrap_or_default();
        let prompts = self.timeline.prompts.iter().enumerate();
        let chosen: Vec<usize> = prompts
            .filter(|(k, prompt)| {
                self.known[*k].posted
                    && (all
                        || prompt
                            .id
                            .as_ref()
                            .is_some_and(|id| ids.iter().any(|named| named == id)))
            })
            .map(|(k, _)| k)
            .collect();
        chosen.into_iter()
    }

    /// An answer came: what it says was true when it came.
    pub(super) fn answered(&mut self, t: f64, exchange: &Exchange) {
        if exchange.status.is_none() {
            return;
        }
        if exchange.t >= self.down_since().unwrap_or(f64::MAX) {
            self.up(t);
        }
        if exchange.is("GET", "/queue") {
            self.queue(t, exchange);
        } else if let Some(id) = exchange.asks_history_of() {
            self.history(t, exchange, &id);
        }
    }

    fn queue(&mut self, t: f64, exchange: &Exchange) {
        let listed = |list: &str| {
            let entries = exchange.response[list]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let known = |entry: &Value| self.numbered(entry[1].as_str()?, &entry[0]);
            entries.iter().filter_map(known).collect::<Vec<_>>()
        };
        let (running, pending) = (listed("queue_running"), listed("queue_pending"));
        for k in 0..self.known.len() {
            let known = &self.known[k];
            if known.over || !known.posted {
                continue;
            }
            if running.contains(&k) {
                self.start(t, k);
            } else if !pending.contains(&k) && exchange.t >= known.answered_at {
                if known.started || self.timeline.prompts[k].history.is_some() {
                    self.end(t, k);
                } else {
                    self.known[k].over = true;
                    self.push(t, Step::Gone(k));
                }
            }
        }
    }

    fn history(&mut self, t: f64, exchange: &Exchange, id: &str) {
        match exchange.response.get(id) {
            Some(entry) => {
                if let Some(k) = self.numbered(id, &entry["prompt"][0]) {
                    self.end(t, k);
                    self.known[k].read = true;
                }
            }
            None => {
                if let Some(k) = self.prompt(id)
                    && !self.known[k].over
                    && self.known[k]
                        .ending_at
                        .is_some_and(|ending| exchange.t >= ending)
                {
                    self.timeline.prompts[k].early_reads += 1;
                }
            }
        }
    }
}
