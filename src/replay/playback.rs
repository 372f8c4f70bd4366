//! [`Playback`]: one recording being played once, with the clients' prompts in place of the recorded ones.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::server::sockets::Sockets;
use super::substitution::Substitution;
use super::timeline::{ReceivedFrame, Step, Timeline};

/// A recording being played.
#[derive(Debug)]
pub(super) struct Playback {
    pub(super) timeline: Arc<Timeline>,
    /// The clients' prompts so far, in the order of the recorded ones.
    pub(super) prompts: Vec<PostedPrompt>,
    /// The next prompt began another playback: the rest of the recorded ones will not be posted.
    pub(super) is_abandoned: bool,
    /// The step of a prompt that will not be posted was skipped.
    is_past_last_prompt: bool,
    /// The node that runs, which the greeting of a reconnecting client names.
    pub(super) running_node: Option<String>,
    /// The nodes that the running prompt has executed or is executing.
    pub(super) visited_nodes: Vec<String>,
    /// The client id of a client of the replay, by the recorded client id.
    clients: HashMap<String, String>,
    /// The socket with which a recorded client receives at this point, by its client id.
    listeners: HashMap<String, Listener>,
    /// The client's socket that last received what the recorded socket did, by the latter's index.
    counterparts: HashMap<usize, u64>,
}

/// A recorded socket that receives. Only client sockets opened after the socket `after` can stand for it.
#[derive(Debug, Clone, Copy)]
struct Listener {
    recorded: usize,
    after: u64,
}

/// A client's prompt.
#[derive(Debug)]
pub(super) struct PostedPrompt {
    pub(super) id: String,
    pub(super) client_id: Option<String>,
    pub(super) graph: Value,
    pub(super) extra_data: Value,
    pub(super) number: Value,
    pub(super) outputs: Value,
    pub(super) state: PromptState,
    /// It was rejected, interrupted, deleted or lost, unlike the recorded one, whose remaining steps are skipped.
    pub(super) diverges: bool,
    /// It was interrupted. Until the recorded end of the prompt, recorded `status` messages show a longer queue than
    /// the clients': they are skipped.
    pub(super) skips_status: bool,
    /// Its end was announced.
    pub(super) end_announced: bool,
    /// How many reads of its history must still come too early.
    pub(super) early_reads: u32,
    /// A client has read its history.
    pub(super) history_read: bool,
}

/// Where a prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PromptState {
    Pending,
    Running,
    Finished,
}

impl PostedPrompt {
    /// The prompt as `/queue` and `/history` list it.
    pub(super) fn listed(&self) -> Value {
        json!([
            self.number,
            self.id,
            self.graph,
            self.extra_data,
            self.outputs
        ])
    }

    /// The prompt as `/api/jobs` lists it; `None` if it neither runs nor waits.
    pub(super) fn as_job(&self) -> Option<Value> {
        let status = match self.state {
            PromptState::Pending => "pending",
            PromptState::Running => "in_progress",
            PromptState::Finished => return None,
        };
        Some(json!({
            "id": self.id,
            "status": status,
            "priority": self.number,
            "create_time": self.extra_data["create_time"],
            "outputs_count": 0,
            "previewable_outputs_count": 0,
        }))
    }

    /// Takes the prompt out of the queue, and skips the rest of its recorded steps.
    pub(super) fn diverge(&mut self) {
        self.state = PromptState::Finished;
        self.diverges = true;
    }
}

impl Playback {
    pub(super) fn new(timeline: Arc<Timeline>) -> Playback {
        Playback {
            timeline,
            prompts: Vec::new(),
            is_abandoned: false,
            is_past_last_prompt: false,
            running_node: None,
            visited_nodes: Vec::new(),
            clients: HashMap::new(),
            listeners: HashMap::new(),
            counterparts: HashMap::new(),
        }
    }

    /// Puts a client's prompt in place of the next recorded one.
    pub(super) fn add_prompt(&mut self, prompt: PostedPrompt) {
        let recorded = &self.timeline.prompts[self.prompts.len()].client_id;
        if let (Some(recorded), Some(client_id)) = (recorded, &prompt.client_id) {
            self.clients.insert(recorded.clone(), client_id.clone());
        }
        self.prompts.push(prompt);
    }

    /// The recorded prompt that the next POST stands for.
    pub(super) fn next_prompt(&self) -> Option<usize> {
        let next = self.prompts.len();
        (!self.is_abandoned && next < self.timeline.prompts.len()).then_some(next)
    }

    /// Whether none of its prompts is in the queue.
    pub(super) fn is_idle(&self) -> bool {
        let mut prompts = self.prompts.iter();
        prompts.all(|prompt| prompt.state == PromptState::Finished)
    }

    /// The prompt that runs.
    pub(super) fn running(&self) -> Option<usize> {
        let mut prompts = self.prompts.iter();
        prompts.position(|prompt| prompt.state == PromptState::Running)
    }

    /// Whether `step` is played this time.
    pub(super) fn happens(&self, step: &Step) -> bool {
        if self.is_past_last_prompt && self.is_idle() && step.prompt().is_none() {
            // No client does what the recorded one did next; but a server that is down must restart.
            return *step == Step::Restart;
        }
        match (step, step.prompt()) {
            (Step::Post(k), _) => self.prompts.len() > *k || !self.is_abandoned,
            (_, Some(k)) => self.prompts.get(k).is_some_and(|prompt| !prompt.diverges),
            (Step::Frame(_), None) => !self.prompts.iter().any(|prompt| prompt.skips_status),
            _ => true,
        }
    }

