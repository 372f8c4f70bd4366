//! [`PromptHistory`]: the history that clients read.

use serde_json::{Map, Value};

/// History entries by prompt id, oldest first. A later prompt with the same id replaces the earlier one.
#[derive(Debug, Default)]
pub(super) struct PromptHistory(Vec<(String, Value)>);

impl PromptHistory {
    /// Adds a prompt that has ended.
    pub(super) fn insert(&mut self, id: &str, entry: Value) {
        match self.0.iter_mut().find(|(known, _)| known == id) {
            Some((_, old)) => *old = entry,
            None => self.0.push((id.to_owned(), entry)),
        }
    }

    /// The response to `/history/{id}`; none if there is no such entry.
    pub(super) fn get(&self, id: &str) -> Option<Value> {
        let (id, entry) = self.0.iter().find(|(known, _)| known == id)?;
        Some(Value::Object(Map::from_iter([(id.clone(), entry.clone())])))
    }

    /// The ids of the newest `count` entries, oldest first.
    pub(super) fn newest(&self, count: usize) -> Vec<String> {
        let entries = &self.0[self.0.len().saturating_sub(count)..];
        entries.iter().map(|(id, _)| id.clone()).collect()
    }

    /// The response to `/history`, with these entries.
    pub(super) fn list(&self, ids: &[String]) -> Value {
        let entries = self.0.iter().filter(|(id, _)| ids.contains(id));
        Value::Object(entries.cloned().collect())
    }

    /// All entries with their prompt ids, oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(id, entry)| (id.as_str(), entry))
    }

    /// Removes one prompt.
    pub(super) fn remove(&mut self, id: &str) {
        self.0.retain(|(known, _)| known != id);
    }

    /// Removes all prompts.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
