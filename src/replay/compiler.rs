//! [`Compiler`]: makes a [`Timeline`] of a recording, in one pass over what happened, in order.

mod exchanges;
mod frames;
mod participants;

use std::collections::HashSet;

use serde_json::Value;

use super::timeline::{ReceivedFrame, RecordedPrompt, Step, Timeline};
use crate::recording::{Exchange, RecordedFrame, Recording};
use participants::{expected, labels, release};

/// The first release whose server takes the caller's prompt ids.
const HONOURS_IDS_SINCE: [u32; 3] = [0, 3, 60];

/// How long a server stays away whose restart was not recorded: long enough to be noticed.
const AWAY_S: f64 = 1.0;

/// What is known of a prompt at a point of the recording.
#[derive(Default, Clone)]
struct PromptEvidence {
    posted: bool,
    answered_at: f64,
    started: bool,
    ending_at: Option<f64>,
    /// It has ended or is gone.
    over: bool,
    ended: bool,
    /// Non-empty history was read by the recorded client.
    read: bool,
    learned: bool,
}

/// The compiler's state.
pub(super) struct Compiler<'a> {
    recording: &'a Recording,
    timeline: Timeline,
    known: Vec<PromptEvidence>,
    /// The label that was opened last, and where its `Open` is: its greeting (a `status` with `sid`, then perhaps an
    /// `executing`) is made anew at every connect.
    greeting: Option<(usize, usize)>,
    remaining: u64,
    /// Where `queue_remaining` last fell: what fell out had left the queue before that.
    fell: Option<usize>,
    down: bool,
}

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
            RecordedEvent::Request(exchange) => compiler.asked(t, exchange),
            RecordedEvent::Frame(frame) => compiler.frame(t, frame),
            RecordedEvent::Response(exchange) => compiler.answered(t, exchange),
        }
    }
    compiler.finish()
}

impl<'a> Compiler<'a> {
    fn new(recording: &'a Recording) -> Compiler<'a> {
        let prompts: Vec<RecordedPrompt> = recording
            .prompts()
            .map(|post| expected(recording, post))
            .collect();
        let version = release(&recording.meta.comfyui_version);
        let stats = recording
            .exchanges
            .iter()
            .find(|exchange| exchange.is("GET", "/system_stats"));
        Compiler {
            recording,
            known: vec![PromptEvidence::default(); prompts.len()],
            timeline: Timeline {
                labels: labels(recording, &prompts),
                prompts,
                system_stats: stats.map_or(Value::Null, |exchange| exchange.response.clone()),
                honours_ids: version.is_some_and(|version| version >= HONOURS_IDS_SINCE),
                stamped: version.is_some(),
                ..Timeline::default()
            },
            greeting: None,
            remaining: 0,
            fell: None,
            down: false,
        }
    }

    fn push(&mut self, t: f64, step: Step) {
        self.timeline.steps.push((t, step));
    }

    /// The prompt of that id: the first that has not ended, of those that share it.
    fn prompt(&self, id: &str) -> Option<usize> {
        let of_id = |k: &usize| {
            self.known[*k].posted && self.timeline.prompts[*k].id.as_deref() == Some(id)
        };
        let mut all = (0..self.known.len()).filter(of_id);
        all.clone()
            .find(|k| !self.known[*k].over)
            .or_else(|| all.next_back())
    }

    /// The prompt of that id and place in the queue.
    fn numbered(&self, id: &str, number: &Value) -> Option<usize> {
        (0..self.known.len()).find(|k| {
            let prompt = &self.timeline.prompts[*k];
            self.known[*k].posted
                && prompt.id.as_deref() == Some(id)
                && prompt.answer["number"].as_f64() == number.as_f64()
        })
    }

    fn running(&self) -> Option<usize> {
        (0..self.known.len()).find(|k| self.known[*k].started && !self.known[*k].over)
    }

    fn start(&mut self, t: f64, k: usize) {
        if !self.known[k].started && !self.known[k].over {
            self.known[k].started = true;
            self.push(t, Step::Start(k));
        }
    }

    /// The prompt is known to have ended. If the queue was seen to shrink since its last sign of incarnation, it was then:
    /// whoever hears of the shorter queue and asks must find the prompt gone.
    fn end(&mut self, t: f64, k: usize) {
        if self.known[k].over {
            return;
        }
        self.start(t, k);
        self.known[k].over = true;
        self.known[k].ended = true;
        let fell = self.fell.take().filter(|fell| {
            !self.timeline.steps[*fell..]
                .iter()
                .any(|(_, step)| is_of(step, k))
        });
        let at = fell.unwrap_or(self.timeline.steps.len());
        let t = self.timeline.steps.get(at).map_or(t, |(t, _)| *t);
        self.timeline.steps.insert(at, (t, Step::End(k)));
        if self.timeline.prompts[k].early_reads > 0 {
            self.timeline.steps.insert(at, (t, Step::Gap(k)));
        }
    }

    /// Before a deed of the client that takes something away, callers must have learned what the client had.
    fn learn(&mut self, t: f64) {
        for k in 0..self.known.len() {
            if self.known[k].read && !self.known[k].learned {
                self.known[k].learned = true;
                self.push(t, Step::Learned(k));
            }
        }
    }

    fn down_since(&self) -> Option<f64> {
        let kill = self
            .timeline
            .steps
            .iter()
            .rev()
            .find(|(_, step)| *step == Step::Kill);
        kill.filter(|_| self.down).map(|(t, _)| *t)
    }

    fn up(&mut self, t: f64) {
        if self.down {
            self.down = false;
            self.push(t, Step::Restart);
        }
    }

    fn finish(mut self) -> Timeline {
        if let Some(since) = self.down_since() {
            self.up(since + AWAY_S);
        }
        // A reconnect is waited for, and only where it hears something of a prompt.
        let Timeline { steps, labels, .. } = &mut self.timeline;
        let mut hears = HashSet::new();
        for (_, step) in steps.iter_mut().rev() {
            match step {
                Step::Frame(ReceivedFrame {
                    label,
                    prompt: Some(_),
                    ..
                }) => {
                    hears.insert(*label);
                }
                Step::Open { label, awaited, .. } => {
                    let again = labels[..*label]
                        .iter()
                        .any(|earlier| earlier.client == labels[*label].client);
                    *awaited = again && hears.contains(label);
                }
                _ => {}
            }
        }
        self.timeline
    }
}

/// Everything that happened, in order. A request's start comes before a frame of the same moment, its end after.
fn recorded_events(recording: &Recording) -> Vec<(f64, RecordedEvent<'_>)> {
    let mut recorded_events: Vec<(f64, RecordedEvent<'_>)> = Vec::new();
    recorded_events.extend(
        recording
            .exchanges
            .iter()
            .map(|exchange| (exchange.t, RecordedEvent::Request(exchange))),
    );
    recorded_events.extend(
        recording
            .frames
            .iter()
            .map(|frame| (frame.t, RecordedEvent::Frame(frame))),
    );
    recorded_events.extend(
        recording
            .exchanges
            .iter()
            .map(|exchange| (exchange.t_end, RecordedEvent::Response(exchange))),
    );
    recorded_events.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    recorded_events
}

fn is_of(step: &Step, k: usize) -> bool {
    match step {
        Step::Start(of) | Step::Ending(of) | Step::Post(of) => *of == k,
        Step::Frame(heard) => heard.prompt == Some(k),
        _ => false,
    }
}
