//! [`Playback`]: one recording being played once, with the callers' prompts in the recorded ones' places.

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
    /// The callers' prompts so far, in the order of the recorded ones.
    pub(super) posted: Vec<PostedPrompt>,
    /// No caller will post what is missing.
    pub(super) abandoned: bool,
    /// The recording has come to a prompt that nobody posts.
    left: bool,
    /// The node that playbacks, as a reconnecting client is told.
    pub(super) node: Option<String>,
    /// The nodes that the running prompt has come to.
    pub(super) visited: Vec<String>,
    /// The caller's client id for a recorded one.
    clients: HashMap<String, String>,
    /// The socket that a recorded client listens with at this point, by client id.
    listeners: HashMap<String, Listener>,
    /// The caller's socket that last heard what the recorded one did.
    bound: HashMap<usize, u64>,
}

/// A recorded socket that listens, and which callers' sockets can stand for it: those opened after `after`.
#[derive(Debug, Clone, Copy)]
struct Listener {
    label: usize,
    after: u64,
}

/// A caller's prompt.
#[derive(Debug)]
pub(super) struct PostedPrompt {
    pub(super) id: String,
    pub(super) client: Option<String>,
    pub(super) graph: Value,
    pub(super) extra_data: Value,
    pub(super) number: Value,
    pub(super) outputs: Value,
    pub(super) state: PromptState,
    /// It was refused, broken off, deleted or lost: what the recording has of it is not played.
    pub(super) broken: bool,
    /// It was broken off, and what its recorded end does to the queue has been told already.
    pub(super) quiet: bool,
    /// Its end was announced.
    pub(super) announced: bool,
    /// How many reads of its history must still come too early.
    pub(super) early_reads: u32,
    /// A caller has read its history.
    pub(super) learned: bool,
}

/// Where a prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PromptState {
    Pending,
    Running,
    Over,
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

    /// Takes it out of the queue, and the rest of its recording out of the play.
    pub(super) fn break_off(&mut self) {
        self.state = PromptState::Over;
        self.broken = true;
    }
}

impl Playback {
    pub(super) fn new(timeline: Arc<Timeline>) -> Playback {
        Playback {
            timeline,
            posted: Vec::new(),
            abandoned: false,
            left: false,
            node: None,
            visited: Vec::new(),
            clients: HashMap::new(),
            listeners: HashMap::new(),
            bound: HashMap::new(),
        }
    }

    /// Takes a caller's prompt for the next recorded one.
    pub(super) fn take(&mut self, prompt: PostedPrompt) {
        let recorded = self.timeline.prompts[self.posted.len()].client.clone();
        if let (Some(recorded), Some(client)) = (recorded, &prompt.client) {
            self.clients.insert(recorded, client.clone());
        }
        self.posted.push(prompt);
    }

    /// The recorded prompt that the next POST stands for.
    pub(super) fn next(&self) -> Option<usize> {
        let next = self.posted.len();
        (!self.abandoned && next < self.timeline.prompts.len()).then_some(next)
    }

    /// Whether none of its prompts is in the queue.
    pub(super) fn is_idle(&self) -> bool {
        self.posted
            .iter()
            .all(|prompt| prompt.state == PromptState::Over)
    }

    /// Whether `step` happens this time.
    pub(super) fn happens(&self, step: &Step) -> bool {
        if self.left && self.is_idle() && step.prompt().is_none() {
            // What the recorded client did next, nobody does; but a server that is down must come back.
            return *step == Step::Restart;
        }
        match (step, step.prompt()) {
            (Step::Post(k), _) => self.posted.len() > *k || !self.abandoned,
            (_, Some(k)) => self.posted.get(k).is_some_and(|prompt| !prompt.broken),
            // The queue that a `status` tells of is not the callers' after a prompt was broken off.
            (Step::Frame(_), None) => !self.posted.iter().any(|prompt| prompt.quiet),
            _ => true,
        }
    }

    /// `step` does not happen.
    pub(super) fn pass(&mut self, step: &Step) {
        match step {
            Step::Post(_) => self.left = true,
            Step::End(k) => {
                if let Some(prompt) = self.posted.get_mut(*k) {
                    prompt.quiet = false;
                }
            }
            _ => {}
        }
    }

    /// The prompt that playbacks.
    pub(super) fn running(&self) -> Option<usize> {
        self.posted
            .iter()
            .position(|prompt| prompt.state == PromptState::Running)
    }

    /// The ids of the callers for the recorded ones, for what tells of prompt `k`.
    pub(super) fn substitution(&self, k: Option<usize>) -> Substitution {
        let mut substitution = Substitution::default();
        for (recorded, client) in &self.clients {
            substitution.replace(recorded, client);
        }
        if let Some(k) = k
            && let (Some(recorded), Some(posted)) =
                (&self.timeline.prompts[k].id, self.posted.get(k))
        {
            substitution.replace(recorded, &posted.id);
        }
        substitution
    }

