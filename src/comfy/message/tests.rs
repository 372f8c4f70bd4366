use proptest::prelude::*;

use super::*;
use crate::job::NodeState;

fn parse(text: &str) -> Message {
    Message::parse(text, "http://c/view")
}

#[test]
fn a_blocked_execution_is_not_the_end() {
    let blocked = r#"{"type": "execution_error", "data": {"prompt_id": "p", "exception_type": "ExecutionBlocked"}}"#;
    assert_eq!(parse(blocked), Message::Ignored);
}

#[test]
fn an_error_names_the_node_and_nothing_secret() {
    let text = r#"{"type": "execution_error", "data": {"prompt_id": "p", "node_id": "20", "node_type": "Probe",
        "exception_message": "boom\n", "exception_type": "RuntimeError", "traceback": ["secret"], "current_inputs": {"a": [1]}}}"#;
    let Message::Prompt {
        event: Event::Ended(Outcome::Failed(error)),
        ..
    } = parse(text)
    else {
        panic!("not an end");
    };
    assert_eq!(error.message, "Probe (node 20): boom");
}

#[test]
fn old_progress_has_neither_prompt_nor_node() {
    assert_eq!(
        parse(r#"{"type": "progress", "data": {"value": 1, "max": 8}}"#),
        Message::Prompt {
            prompt_id: None,
            event: Event::Bar {
                node: None,
                value: 1.0,
                max: 8.0
            }
        }
    );
}

#[test]
fn no_node_means_that_the_prompt_has_ended() {
    assert_eq!(
        parse(r#"{"type": "executing", "data": {"node": null, "prompt_id": "p"}}"#),
        Message::PromptEnded {
            prompt_id: Some("p".to_owned())
        }
    );
}

#[test]
fn the_type_may_come_after_the_data() {
    let data = r#"{"prompt_id": "p", "nodes": {"4": {"value": 2, "max": 8, "state": "running"}}}"#;
    let first = parse(&format!(r#"{{"type": "progress_state", "data": {data}}}"#));
    let last = parse(&format!(
        r#"{{"sid": [1], "data": {data}, "ty\u0070e": "progress_state"}}"#
    ));
    assert!(matches!(
        &first,
        Message::Prompt { event: Event::Nodes(nodes), .. } if nodes.len() == 1
    ));
    assert_eq!(first, last);
    for without in [
        r#"{"type": "progress_state"}"#,
        r#"{"type": "progress_state", "data": null}"#,
        r#"{"data": {}}"#,
    ] {
        assert_eq!(parse(without), Message::Unknown, "{without}");
    }
}

#[test]
fn states_keep_the_servers_order() {
    let text = r#"{"type": "progress_state", "data": {"prompt_id": "p", "nodes": {
        "9": {"value": 1.0, "max": 1.0, "state": "finished", "display_node_id": "9"},
        "4": {"value": 2, "max": 8, "state": "running", "display_node_id": "4", "activity": "loading"}}}}"#;
    let Message::Prompt {
        event: Event::Nodes(nodes),
        ..
    } = parse(text)
    else {
        panic!("no states");
    };
    let seen: Vec<_> = nodes
        .iter()
        .map(|n| (n.node.as_str(), n.state, n.loading))
        .collect();
    assert_eq!(
        seen,
        [
            ("9", NodeState::Finished, false),
            ("4", NodeState::Running, true)
        ]
    );
}

#[test]
fn an_unknown_frame_is_not_an_error() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"type": "crystools.monitor", "data": {}}"#,
        r#"{"type": "progress", "data": {"value": "x"}}"#,
        r#"{"type": "executing"}"#,
        r#"{"type": 7}"#,
        "\u{0}",
    ] {
        assert!(
            matches!(
                parse(text),
                Message::Unknown | Message::PromptEnded { prompt_id: None }
            ),
            "{text}"
        );
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let keys = prop::sample::select(vec![
            "node",
            "nodes",
            "prompt_id",
            "value",
            "max",
            "state",
            "output",
            "images",
            "filename",
            "status",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        parse(&text);
    }

    #[test]
    fn no_data_panics(
        kind in prop::sample::select(vec!["status", "executing", "progress", "progress_state", "executed",
            "execution_error", "execution_cached", "execution_start", "execution_success", "other"]),
        data in json(),
    ) {
        parse(&serde_json::json!({"type": kind, "data": data}).to_string());
    }
}

#[test]
fn pythons_json_hides_no_message() {
    let text = r#"{"type": "executed", "data": {"node": "9", "display_node": "9", "prompt_id": "p",
        "output": {"scores": [NaN, -Infinity], "images": [{"filename": "a\udc80.png", "type": "output"}]}}}"#;
    let Message::Prompt {
        event: Event::Outputs(outputs),
        ..
    } = parse(text)
    else {
        panic!("no outputs");
    };
    assert_eq!(outputs[0].filename, "a\u{fffd}.png");
    let error = r#"{"type": "execution_error", "data": {"prompt_id": "p", "node_id": "1", "node_type": "Load",
        "exception_message": "no \udc80", "exception_type": "OSError"}}"#;
    assert!(matches!(
        parse(error),
        Message::Prompt {
            event: Event::Ended(Outcome::Failed(_)),
            ..
        }
    ));
}
