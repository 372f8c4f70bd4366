use jiff::SignedDuration;

use super::*;
use crate::job::NodeReport;

fn plan() -> Plan {
    let text = r#"{
        "1": {"class_type": "Loader", "inputs": {}},
        "2": {"class_type": "KSampler", "inputs": {"steps": 8, "model": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}
    }"#;
    Plan::from_graph(&serde_json::from_str(text).unwrap(), None)
}

fn bar(value: f64, max: f64) -> Bar {
    Bar { value, max }
}

fn begin(nodes: &mut Nodes, id: &str, display: &str) -> bool {
    nodes.started(
        id.to_owned(),
        Some(display.to_owned()),
        &plan(),
        Timestamp::UNIX_EPOCH,
    )
}

fn report(node: &str, value: f64, max: f64, state: NodeState) -> NodeReport {
    NodeReport {
        node: node.to_owned(),
        display: None,
        value,
        max,
        state,
        loading: false,
    }
}

#[test]
fn a_node_that_begins_twice_counts_once() {
    let mut nodes = Nodes::default();
    assert!(begin(&mut nodes, "1", "1"));
    assert!(!begin(&mut nodes, "1", "1"));
    begin(&mut nodes, "2", "2");
    assert_eq!(
        nodes.counts(&plan()),
        NodeCounts {
            done: 1,
            cached: 0,
            total: 3
        }
    );
}

/// Under the id of a copy that a loop has made of it.
#[test]
fn a_cached_node_of_which_a_copy_runs_is_counted_again() {
    let mut nodes = Nodes::default();
    nodes.cached(vec!["1".to_owned(), "2".to_owned()]);
    let counts = |nodes: &Nodes| {
        let NodeCounts { done, cached, .. } = nodes.counts(&plan());
        (done, cached)
    };
    assert_eq!(counts(&nodes), (0, 2));
    let copy = |value, state| NodeReport {
        display: Some("2".to_owned()),
        ..report("9.0.0.1", value, 1.0, state)
    };
    let now = Timestamp::UNIX_EPOCH;
    nodes.report(vec![copy(0.0, NodeState::Running)], &plan(), now);
    assert_eq!(counts(&nodes), (0, 1));
    nodes.report(vec![copy(1.0, NodeState::Finished)], &plan(), now);
    assert_eq!(counts(&nodes), (1, 1));
}

#[test]
fn steps_weigh_a_node() {
    let mut nodes = Nodes::default();
    begin(&mut nodes, "1", "1");
    begin(&mut nodes, "2", "2");
    assert!((nodes.share(&plan()) - 0.1).abs() < 1e-9);
    nodes.bar(None, bar(4.0, 8.0), &plan(), Timestamp::UNIX_EPOCH);
    assert!((nodes.share(&plan()) - 0.5).abs() < 1e-9);
}

#[test]
fn a_bar_that_restarts_does_not_lower_the_share() {
    let mut nodes = Nodes::default();
    begin(&mut nodes, "2", "2");
    nodes.bar(
        Some("2".into()),
        bar(8.0, 8.0),
        &plan(),
        Timestamp::UNIX_EPOCH,
    );
    let before = nodes.share(&plan());
    assert!(nodes.bar(
        Some("2".into()),
        bar(1.0, 4.0),
        &plan(),
        Timestamp::UNIX_EPOCH
    ));
    assert!(nodes.share(&plan()) >= before);
    assert_eq!(nodes.current().and_then(|c| c.bar), Some(bar(1.0, 4.0)));
}

