//! [`compile`]: makes a [`Timeline`] of a recording, in one pass over its events in order.

mod exchanges;
mod frames;
mod participants;

use std::collections::HashSet;

use serde_json::Value;

use super::timeline::{ReceivedFrame, RecordedPrompt, Step, Timeline};
use crate::job::ImageFile;
use crate::recording::{Exchange, RecordedFrame, Recording};
use participants::{prompt, release, sockets};

/// The first release whose server uses the prompt ids that clients send.
const CLIENT_IDS_SINCE: [u32; 3] = [0, 3, 60];

/// The first release whose server lists jobs without their graphs.
const JOB_LIST_SINCE: [u32; 3] = [0, 5, 1];

/// The first release whose server has `POST /api/jobs/{id}/cancel`.
const CANCELS_BY_ID_SINCE: [u32; 3] = [0, 25, 0];

/// How long a server stays down if its restart was not recorded, in seconds: long enough for clients to notice.
const DOWNTIME_S: f64 = 1.0;

/// What the events up to one point of the recording show of a prompt.
#[derive(Default, Clone)]
struct PromptEvidence {
    posted: bool,
    /// When the response to its POST came.
    responded_at: f64,
    started: bool,
    end_announced_at: Option<f64>,
    /// It is neither running nor queued any more.
    finished: bool,
    /// It finished by running to its end.
    ended: bool,
    /// The recorded client has read its history entry.
    history_read: bool,
    /// A [`Step::HistoryRead`] waits for clients to have read it, too.
    history_awaited: bool,
}

/// The state of the pass over a recording.
struct Compiler<'a> {
    recording: &'a Recording,
    timeline: Timeline,
    /// Parallel to `timeline.prompts`.
    evidence: Vec<PromptEvidence>,
    /// The socket that was opened last, and the index of its [`Step::Open`]. The greeting that follows (a `status` with
    /// `sid`, then perhaps an `executing`) is not played: the replay makes one at every connect.
    greeting: Option<(usize, usize)>,
    /// The last `queue_remaining`.
    remaining: u64,
    /// The step at which `queue_remaining` last fell: the prompt that it lost had left the queue before that step.
    fell_at: Option<usize>,
    is_down: bool,
}

