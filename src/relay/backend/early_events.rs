//! Events of prompts that no job follows yet.

use std::collections::VecDeque;

use crate::job::Event;

/// How many events are kept, those of all prompts counted.
const MAX_EARLY_EVENTS: usize = 512;

/// The newest events of prompts that no job follows, for a registration that may be on its way: an
/// event can overtake the answer to the `POST /prompt` that it belongs to.
#[derive(Debug, Default)]
pub(in crate::relay) struct EarlyEvents(VecDeque<(String, Event)>);

impl EarlyEvents {
    /// Keeps an event of a prompt; the oldest event makes room for it.
    pub(in crate::relay) fn add(&mut self, prompt_id: String, event: Event) {
        if self.0.len() == MAX_EARLY_EVENTS {
            self.0.pop_front();
        }
        self.0.push_back((prompt_id, event));
    }

    /// Takes the events of a prompt, in their order.
    pub(in crate::relay) fn take(&mut self, prompt_id: &str) -> Vec<Event> {
        let (taken, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(id, _)| id == prompt_id);
        self.0 = others;
        taken.into_iter().map(|(_, event)| event).collect()
    }
}
