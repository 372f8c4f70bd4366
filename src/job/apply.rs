//! How events change a job.

use jiff::Timestamp;

use super::{
    Bar, EndSource, Event, History, Job, JobError, LoopRounds, NodeState, Outcome, Output, Plan,
    QueueWait, Reason, Report, Status,
};

/// How many files of a job are kept, so that no server can fill the memory: an hour of video in single frames.
const MAX_OUTPUTS: usize = 100_000;

/// How many bytes of texts of a job are kept: they are in its final state, which goes to every subscriber.
const MAX_TEXTS: usize = 64 << 10;

impl Job {
    /// Applies an event, and returns whether subscribers would see a difference. A final state never
    /// changes.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> bool {
        if self.status.is_final() {
            return false;
        }
        match event {
            Event::Planned(plan) => self.set_plan(plan),
            Event::Queued { ahead } => {
                let changed =
                    self.status == Status::Queued && ahead.is_some() && self.ahead != ahead;
                if changed {
                    self.ahead = ahead;
                }
                changed
            }
            Event::Waits(wait) => self.set_wait(wait),
            Event::Started => self.start(now),
            Event::StartedAt(at) => self.start(at.min(now)),
            Event::Cached { nodes } => self.start(now) | self.nodes.cached(nodes),
            Event::NodeStarted { node, display } => {
                self.retract_work_done();
                self.start(now)
                    | self.nodes.started(node, display, &self.plan, now)
                    | self.nodes.infer_passed(&self.plan)
            }
            Event::Bar { node, value, max } => {
                self.retract_work_done();
                self.start(now)
                    | self.nodes.bar(node, Bar { value, max }, &self.plan, now)
                    | self.nodes.infer_passed(&self.plan)
            }
            Event::Nodes(reports) => {
                self.start(now)
                    | self.nodes.report(reports, &self.plan, now)
                    | self.nodes.infer_passed(&self.plan)
            }
            Event::Partner {
                node,
                status,
                remaining,
            } => self.add_partner(&node) | self.nodes.set_service(&node, status, remaining, now),
            Event::Rounds { node, rounds } => self.set_rounds(&node, rounds),
            Event::Outputs(outputs) => self.add_outputs(outputs),
            Event::WorkDone => {
                self.work_done_at.get_or_insert(now);
                false
            }
            Event::Ended(outcome) => {
                let changed = self.socket_outcome.is_none();
                self.socket_outcome.get_or_insert(outcome);
                self.work_done_at.get_or_insert(now);
                changed
            }
            Event::History(history) => self.apply_history(history, now),
            Event::Refused(error) => self.end(Outcome::Failed(error), EndSource::Queue, now),
            Event::Vanished(reason) => self.vanish(reason, now),
            Event::CancelRequested => !std::mem::replace(&mut self.is_cancelling, true),
            Event::Reachable(reachable) => self.set_reachable(reachable, now),
            Event::Silence(since) => std::mem::replace(&mut self.silent_since, since) != since,
            Event::StepsHidden => !std::mem::replace(&mut self.has_hidden_steps, true),
            Event::Reported(report) => self.apply_report(report, now),
            Event::Closed(outcome) => self.end(outcome, EndSource::Relay, now),
        }
    }

    fn set_wait(&mut self, wait: QueueWait) -> bool {
        match &mut self.wait {
            Some(known) if *known != wait => {
                *known = wait;
                true
            }
            _ => false,
        }
    }

    fn set_plan(&mut self, mut plan: Plan) -> bool {
        let partners = self.nodes.partners();
        partners.for_each(|id| plan.set_partner(id));
        for (start, rounds) in self.nodes.loops() {
            plan.set_rounds(start, rounds.all);
        }
        let changed = self.plan != plan && !plan.is_empty();
        if changed {
            self.plan = plan;
            self.nodes.read_percentages(&self.plan);
            self.nodes.infer_passed_again(&self.plan);
        }
        changed
    }

    fn add_partner(&mut self, run: &str) -> bool {
        let is_new = self.nodes.add_partner(run);
        if is_new {
            self.plan.set_partner(run);
            self.nodes.read_percentages(&self.plan);
        }
        is_new
    }

    fn set_reachable(&mut self, reachable: bool, now: Timestamp) -> bool {
        let changed = self.unreachable_since.is_none() != reachable;
        if changed {
            self.unreachable_since = (!reachable).then_some(now);
        }
        changed
    }

    fn set_rounds(&mut self, run: &str, rounds: LoopRounds) -> bool {
        let changed = self.nodes.set_rounds(run, rounds, &self.plan);
        for (start, rounds) in self.nodes.loops() {
            self.plan.set_rounds(start, rounds.all);
        }
        changed
    }

    fn start(&mut self, now: Timestamp) -> bool {
        let changed = self.status == Status::Queued;
        if changed {
            self.status = Status::Processing;
            self.started_at = Some(now);
            self.ahead = None;
        }
        changed
    }

    /// A node runs, so [`Event::WorkDone`] was about another prompt. An outcome stays: it names its
    /// prompt.
    fn retract_work_done(&mut self) {
        if self.socket_outcome.is_none() {
            self.work_done_at = None;
        }
    }

    fn add_outputs(&mut self, outputs: Vec<Output>) -> bool {
        let before = self.outputs.len();
        for mut output in outputs {
            // The history repeats what the socket has sent.
            if self.outputs.len() >= MAX_OUTPUTS || self.outputs.contains(&output) {
                continue;
            }
            if self.text_size + output.text_size() > MAX_TEXTS {
                output = output.without_content();
            }
            self.text_size += output.text_size();
            self.outputs.insert(output);
        }
        self.outputs.len() > before
    }

    /// The entry's messages decide, then what the socket reported, then the entry's status word, which
    /// can be stale. Servers of 2023 have neither, but only prompts that succeeded have outputs there.
    fn apply_history(&mut self, history: History, now: Timestamp) -> bool {
        let by_outputs = || {
            if history.produced {
                Outcome::Completed
            } else {
                Outcome::Failed(JobError::without_outputs())
            }
        };
        let outcome = history
            .messages
            .or(self.socket_outcome.take())
            .or(history.word)
            .unwrap_or_else(by_outputs);
        self.add_outputs(history.outputs);
        let mut ended_at = now;
        if self.started_at.is_none() {
            // Nothing was received of it, so only the history knows when it ran.
            self.started_at = history.started_at.map(|at| at.min(now));
            ended_at = history.ended_at.map_or(now, |at| at.min(now));
        }
        self.end(outcome, EndSource::History, ended_at)
    }

    fn vanish(&mut self, reason: Reason, now: Timestamp) -> bool {
        let (outcome, source) = match (self.socket_outcome.take(), reason) {
            (Some(outcome), _) => (outcome, EndSource::Ws),
            (None, Reason::Deleted) => (Outcome::Cancelled, EndSource::Queue),
            (None, Reason::Forgotten) => (Outcome::Failed(JobError::lost()), EndSource::Queue),
            (None, Reason::LostTwice) => {
                (Outcome::Failed(JobError::lost_twice()), EndSource::Queue)
            }
        };
        self.end(outcome, source, now)
    }

    fn apply_report(&mut self, mut report: Report, now: Timestamp) -> bool {
        if report.status != Status::Queued {
            self.start(now);
        }
        let outcome = match report.status {
            Status::Queued | Status::Processing => None,
            Status::Completed => Some(Outcome::Completed),
            Status::Failed => Some(Outcome::Failed(JobError::reported(report.error.as_deref()))),
            Status::Cancelled => Some(Outcome::Cancelled),
        };
        // An output that was reported once stays, as those of ComfyUI do.
        if let Some((before, _)) = self.report.take() {
            report.output_path = report.output_path.or(before.output_path);
        }
        self.report = Some((report, now));
        if let Some(outcome) = outcome {
            self.end(outcome, EndSource::Producer, now);
        }
        true
    }

    fn end(&mut self, outcome: Outcome, source: EndSource, now: Timestamp) -> bool {
        let (status, nodes_end) = match outcome {
            Outcome::Completed => (Status::Completed, NodeState::Finished),
            Outcome::Cancelled => (Status::Cancelled, NodeState::Interrupted),
            Outcome::Failed(error) => {
                self.error = Some(error);
                (Status::Failed, NodeState::Failed)
            }
        };
        self.status = status;
        self.wait = None;
        self.is_cancelling = false;
        self.nodes.close(nodes_end, now);
        self.ended_at = Some(now);
        self.work_done_at.get_or_insert(now);
        self.end_source = Some(source);
        self.ahead = None;
        true
    }
}
