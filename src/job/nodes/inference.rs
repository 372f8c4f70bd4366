//! What is inferred of a job that runs when the relay starts: what ran before was not received.

use std::collections::HashSet;

use jiff::Timestamp;

use super::Nodes;
use super::resumption::Resumption;
use crate::job::{NodeState, Plan};

impl Nodes {
    /// Records that the job has been running since then, and that nothing of it was received yet.
    pub(in crate::job) fn resume(&mut self, started_at: Timestamp) {
        self.resumption = Some(Resumption {
            started_at,
            is_over: false,
            runs: 0,
        });
    }

    /// Whether the job goes on after a restart, and nothing has shown yet which of its nodes run.
    pub fn is_resuming(&self) -> bool {
        self.resumption.as_ref().is_some_and(|one| !one.is_over)
    }

    /// When a run that is received now has begun at the earliest, if it may have begun long ago.
    pub(super) fn earliest_start(&self) -> Option<Timestamp> {
        let resumption = self.resumption.as_ref()?;
        (!resumption.is_over).then_some(resumption.started_at)
    }

    /// Infers that the nodes have run on which those depend that have begun. Returns whether that changed
    /// anything.
    ///
    /// Only after a restart: otherwise a node may begin before the inputs that it asks for only if it needs
    /// them. One that was inferred wrongly counts as running when it begins.
    pub(in crate::job) fn infer_passed(&mut self, plan: &Plan) -> bool {
        let Some(resumption) = &mut self.resumption else {
            return false;
        };
        resumption.is_over |= !self.runs.is_empty();
        if plan.is_empty() || resumption.runs == self.runs.len() {
            return false;
        }
        resumption.runs = self.runs.len();
        let begun = self.displays.iter();
        let begun = begun.filter(|(_, display)| display.state != Some(NodeState::Cached));
        let mut reached: HashSet<&str> = begun.map(|(id, _)| id.as_str()).collect();
        let mut passed = Vec::new();
        for (id, node) in plan.nodes().rev().filter(|(_, node)| node.needed) {
            let mut consumers = node.consumers.iter();
            let is_source = consumers.any(|consumer| reached.contains(consumer.as_str()));
            if is_source && reached.insert(id) {
                passed.push(id);
            }
        }
        let mut changed = false;
        for id in passed {
            let display = self.displays.entry(id.to_owned()).or_default();
            changed |= display.state.is_none();
            display.state.get_or_insert(NodeState::Finished);
        }
        changed
    }

    /// The same, by another plan.
    pub(in crate::job) fn infer_passed_again(&mut self, plan: &Plan) {
        if let Some(resumption) = &mut self.resumption {
            resumption.runs = 0;
        }
        self.infer_passed(plan);
    }

    /// Whether a node of the graph that has no run of its own is done or cached.
    pub fn has_passed(&self, id: &str) -> bool {
        let display = self.displays.get(id);
        let state = display.and_then(|display| display.state);
        matches!(state, Some(NodeState::Finished | NodeState::Cached))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use crate::job::nodes::NodeCounts;
    use crate::job::{Event, Job, JobId, NodeReport, StoredJob};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// 1 and 2 feed 3, 3 feeds 4; 5 feeds 6, and 7 takes 4 and 6.
    fn plan() -> Plan {
        let text = r#"{
            "1": {"class_type": "A", "inputs": {}},
            "2": {"class_type": "A", "inputs": {}},
            "3": {"class_type": "B", "inputs": {"a": ["1", 0], "b": ["2", 0]}},
            "4": {"class_type": "B", "inputs": {"a": ["3", 0]}},
            "5": {"class_type": "A", "inputs": {}},
            "6": {"class_type": "B", "inputs": {"a": ["5", 0]}},
            "7": {"class_type": "C", "inputs": {"a": ["4", 0], "b": ["6", 0]}}
        }"#;
        Plan::from_graph(&serde_json::from_str(text).unwrap(), None)
    }

    /// A job that has been running for ten seconds.
    fn resumed() -> Job {
        Job::restored(StoredJob {
            id: JobId::parse("j").unwrap(),
            prompt_id: Some("p".into()),
            backend: Some("b".into()),
            status: crate::job::Status::Processing,
            progress: 50,
            seq: 1,
            message: None,
            outputs: Vec::new(),
            output_path: None,
            error: None,
            end_source: None,
            created_at: at(0),
            started_at: Some(at(0)),
            ended_at: None,
            estimated_remaining: None,
            updated_at: at(0),
            owner: None,
            epoch: 0,
            is_cancelling: false,
            tags: crate::job::Tags::default(),
        })
    }

    fn done(job: &Job) -> usize {
        let NodeCounts { done, total, .. } = job.nodes().counts(job.plan());
        assert_eq!(total, 7);
        done
    }

    fn started(node: &str) -> Event {
        Event::NodeStarted {
            node: node.to_owned(),
            display: None,
        }
    }

    #[test]
    fn what_a_running_node_depends_on_has_run() {
        for plan_comes_first in [true, false] {
            let mut job = resumed();
            assert!(job.nodes().is_resuming());
            let mut events = [Event::Planned(plan()), started("3")];
            if !plan_comes_first {
                events.reverse();
            }
            for event in events {
                job.apply(event, at(10));
            }
            assert!(!job.nodes().is_resuming());
            assert_eq!(done(&job), 2);
            assert!(job.nodes().has_passed("1") && !job.nodes().has_passed("5"));
            job.apply(started("4"), at(11));
            assert_eq!(done(&job), 3);
            // 5 and 6 have run before the restart.
            job.apply(started("7"), at(12));
            assert_eq!(done(&job), 6);
        }
    }

    #[test]
    fn the_first_runs_after_a_restart_began_before_it() {
        let mut job = resumed();
        job.apply(Event::Planned(plan()), at(10));
        let report = |node: &str, value| NodeReport {
            node: node.to_owned(),
            display: None,
            value,
            max: 20.0,
            state: NodeState::Running,
            loading: false,
        };
        job.apply(Event::Nodes(vec![report("3", 12.0)]), at(10));
        job.apply(
            Event::Nodes(vec![report("3", 13.0), report("4", 1.0)]),
            at(11),
        );
        let timing = |id| job.nodes().timing(id).unwrap();
        assert!(timing("3").was_missed && !timing("4").was_missed);
        assert_eq!(timing("3").longest(at(11)), 11.0);
        assert_eq!(timing("4").longest(at(12)), 1.0);
    }

    #[test]
    fn nothing_is_inferred_without_a_restart() {
        let mut job = Job::new(JobId::parse("j").unwrap(), at(0)).on_backend("b", "p");
        job.apply(Event::Planned(plan()), at(0));
        job.apply(started("7"), at(1));
        assert_eq!(done(&job), 0);
    }

    #[test]
    fn a_node_that_was_inferred_wrongly_counts_when_it_runs() {
        let mut job = resumed();
        job.apply(Event::Planned(plan()), at(10));
        job.apply(started("7"), at(10));
        assert_eq!(done(&job), 6);
        job.apply(started("6"), at(11));
        assert!(!job.nodes().has_passed("6"));
    }
}