    /// `step` is skipped.
    pub(super) fn skip(&mut self, step: &Step) {
        match step {
            Step::Post(_) => self.is_past_last_prompt = true,
            Step::End(k) => {
                if let Some(prompt) = self.prompts.get_mut(*k) {
                    prompt.skips_status = false;
                }
            }
            _ => {}
        }
    }

    /// The recorded socket opened: from now on its client receives with it.
    pub(super) fn open(&mut self, recorded: usize) {
        let client_id = self.timeline.sockets[recorded].client_id.clone();
        let before = self.listeners.get(&client_id);
        let after = before.and_then(|before| self.counterparts.get(&before.recorded));
        let listener = Listener {
            recorded,
            after: after.copied().unwrap_or(0),
        };
        self.listeners.insert(client_id, listener);
    }

    /// Whether a client has opened a socket that can stand for the recorded one.
    pub(super) fn is_open(&self, recorded: usize, sockets: &Sockets) -> bool {
        let recorded_id = &self.timeline.sockets[recorded].client_id;
        match self.clients.get(recorded_id) {
            Some(client_id) => self.counterpart(recorded, client_id, sockets).is_some(),
            None => true,
        }
    }

    /// The recorded socket closed: the client's socket that stands for it, which must close, too.
    pub(super) fn close(&mut self, recorded: usize, sockets: &Sockets) -> Option<u64> {
        let recorded_id = &self.timeline.sockets[recorded].client_id;
        let client_id = self.clients.get(recorded_id);
        let socket = client_id.and_then(|id| self.counterpart(recorded, id, sockets));
        let socket = socket.or_else(|| self.counterparts.get(&recorded).copied())?;
        self.counterparts.insert(recorded, socket);
        Some(socket)
    }

    /// The clients' sockets that receive a recorded frame.
    pub(super) fn recipients(&mut self, frame: &ReceivedFrame, sockets: &Sockets) -> Vec<u64> {
        let recorded = &self.timeline.sockets[frame.socket];
        let prompt = frame.prompt.and_then(|k| {
            let submitter = self.timeline.prompts[k].client_id.as_ref()?;
            Some((submitter, self.prompts.get(k)?))
        });
        if let Some((_, posted)) = prompt.filter(|(id, _)| **id == recorded.client_id) {
            // Sent to the client that posted the prompt, and to no other.
            let Some(client_id) = &posted.client_id else {
                return Vec::new();
            };
            let socket = match self.clients.get(&recorded.client_id) {
                Some(current) if current == client_id => {
                    self.counterpart(frame.socket, client_id, sockets)
                }
                _ => sockets.registered_as(client_id),
            };
            if let Some(socket) = socket {
                self.counterparts.insert(frame.socket, socket);
            }
            return socket.into_iter().collect();
        }
        // Broadcast. The recording has one copy a socket: each client receives the copy of one recorded socket.
        let recipients: Vec<u64> = sockets
            .registered()
            .filter(|(client_id, socket)| {
                self.broadcast_source(client_id, *socket) == Some(frame.socket)
            })
            .map(|(_, socket)| socket)
            .collect();
        if let (true, Some(socket)) = (recorded.submits, recipients.first()) {
            self.counterparts.insert(frame.socket, *socket);
        }
        recipients
    }

    /// The client's socket that stands for the recorded one, if the recorded client receives with that one now.
    fn counterpart(&self, recorded: usize, client_id: &str, sockets: &Sockets) -> Option<u64> {
        let recorded_id = &self.timeline.sockets[recorded].client_id;
        let listener = self.listeners.get(recorded_id)?;
        sockets
            .registered_as(client_id)
            .filter(|socket| listener.recorded == recorded && *socket > listener.after)
    }

    /// The recorded socket whose broadcasts a client's socket receives.
    fn broadcast_source(&self, client_id: &str, socket: u64) -> Option<usize> {
        let recorded_ids: Vec<&String> = self
            .clients
            .iter()
            .filter(|(recorded, id)| *id == client_id && self.timeline.has_submitter(recorded))
            .map(|(recorded, _)| recorded)
            .collect();
        if recorded_ids.is_empty() {
            // An observer. If the recording has none, it receives what the submitter's socket does.
            let open = self.listeners.values().map(|listener| listener.recorded);
            return self.timeline.observer().or_else(|| open.min());
        }
        let listeners = recorded_ids.iter().filter_map(|id| self.listeners.get(*id));
        listeners
            .filter(|listener| socket > listener.after)
            .map(|listener| listener.recorded)
            .min()
    }

    /// The clients' ids in place of the recorded ones, for messages about prompt `k`.
    pub(super) fn substitution(&self, k: Option<usize>) -> Substitution {
        let mut substitution = Substitution::default();
        for (recorded, client_id) in &self.clients {
            substitution.replace(recorded, client_id);
        }
        if let Some(k) = k
            && let (Some(recorded), Some(posted)) =
                (&self.timeline.prompts[k].id, self.prompts.get(k))
        {
            substitution.replace(recorded, &posted.id);
        }
        substitution
    }

    /// The node that the greeting of a client names: that of its own running prompt.
    pub(super) fn node_of(&self, client_id: &str) -> Option<&str> {
        let running = &self.prompts[self.running()?];
        self.running_node
            .as_deref()
            .filter(|_| running.client_id.as_deref() == Some(client_id))
    }

    /// The history entry of prompt `k`, as recorded, with the client's ids, graph and place in the queue.
    pub(super) fn history_entry(&self, k: usize) -> Value {
        let mut entry = match &self.timeline.prompts[k].history {
            Some(recorded) => self.substitution(Some(k)).value(recorded),
            // The recorded client never read it: we only know that the prompt ended.
            None => {
                json!({"outputs": {}, "status": {"status_str": "success", "completed": true, "messages": []}})
            }
        };
        entry["prompt"] = self.prompts[k].listed();
        entry
    }
}
