//! Events for property tests: any, in any order.

use proptest::prelude::*;

use super::{NOW, file, looped, sampler};
use crate::job::*;

fn node_id() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["4", "3", "9", "3.0.0.1", "9.0.0.Recurse", "x", ""])
        .prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0u32..=25).prop_map(f64::from),
        1 => prop::num::f64::ANY,
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Completed),
        Just(Outcome::Cancelled),
        Just(Outcome::Failed(JobError::lost())),
    ]
}

fn node_report() -> impl Strategy<Value = NodeReport> {
    let state = prop::sample::select(vec![
        NodeState::Running,
        NodeState::Finished,
        NodeState::Failed,
    ]);
    (
        node_id(),
        prop::option::of(node_id()),
        number(),
        number(),
        state,
        any::<bool>(),
    )
        .prop_map(|(node, display, value, max, state, loading)| NodeReport {
            node,
            display,
            value,
            max,
            state,
            loading,
        })
}

/// As in JSON, where each node occurs once.
fn node_reports() -> impl Strategy<Value = Vec<NodeReport>> {
    prop::collection::vec(node_report(), 0..5).prop_map(|mut reports| {
        reports.sort_by(|a, b| a.node.cmp(&b.node));
        reports.dedup_by(|a, b| a.node == b.node);
        reports
    })
}

fn ending() -> impl Strategy<Value = Event> {
    let history = (
        prop::option::of(outcome()),
        prop::option::of(outcome()),
        any::<bool>(),
    )
        .prop_map(|(messages, word, produced)| {
            Event::History(History {
                messages,
                word,
                produced,
                ..History::default()
            })
        });
    let reason = prop::sample::select(vec![Reason::Deleted, Reason::Forgotten, Reason::LostTwice]);
    let report = (0..Status::ALL.len(), 0u8..=100).prop_map(|(status, progress)| {
        Event::Reported(Report {
            status: Status::ALL[status],
            progress,
            estimated_remaining: None,
            message: None,
            output_path: None,
            error: None,
        })
    });
    prop_oneof![history, reason.prop_map(Event::Vanished), report]
}

/// Any event of a job of [`super::sampler`], or of another one.
pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => Just(Event::Planned(sampler())),
        1 => prop::option::of(0usize..9).prop_map(|ahead| Event::Queued { ahead }),
        1 => Just(Event::Started),
        1 => prop::collection::vec(node_id(), 0..4).prop_map(|nodes| Event::Cached { nodes }),
        4 => (node_id(), prop::option::of(node_id())).prop_map(|(node, display)| Event::NodeStarted { node, display }),
        6 => (prop::option::of(node_id()), number(), number()).prop_map(|(node, value, max)| Event::Bar { node, value, max }),
        4 => node_reports().prop_map(Event::Nodes),
        1 => Just(Event::Outputs(vec![file("a.png", "output")])),
        1 => outcome().prop_map(Event::Ended),
        1 => any::<bool>().prop_map(Event::Reachable),
        1 => Just(Event::CancelRequested),
        1 => any::<bool>().prop_map(|silent| Event::Silence(silent.then_some(NOW))),
        1 => Just(Event::Planned(looped())),
        2 => (0u32..5, 0u32..5).prop_map(|(ended, all)| Event::Rounds {
            node: "5".to_owned(),
            rounds: LoopRounds { ended, all },
        }),
        1 => (node_id(), prop::option::of(any::<u64>())).prop_map(|(node, remaining)| Event::Partner {
            node,
            status: remaining.map(|_| "In progress".to_owned()),
            remaining,
        }),
        1 => ending(),
    ]
}