    /// The recorded socket `label` opened: from now on it is the one that its client listens with.
    pub(super) fn open(&mut self, label: usize) {
        let client = self.timeline.labels[label].client.clone();
        let before = self.listeners.get(&client).map(|listener| listener.label);
        let after = before
            .and_then(|before| self.bound.get(&before))
            .copied()
            .unwrap_or(0);
        self.listeners.insert(client, Listener { label, after });
    }

    /// Whether a caller's socket is there that can stand for the one that opened as `label`.
    pub(super) fn is_open(&self, label: usize, sockets: &Sockets) -> bool {
        let recorded = &self.timeline.labels[label].client;
        match self.clients.get(recorded) {
            Some(client) => self.socket(label, client, sockets).is_some(),
            None => true,
        }
    }

    /// The recorded socket `label` closed: the caller's socket that stood for it, which must close, too.
    pub(super) fn close(&mut self, label: usize, sockets: &Sockets) -> Option<u64> {
        let recorded = self.timeline.labels[label].client.clone();
        let client = self.clients.get(&recorded);
        let socket = client.and_then(|client| self.socket(label, client, sockets));
        let socket = socket.or_else(|| self.bound.get(&label).copied())?;
        self.bound.insert(label, socket);
        Some(socket)
    }

    /// The sockets that hear this frame, in the callers' world.
    pub(super) fn recipients(&mut self, heard: &ReceivedFrame, sockets: &Sockets) -> Vec<u64> {
        let label = &self.timeline.labels[heard.label];
        let prompt = heard.prompt.and_then(|k| {
            Some((
                self.timeline.prompts[k].client.as_ref()?,
                self.posted.get(k)?,
            ))
        });
        if let Some((_, posted)) = prompt.filter(|(recorded, _)| **recorded == label.client) {
            // Meant for the one client that posted the prompt.
            let Some(client) = &posted.client else {
                return Vec::new();
            };
            let socket = match self.clients.get(&label.client) {
                Some(current) if current == client => self.socket(heard.label, client, sockets),
                _ => sockets.of(client),
            };
            if let Some(socket) = socket {
                self.bound.insert(heard.label, socket);
            }
            return socket.into_iter().collect();
        }
        // Meant for everybody: each hears the copy of the recorded socket that it stands for, once.
        let sockets = sockets
            .registered()
            .filter(|(client, socket)| self.listener(client, *socket) == Some(heard.label));
        let sockets: Vec<u64> = sockets.map(|(_, socket)| socket).collect();
        if let (true, Some(socket)) = (label.addressed, sockets.first()) {
            self.bound.insert(heard.label, *socket);
        }
        sockets
    }

    /// The caller's socket that stands for `label`, if that is the one that its client listens with.
    fn socket(&self, label: usize, client: &str, sockets: &Sockets) -> Option<u64> {
        let listener = self.listeners.get(&self.timeline.labels[label].client)?;
        sockets
            .of(client)
            .filter(|socket| listener.label == label && *socket > listener.after)
    }

    /// The recorded socket whose broadcasts a caller's socket hears.
    fn listener(&self, client: &str, socket: u64) -> Option<usize> {
        let recorded: Vec<&String> = self
            .clients
            .iter()
            .filter(|(recorded, theirs)| *theirs == client && self.timeline.listens(recorded))
            .map(|(recorded, _)| recorded)
            .collect();
        let listeners = |recorded: &&String| {
            self.listeners
                .get(*recorded)
                .filter(|listener| socket > listener.after)
                .map(|listener| listener.label)
        };
        if recorded.is_empty() {
            // An observer. Where the recording has none, it hears what the submitter's socket does.
            let open = self.listeners.values().map(|listener| listener.label);
            return self.timeline.observer().or_else(|| open.min());
        }
        recorded.iter().filter_map(listeners).min()
    }
}

impl Playback {
    /// The node that a client is told on connecting: of its own running prompt.
    pub(super) fn node_of(&self, client: &str) -> Option<&str> {
        let running = &self.posted[self.running()?];
        self.node
            .as_deref()
            .filter(|_| running.client.as_deref() == Some(client))
    }

    /// The history entry of prompt `k`, as recorded, with the caller's ids, graph and place in the queue.
    pub(super) fn history(&self, k: usize) -> Value {
        let posted = &self.posted[k];
        let mut entry = match &self.timeline.prompts[k].history {
            Some(recorded) => self.substitution(Some(k)).value(recorded),
            // Its history was never read in the recording: that it ended is all we know.
            None => {
                json!({"outputs": {}, "status": {"status_str": "success", "completed": true, "messages": []}})
            }
        };
        entry["prompt"] = posted.listed();
        entry
    }
}
