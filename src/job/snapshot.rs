//! The state of a job as subscribers receive it.

use jiff::Timestamp;

use super::nodes::{Bar, NodeCounts};
use super::progress::{WAITING_FOR_SERVER, in_milliseconds, whole_seconds};
use super::{
    EndSource, Job, NodeView, NodesView, Outcome, Output, Progress, QueueWait, Remaining, Status,
    text,
};

/// The longest message of a producer, in characters.
const MAX_MESSAGE: usize = 200;

/// How many outputs the states of a job that runs hold at most.
const RUNNING_OUTPUTS: usize = 20;

impl Job {
    /// The next state for subscribers, with the next number. Its progress is at least that of the
    /// state before.
    ///
    /// `fraction` is the share of the job's time that has passed, 0 to 1; `remaining` is `None` without
    /// evidence.
    pub fn publish(
        &mut self,
        fraction: f64,
        remaining: Option<Remaining>,
        now: Timestamp,
    ) -> Progress {
        self.seq += 1;
        if fraction.is_finite() {
            self.highest_fraction = self.highest_fraction.max(fraction.clamp(0.0, 1.0));
        }
        self.progress(remaining, now)
    }

    /// The state that was published last, as of `now`.
    pub fn progress(&self, remaining: Option<Remaining>, now: Timestamp) -> Progress {
        let interval = remaining.and_then(|remaining| remaining.interval);
        Progress {
            job_id: self.id.clone(),
            status: self.published_status(),
            progress: self.percent(),
            estimated_remaining: remaining.map(|remaining| remaining.whole_seconds()),
            estimated_low: interval.map(|(low, _)| whole_seconds(low)),
            estimated_high: interval.map(|(_, high)| whole_seconds(high)),
            estimated_completion: remaining
                .filter(|_| !self.status.is_final())
                .and_then(|remaining| remaining.completion(now)),
            estimated_start: remaining
                .filter(|_| self.status == Status::Queued)
                .and_then(|remaining| remaining.start(now)),
            cancelling: self.is_cancelling.then_some(true),
            waiting_for: self.wait.as_ref().map(|_| WAITING_FOR_SERVER),
            attempt: (self.attempt > 1).then_some(self.attempt),
            message: self.message(now),
            output_path: self.output_path(),
            error: self.error.as_ref().map(|error| error.message.clone()),
            timestamp: in_milliseconds(now),
            prompt_id: self.prompt_id.clone(),
            seq: self.seq,
            node: self.node_view(),
            nodes: self.nodes_view(),
            queue_position: self.queue_position(),
            elapsed: self.elapsed(now),
            outputs: self.published_state_outputs(),
            outputs_total: Some(self.outputs.len()).filter(|&total| total > 0),
            backend: self.backend.clone().or_else(|| self.planned_backend()),
            tags: self.tags.clone(),
        }
    }

    /// How far it is, 0 to 100: 100 only if it has completed.
    pub fn percent(&self) -> u8 {
        // 0.57 · 100 is slightly less than 57 in floating point.
        let percent = (self.highest_fraction * 100.0 + 1e-9).floor() as u8;
        if self.status == Status::Completed {
            100
        } else {
            percent.min(99)
        }
    }

    /// Everything that it has made so far, each with its address at the relay.
    pub fn published_outputs(&self) -> Vec<Output> {
        self.published_from(0)
    }

    /// The same as its state has it. Only the final state has texts: the others are sent ten times a second.
    fn published_state_outputs(&self) -> Vec<Output> {
        let mut outputs = self.published_from(self.older_outputs());
        if !self.status.is_final() {
            outputs.iter_mut().for_each(|output| output.text = None);
        }
        outputs
    }

    /// What is stored with its state, each file with its address at ComfyUI.
    pub fn stored_outputs(&self) -> Vec<Output> {
        self.outputs
            .iter()
            .skip(self.older_outputs())
            .cloned()
            .collect()
    }

    fn published_from(&self, first: usize) -> Vec<Output> {
        let outputs = self.outputs.iter().enumerate().skip(first);
        let published = outputs.map(|(number, output)| Output {
            url: Output::address(&self.id, number),
            ..output.clone()
        });
        published.collect()
    }

    /// How many outputs the states of a job that runs leave out: they hold only the newest.
    fn older_outputs(&self) -> usize {
        if self.status.is_final() {
            0
        } else {
            self.outputs.len().saturating_sub(RUNNING_OUTPUTS)
        }
    }

