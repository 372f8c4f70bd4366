//! Jobs that wait in the relay's own queue: their prompts are not handed in yet, or were lost and are to run again.

use jiff::Timestamp;

use super::{Job, Nodes, QueueWait, Status};

impl Job {
    /// The same job, waiting in the relay's own queue, to be handed in as the prompt `prompt_id`.
    pub fn waiting(mut self, prompt_id: &str) -> Self {
        self.prompt_id = Some(prompt_id.to_owned());
        self.wait = Some(QueueWait::default());
        self
    }

    /// What is known of its wait in the relay's own queue; `None` if it does not wait there.
    pub fn wait(&self) -> Option<&QueueWait> {
        self.wait.as_ref()
    }

    /// How often its prompt was handed in or waits to be, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Sets how often its prompt was handed in, as the database has it.
    pub fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt.max(1);
    }

    /// A backend has its prompt: it waits or runs there.
    pub fn hand_over(&mut self, backend: &str, prompt_id: &str) {
        self.backend = Some(backend.to_owned());
        self.prompt_id = Some(prompt_id.to_owned());
        self.wait = None;
        self.ahead = None;
    }

    /// Its prompt is gone from its backend, and is to be handed in again as `prompt_id`: what its nodes have done is lost,
    /// and its files with them, as far as its states name them: the server of the next attempt has others under their names. An attempt that had not begun counts as none.
    pub fn take_back(&mut self, prompt_id: &str) {
        if self.status == Status::Processing {
            self.attempt += 1;
            self.began_before = self.began_before.or(self.started_at);
        }
        self.started_at = None;
        self.status = Status::Queued;
        self.backend = None;
        self.prompt_id = Some(prompt_id.to_owned());
        self.nodes = Nodes::default();
        self.outputs.clear();
        self.text_size = 0;
        self.main_output = None;
        self.socket_outcome = None;
        self.work_done_at = None;
        self.unreachable_since = None;
        self.silent_since = None;
        self.ahead = None;
        self.wait = Some(QueueWait::default());
    }

    /// When it began, for other relays and the next start of this one: of a job that waits to be restarted, when it first did,
    /// by which they know that it has begun.
    pub fn stored_start(&self) -> Option<Timestamp> {
        let before = self.began_before.filter(|_| self.wait.is_some());
        self.started_at.or(before)
    }

    /// Whether it has begun in an earlier attempt: its published status does not go back.
    pub(super) fn began_before(&self) -> bool {
        self.began_before.is_some()
    }
}