/// Something that happened during a recording.
enum RecordedEvent<'a> {
    Request(&'a Exchange),
    Frame(&'a RecordedFrame),
    Response(&'a Exchange),
}

/// The timeline of `recording`.
pub(super) fn compile(recording: &Recording) -> Timeline {
    let mut compiler = Compiler::new(recording);
    for (t, event) in recorded_events(recording) {
        match event {
            RecordedEvent::Request(exchange) => compiler.request(t, exchange),
            RecordedEvent::Frame(frame) => compiler.frame(t, frame),
            RecordedEvent::Response(exchange) => compiler.response(t, exchange),
        }
    }
    compiler.finish()
}

impl<'a> Compiler<'a> {
    fn new(recording: &'a Recording) -> Compiler<'a> {
        let prompts: Vec<RecordedPrompt> = recording
            .prompts()
            .map(|post| prompt(recording, post))
            .collect();
        let version = release(&recording.meta.comfyui_version);
        let stats = recording
            .exchanges
            .iter()
            .find(|exchange| exchange.is("GET", "/system_stats"));
        let inputs = recording.inputs.iter();
        let inputs = inputs.filter_map(|(name, input)| Some((ImageFile::parse(name)?, *input)));
        Compiler {
            recording,
            evidence: vec![PromptEvidence::default(); prompts.len()],
            timeline: Timeline {
                sockets: sockets(recording, &prompts),
                prompts,
                system_stats: stats.map_or(Value::Null, |exchange| exchange.response.clone()),
                uses_client_ids: version.is_some_and(|version| version >= CLIENT_IDS_SINCE),
                lists_jobs: version.is_some_and(|version| version >= JOB_LIST_SINCE),
                cancels_by_id: version.is_some_and(|version| version >= CANCELS_BY_ID_SINCE),
                has_timestamps: version.is_some(),
                inputs: inputs.collect(),
                ..Timeline::default()
            },
            greeting: None,
            remaining: 0,
            fell_at: None,
            is_down: false,
        }
    }

    fn push(&mut self, t: f64, step: Step) {
        self.timeline.steps.push((t, step));
    }

    /// The prompt with that id: of several, the first that has not finished, else the last.
    fn prompt(&self, id: &str) -> Option<usize> {
        let has_id = |k: &usize| {
            self.evidence[*k].posted && self.timeline.prompts[*k].id.as_deref() == Some(id)
        };
        let mut all = (0..self.evidence.len()).filter(has_id);
        all.clone()
            .find(|k| !self.evidence[*k].finished)
            .or_else(|| all.next_back())
    }

    /// The prompt with that id and number (its place in the queue).
    fn numbered_prompt(&self, id: &str, number: &Value) -> Option<usize> {
        (0..self.evidence.len()).find(|k| {
            let prompt = &self.timeline.prompts[*k];
            self.evidence[*k].posted
                && prompt.id.as_deref() == Some(id)
                && prompt.response["number"].as_f64() == number.as_f64()
        })
    }

    fn running(&self) -> Option<usize> {
        let mut evidence = self.evidence.iter();
        evidence.position(|evidence| evidence.started && !evidence.finished)
    }

    fn start(&mut self, t: f64, k: usize) {
        if !self.evidence[k].started && !self.evidence[k].finished {
            self.evidence[k].started = true;
            self.push(t, Step::Start(k));
        }
    }

    /// Adds the end of a prompt that is known to have ended. If the queue shrank after the prompt's last step, the end
    /// goes before that: a client that receives the shorter queue and reads the history must find the prompt there.
    fn end(&mut self, t: f64, k: usize) {
        if self.evidence[k].finished {
            return;
        }
        self.start(t, k);
        self.evidence[k].finished = true;
        self.evidence[k].ended = true;
        let fell_at = self.fell_at.take().filter(|fell_at| {
            let mut later = self.timeline.steps[*fell_at..].iter();
            !later.any(|(_, step)| shows_unfinished(step, k))
        });
        let at = fell_at.unwrap_or(self.timeline.steps.len());
        let t = self.timeline.steps.get(at).map_or(t, |(t, _)| *t);
        self.timeline.steps.insert(at, (t, Step::End(k)));
        if self.timeline.prompts[k].early_reads > 0 {
            self.timeline.steps.insert(at, (t, Step::EarlyReads(k)));
        }
    }

    /// Before the recorded client, or the server's death, takes something away: clients must have read the history that
    /// the recorded client had read.
    fn await_history_reads(&mut self, t: f64) {
        for k in 0..self.evidence.len() {
            if self.evidence[k].history_read && !self.evidence[k].history_awaited {
                self.evidence[k].history_awaited = true;
                self.push(t, Step::HistoryRead(k));
            }
        }
    }

    fn down_since(&self) -> Option<f64> {
        let mut steps = self.timeline.steps.iter().rev();
        let kill = steps.find(|(_, step)| *step == Step::Kill);
        kill.filter(|_| self.is_down).map(|(t, _)| *t)
    }

    fn restart(&mut self, t: f64) {
        if self.is_down {
            self.is_down = false;
            self.push(t, Step::Restart);
        }
    }

    fn finish(mut self) -> Timeline {
        if let Some(since) = self.down_since() {
            self.restart(since + DOWNTIME_S);
        }
        // Wait for a client to reconnect only if its new socket receives something about a prompt.
        let Timeline { steps, sockets, .. } = &mut self.timeline;
        let mut receives = HashSet::new();
        for (_, step) in steps.iter_mut().rev() {
            match step {
                Step::Frame(ReceivedFrame {
                    socket,
                    prompt: Some(_),
                    ..
                }) => {
                    receives.insert(*socket);
                }
                Step::Open {
                    socket, awaited, ..
                } => {
                    let is_reconnect = sockets[..*socket]
                        .iter()
                        .any(|earlier| earlier.client_id == sockets[*socket].client_id);
                    *awaited = is_reconnect && receives.contains(socket);
                }
                _ => {}
            }
        }
        self.timeline
    }
}

/// Everything that happened, in order. At the same time, requests come before frames, and frames before responses.
fn recorded_events(recording: &Recording) -> Vec<(f64, RecordedEvent<'_>)> {
    let exchanges = &recording.exchanges;
    let mut events: Vec<(f64, RecordedEvent<'_>)> = Vec::new();
    events.extend(exchanges.iter().map(|e| (e.t, RecordedEvent::Request(e))));
    events.extend(
        recording
            .frames
            .iter()
            .map(|frame| (frame.t, RecordedEvent::Frame(frame))),
    );
    events.extend(
        exchanges
            .iter()
            .map(|e| (e.t_end, RecordedEvent::Response(e))),
    );
    // Stable: keeps the order of events of the same time.
    events.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    events
}

/// Whether a step shows that the prompt had not left the queue yet.
fn shows_unfinished(step: &Step, k: usize) -> bool {
    match step {
        Step::Start(of) | Step::EndAnnounced(of) | Step::Post(of) => *of == k,
        Step::Frame(frame) => frame.prompt == Some(k),
        _ => false,
    }
}
