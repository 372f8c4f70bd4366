//! [`SeenHistory`]: what shows that a server was not restarted.

use std::collections::VecDeque;

/// The disconnect counter of a job from before the start: whether its server was restarted since then is
/// unknown.
pub(in crate::relay) const BEFORE_THE_START: u64 = u64::MAX;

/// Of how many sockets in a row a prompt is remembered.
const MAX_SEEN: usize = 4;

/// Prompts whose entries were in the history of a server, and the disconnect counter then, which grows: as long as one of them
/// is there, the server was not restarted since that counter.
#[derive(Debug, Default)]
pub(in crate::relay) struct SeenHistory(VecDeque<(u64, String)>);

impl SeenHistory {
    /// The history has a prompt. The newest one stays there the longest.
    pub(in crate::relay) fn add(&mut self, disconnects: u64, prompt_id: &str) {
        self.0.retain(|(then, _)| *then != disconnects);
        if self.0.len() >= MAX_SEEN {
            self.0.pop_front();
        }
        self.0.push_back((disconnects, prompt_id.to_owned()));
    }

    /// A prompt that was in the history under this disconnect counter or an earlier one. A later one shows nothing of the server
    /// before: it may have come after a restart.
    pub(in crate::relay) fn until(&self, disconnects: u64) -> Option<&str> {
        if disconnects == BEFORE_THE_START {
            return None;
        }
        let mut seen = self.0.iter().rev();
        let (_, prompt_id) = seen.find(|(then, _)| *then <= disconnects)?;
        Some(prompt_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_came_after_a_disconnect_shows_nothing_of_the_server_before() {
        let mut seen = SeenHistory::default();
        seen.add(3, "later");
        assert_eq!(seen.until(2), None);
        assert_eq!(seen.until(3), Some("later"));
        assert_eq!(seen.until(4), Some("later"));
        assert_eq!(seen.until(BEFORE_THE_START), None);
    }

    #[test]
    fn the_newest_prompt_of_each_socket_is_remembered() {
        let mut seen = SeenHistory::default();
        for (disconnects, prompt_id) in [(0, "a"), (0, "b"), (1, "c")] {
            seen.add(disconnects, prompt_id);
        }
        assert_eq!(seen.until(0), Some("b"));
        for disconnects in 2..100 {
            seen.add(disconnects, "d");
        }
        assert_eq!(seen.0.len(), MAX_SEEN);
        assert_eq!(seen.until(0), None);
    }
}