    fn message(&self, now: Timestamp) -> String {
        if let Some(message) = self
            .report
            .as_ref()
            // What its producer reported last is not how it ended.
            .filter(|_| self.end_source != Some(EndSource::Relay))
            .and_then(|(report, _)| report.message.as_deref())
        {
            return text::short(message, MAX_MESSAGE);
        }
        if let Some(since) = self.unreachable_since
            && !self.status.is_final()
        {
            return text::unreachable(since);
        }
        if let Some(since) = self.silent_since
            && self.status == Status::Processing
            && self.socket_outcome.is_none()
            && !self.is_cancelling
        {
            return text::silent(now.duration_since(since));
        }
        match self.status {
            Status::Queued | Status::Processing if self.is_cancelling => "Cancelling".to_owned(),
            Status::Queued => self.queued_message(),
            Status::Processing if self.socket_outcome == Some(Outcome::Cancelled) => {
                "Stopping".to_owned()
            }
            Status::Processing if self.socket_outcome.is_some() => "Finishing".to_owned(),
            Status::Processing if self.report.is_some() => "Running".to_owned(),
            Status::Processing if self.attempt > 1 && self.nodes.begun() == 0 => {
                text::restarted(self.backend.as_deref())
            }
            Status::Processing if self.has_hidden_steps && self.nodes.current().is_none() => {
                text::HIDDEN_STEPS.to_owned()
            }
            Status::Processing => text::running(&self.nodes, &self.plan),
            Status::Completed => "Completed".to_owned(),
            Status::Failed => "Failed".to_owned(),
            Status::Cancelled => "Cancelled".to_owned(),
        }
    }

    fn queued_message(&self) -> String {
        match &self.wait {
            Some(QueueWait {
                reason: Some(reason),
                ..
            }) => text::waiting(reason),
            Some(wait) if self.attempt > 1 => text::to_restart(wait.ahead),
            Some(wait) => text::queued(wait.ahead),
            None if self.attempt > 1 => text::restarted(self.backend.as_deref()),
            None => text::queued(self.ahead),
        }
    }

    /// Its status as it is published: a job that is to run again does not go back to `queued`.
    pub fn published_status(&self) -> Status {
        if self.status == Status::Queued && self.began_before() {
            return Status::Processing;
        }
        self.status
    }

    fn planned_backend(&self) -> Option<String> {
        let backend = self.wait.as_ref()?.backend.as_ref()?;
        Some(backend.to_string())
    }

    fn output_path(&self) -> Option<String> {
        let reported = self
            .report
            .as_ref()
            .and_then(|(report, _)| report.output_path.clone());
        let number = self.main_output_number();
        let main = number.and_then(|number| self.outputs.get_index(number));
        reported.or_else(|| main.map(Output::path))
    }

    /// The place of the first picture or video that was saved, else the first sound, text or other file, by the order of the graph:
    /// the same in each run, whichever node was the fastest.
    pub fn main_output_number(&self) -> Option<usize> {
        if self.main_output.is_some() {
            return self.main_output;
        }
        let results = self.outputs.iter().enumerate();
        let results = results.filter(|(_, output)| output.is_result());
        let main =
            results.min_by_key(|(_, output)| (output.medium(), self.plan.position(&output.node)));
        main.map(|(number, _)| number)
    }

    fn node_view(&self) -> Option<NodeView> {
        let current = self
            .nodes
            .current()
            .filter(|_| self.status == Status::Processing)?;
        let planned = self.plan.node(current.id);
        let steps = current.bar.and_then(Bar::steps);
        Some(NodeView {
            id: current.id.to_owned(),
            class_type: planned.map(|node| node.class_type.clone()),
            title: planned.and_then(|node| node.title.clone()),
            step: steps.map(|(step, _)| step),
            steps: steps.map(|(_, steps)| steps),
        })
    }

    /// `None` for a job that completed before anything was received of it: which of its nodes ran is not known.
    fn nodes_view(&self) -> Option<NodesView> {
        if self.status == Status::Completed && self.nodes.begun() == 0 {
            return None;
        }
        let NodeCounts {
            done,
            cached,
            total,
        } = self.nodes.counts(&self.plan);
        (total > 0).then_some(NodesView {
            done,
            cached,
            total,
        })
    }

    fn queue_position(&self) -> Option<usize> {
        match self.status {
            Status::Queued => {
                let ahead = self.wait.as_ref().map_or(self.ahead, |wait| wait.ahead);
                ahead.map(|ahead| ahead.max(1))
            }
            Status::Processing => Some(0),
            Status::Completed | Status::Failed | Status::Cancelled => None,
        }
    }
}
