//! Steps from HTTP exchanges: what the recorded client did, and what the responses show of its prompts.

use serde_json::Value;

use super::Compiler;
use crate::recording::Exchange;
use crate::replay::timeline::Step;

impl Compiler<'_> {
    /// A request was sent: adds what the client did with it.
    pub(super) fn request(&mut self, t: f64, exchange: &Exchange) {
        let body = &exchange.request_body;
        if exchange.is("POST", "/prompt") {
            if let Some(k) = self.evidence.iter().position(|evidence| !evidence.posted) {
                self.evidence[k].posted = true;
                self.evidence[k].responded_at = exchange.t_end;
                self.evidence[k].finished = self.timeline.prompts[k].id.is_none();
                self.push(t, Step::Post(k));
            }
        } else if exchange.is("POST", "/queue") {
            for k in self.named(body) {
                if !self.evidence[k].started && !self.evidence[k].finished {
                    self.await_history_reads(t);
                    self.evidence[k].finished = true;
                    self.push(t, Step::Removed(k));
                }
            }
        } else if exchange.is("POST", "/history") {
            for k in self.named(body) {
                if self.evidence[k].ended {
                    self.await_history_reads(t);
                    self.push(t, Step::HistoryDeleted(k));
                }
            }
        }
    }

    /// The posted prompts that a `{"delete": [ids]}` or `{"clear": true}` names.
    fn named(&self, body: &Value) -> Vec<usize> {
        let all = body["clear"] == true;
        let ids = body["delete"].as_array().map_or(&[][..], Vec::as_slice);
        let is_named = |k: &usize| {
            let id = self.timeline.prompts[*k].id.as_ref();
            let is_listed = id.is_some_and(|id| ids.iter().any(|listed| listed == id));
            self.evidence[*k].posted && (all || is_listed)
        };
        (0..self.evidence.len()).filter(is_named).collect()
    }

    /// A response came: adds what was true at that time.
    pub(super) fn response(&mut self, t: f64, exchange: &Exchange) {
        if exchange.status.is_none() {
            return;
        }
        if exchange.t >= self.down_since().unwrap_or(f64::MAX) {
            self.restart(t);
        }
        if exchange.is("GET", "/queue") {
            self.queue(t, exchange);
        } else if let Some(id) = exchange.history_id() {
            self.history(t, exchange, &id);
        }
    }

    fn queue(&mut self, t: f64, exchange: &Exchange) {
        let listed = |list: &str| -> Vec<usize> {
            let entries = exchange.response[list].as_array().into_iter().flatten();
            entries
                .filter_map(|entry| self.numbered_prompt(entry[1].as_str()?, &entry[0]))
                .collect()
        };
        let (running, pending) = (listed("queue_running"), listed("queue_pending"));
        for k in 0..self.evidence.len() {
            let evidence = &self.evidence[k];
            if evidence.finished || !evidence.posted {
                continue;
            }
            if running.contains(&k) {
                self.start(t, k);
            } else if !pending.contains(&k) && exchange.t >= evidence.responded_at {
                if evidence.started || self.timeline.prompts[k].history.is_some() {
                    self.end(t, k);
                } else {
                    self.evidence[k].finished = true;
                    self.push(t, Step::Removed(k));
                }
            }
        }
    }

    fn history(&mut self, t: f64, exchange: &Exchange, id: &str) {
        match exchange.response.get(id) {
            Some(entry) => {
                if let Some(k) = self.numbered_prompt(id, &entry["prompt"][0]) {
                    self.end(t, k);
                    self.evidence[k].history_read = true;
                }
            }
            None => {
                if let Some(k) = self.prompt(id)
                    && !self.evidence[k].finished
                    && self.evidence[k]
                        .end_announced_at
                        .is_some_and(|announced| exchange.t >= announced)
                {
                    self.timeline.prompts[k].early_reads += 1;
                }
            }
        }
    }
}
