//! [`ClassLosses`]: which workflows were lost with a server while they ran.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use crate::job::{Job, Plan};

/// How many workflows are remembered. Each is forgotten when a job of it completes.
const MAX_CLASSES: usize = 1_000;

/// The last loss of each workflow of which no job has completed since. A workflow is what the jobs have in common whose nodes
/// that run are the same, but for seeds and texts.
#[derive(Debug, Default)]
pub(super) struct ClassLosses {
    by_class: HashMap<u64, Loss>,
}

#[derive(Debug)]
struct Loss {
    backend: String,
    at: Timestamp,
}

impl ClassLosses {
    /// Whether the workflow of a job that ran on `backend` and was lost is itself the cause: it was lost on another one before this
    /// job began. Servers that end together say nothing of what they ran.
    pub(super) fn is_cause(&self, job: &Job, backend: &str) -> bool {
        let last = class(job.plan()).and_then(|class| self.by_class.get(&class));
        last.is_some_and(|last| {
            last.backend != backend && job.started_at().is_some_and(|at| at > last.at)
        })
    }

    /// Records that a job was lost while it ran. On the server that lost one before, it changes nothing.
    pub(super) fn record(&mut self, job: &Job, backend: &str, at: Timestamp) {
        let Some(class) = class(job.plan()) else {
            return;
        };
        if self.by_class.len() >= MAX_CLASSES && !self.by_class.contains_key(&class) {
            let oldest = self.by_class.iter().min_by_key(|(_, loss)| loss.at);
            if let Some(oldest) = oldest.map(|(class, _)| *class) {
                self.by_class.remove(&oldest);
            }
        }
        let is_same = |loss: &Loss| loss.backend == backend;
        if self.by_class.get(&class).is_some_and(is_same) {
            return;
        }
        let backend = backend.to_owned();
        self.by_class.insert(class, Loss { backend, at });
    }

    /// A job has completed: its workflow can be run.
    pub(super) fn completed(&mut self, job: &Job) {
        if self.by_class.is_empty() {
            return;
        }
        if let Some(class) = class(job.plan()) {
            self.by_class.remove(&class);
        }
    }
}

/// What jobs of one workflow have in common; `None` if nothing is known of the graph.
fn class(plan: &Plan) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let mut count = 0;
    for (_, node) in plan.needed() {
        node.signature.hash(&mut hasher);
        count += 1;
    }
    (count > 0).then(|| hasher.finish())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::job::{Event, JobId};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// A job of one sampler with this many steps, which began at a moment.
    fn began(seconds: i64, steps: u64) -> Job {
        let graph =
            serde_json::json!({"3": {"class_type": "KSampler", "inputs": {"steps": steps}}});
        let mut job = Job::new(JobId::parse("job").unwrap(), at(0));
        let plan = Plan::from_graph(graph.as_object().unwrap(), None);
        job.apply(Event::Planned(plan), at(0));
        job.apply(Event::Started, at(seconds));
        job
    }

    /// A job of 20 steps was lost on gpu1 at second 10.
    fn lost() -> ClassLosses {
        let mut losses = ClassLosses::default();
        let job = began(1, 20);
        assert!(!losses.is_cause(&job, "gpu1"));
        losses.record(&job, "gpu1", at(10));
        losses
    }

    #[test]
    fn a_workflow_is_the_cause_if_it_is_lost_on_another_server_afterwards() {
        let losses = lost();
        assert!(losses.is_cause(&began(11, 20), "gpu2"));
        assert!(!losses.is_cause(&began(11, 20), "gpu1"), "the server is");
        assert!(!losses.is_cause(&began(11, 30), "gpu2"), "another one");
        assert!(
            !losses.is_cause(&began(9, 20), "gpu2"),
            "both ended at once"
        );
    }

    #[test]
    fn a_server_that_is_lost_again_and_again_does_not_hide_the_first_time() {
        let mut losses = lost();
        losses.record(&began(11, 20), "gpu1", at(30));
        assert!(losses.is_cause(&began(20, 20), "gpu2"));
    }

    #[test]
    fn a_workflow_that_completes_is_not_the_cause() {
        let mut losses = lost();
        losses.completed(&began(11, 30));
        assert!(losses.is_cause(&began(11, 20), "gpu2"));
        losses.completed(&began(11, 20));
        assert!(!losses.is_cause(&began(11, 20), "gpu2"));
    }

    #[test]
    fn of_too_many_workflows_the_oldest_is_forgotten() {
        let mut losses = lost();
        for count in 1..=MAX_CLASSES as u64 {
            let job = began(20, 20 + count);
            losses.record(&job, "gpu1", at(20 + count as i64));
        }
        assert_eq!(losses.by_class.len(), MAX_CLASSES);
        assert!(
            !losses.is_cause(&began(11, 20), "gpu2"),
            "it was the oldest"
        );
    }
}