#[test]
fn expanded_nodes_count_as_their_display_node() {
    let mut nodes = Nodes::default();
    begin(&mut nodes, "3", "3");
    begin(&mut nodes, "3.0.0.1", "3");
    nodes.bar(
        Some("3.0.0.1".into()),
        bar(1.0, 5.0),
        &plan(),
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(nodes.current().map(|c| c.id), Some("3"));
    assert_eq!(nodes.counts(&plan()).total, 3);
    assert_eq!(
        nodes.counts(&plan()).done,
        0,
        "3 waits for the expanded node"
    );
    begin(&mut nodes, "2", "2");
    assert_eq!(nodes.counts(&plan()).done, 1);
}

#[test]
fn cached_nodes_weigh_nothing() {
    let mut nodes = Nodes::default();
    assert!(nodes.cached(vec!["1".into(), "2".into(), "elsewhere".into()]));
    assert_eq!(
        nodes.counts(&plan()),
        NodeCounts {
            done: 0,
            cached: 2,
            total: 3
        }
    );
    begin(&mut nodes, "3", "3");
    nodes.report(
        vec![report("3", 1.0, 1.0, NodeState::Finished)],
        &plan(),
        Timestamp::UNIX_EPOCH,
    );
    assert!((nodes.share(&plan()) - 1.0).abs() < 1e-9);
}

#[test]
fn nodes_that_run_in_parallel_do_not_end_each_other() {
    let mut nodes = Nodes::default();
    let running = |id| report(id, 0.0, 1.0, NodeState::Running);
    nodes.report(
        vec![running("1"), running("2")],
        &plan(),
        Timestamp::UNIX_EPOCH,
    );
    begin(&mut nodes, "3", "3");
    assert_eq!(nodes.counts(&plan()).done, 0);
    nodes.report(
        vec![report("1", 1.0, 1.0, NodeState::Finished)],
        &plan(),
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(nodes.counts(&plan()).done, 1);
    assert!(
        !begin(&mut nodes, "1", "1"),
        "a repeated start changes nothing"
    );
    assert_eq!(nodes.counts(&plan()).done, 1);
}

#[test]
fn invalid_bars_keep_the_share_in_range() {
    let mut nodes = Nodes::default();
    begin(&mut nodes, "2", "2");
    for (value, max) in [
        (0.0, 0.0),
        (f64::NAN, 1.0),
        (1.0, f64::INFINITY),
        (9.0, -3.0),
        (-1.0, 2.0),
    ] {
        nodes.bar(
            Some("2".into()),
            bar(value, max),
            &plan(),
            Timestamp::UNIX_EPOCH,
        );
        assert!((0.0..=1.0).contains(&nodes.share(&plan())));
    }
}

#[test]
fn a_run_that_reports_leave_out_ended_when_they_did() {
    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    let running = |node: &str| report(node, 0.0, 1.0, NodeState::Running);
    let mut nodes = Nodes::default();
    nodes.report(vec![running("1"), running("3")], &plan(), at(0));
    nodes.report(vec![running("2"), running("3.0.0.1")], &plan(), at(3));
    nodes.report(vec![running("2"), running("3.0.0.1")], &plan(), at(4));
    nodes.close(NodeState::Finished, at(60));
    let ended_at = |id: &str| nodes.timing(id).unwrap().ended_at;
    assert_eq!(ended_at("1"), Some(at(3)));
    assert_eq!(ended_at("2"), Some(at(60)));
    // It waits for the run that it was expanded to.
    assert_eq!(ended_at("3"), Some(at(60)));
}

#[test]
fn a_run_that_is_reported_again_goes_on() {
    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    let running = |node: &str| report(node, 0.0, 1.0, NodeState::Running);
    let mut nodes = Nodes::default();
    nodes.report(vec![running("1")], &plan(), at(0));
    nodes.report(vec![running("2")], &plan(), at(3));
    nodes.report(vec![running("1"), running("2")], &plan(), at(4));
    nodes.close(NodeState::Finished, at(60));
    assert_eq!(nodes.timing("1").unwrap().ended_at, Some(at(60)));
}

/// Ids of subgraphs have colons, those of expansions dots, and a graph can hold either.
#[test]
fn a_run_without_a_display_node_counts_as_the_nearest_node_of_the_graph() {
    let text = r#"{
        "57:12": {"class_type": "Loader", "inputs": {}},
        "57:12.3": {"class_type": "KSampler", "inputs": {"model": ["57:12", 0]}},
        "57:1": {"class_type": "SaveImage", "inputs": {"images": ["57:12.3", 0]}}
    }"#;
    let plan = Plan::from_graph(&serde_json::from_str(text).unwrap(), None);
    let mut nodes = Nodes::default();
    for run in [
        "57:12",
        "57:12.0.0.7",
        "57:12.3",
        "57:12.3.0.0.7",
        "57:1.0.0.2",
    ] {
        nodes.started(run.to_owned(), None, &plan, Timestamp::UNIX_EPOCH);
    }
    let displays = nodes.timeline();
    let displays = displays.iter().map(|run| (run.id, run.display));
    assert_eq!(
        displays.collect::<Vec<_>>(),
        [
            ("57:1.0.0.2", "57:1"),
            ("57:12", "57:12"),
            ("57:12.0.0.7", "57:12"),
            ("57:12.3", "57:12.3"),
            ("57:12.3.0.0.7", "57:12.3"),
        ]
    );
}
