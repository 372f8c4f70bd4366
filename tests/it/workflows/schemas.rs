//! The JSON Schema of a workflow's parameters accepts what a submission accepts.

use comfy_relay::workflow::{GivenParameters, NamedWorkflow, WorkflowHeader, parameters_schema};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use serde_json::{Map, Value, json};

use super::{WORKFLOWS, relay};
use crate::support::wait::wait_until;

/// A graph with an input for each type.
fn graph() -> Map<String, Value> {
    let graph = json!({
        "1": {"class_type": "Draw", "inputs": {"number": 3, "text": "a", "on": true, "open": "%open%"}},
    });
    graph.as_object().unwrap().clone()
}

/// A limit, or none.
fn limit() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(-20_i64..20)
}

/// A parameter of any type, with any limits, some of which contradict each other.
fn parameter(name: &'static str) -> impl Strategy<Value = Value> {
    let kinds = select(vec![
        "integer", "number", "string", "boolean", "choice", "image",
    ]);
    let defaults = select(vec![
        json!(null),
        json!("random"),
        json!(3),
        json!("a"),
        json!(true),
    ]);
    let required = prop::option::of(any::<bool>());
    (
        kinds,
        limit(),
        limit(),
        prop::option::of(1_i64..5),
        defaults,
        required,
        any::<bool>(),
        prop::option::of(0_u64..4),
    )
        .prop_map(
            move |(kind, minimum, maximum, step, default, required, is_open, length)| {
                let input = match kind {
                    _ if is_open => "open",
                    "integer" | "number" => "number",
                    "boolean" => "on",
                    _ => "text",
                };
                let mut parameter =
                    json!({"name": name, "type": kind, "targets": [{"node": "1", "input": input}]});
                let mut set = |field: &str, value: Value| {
                    if !value.is_null() {
                        parameter[field] = value;
                    }
                };
                set("default", default);
                set("required", required.into());
                match kind {
                    "integer" | "number" => {
                        set("minimum", minimum.into());
                        set("maximum", maximum.into());
                        set("step", step.into());
                    }
                    "string" => set("max_length", length.into()),
                    "choice" if minimum.is_some() => set("choices", json!(["a", "b"])),
                    _ => {}
                }
                parameter
            },
        )
}

/// Any plain value, many of them near a limit.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-22_i64..22).prop_map(Value::from),
        (-44_i64..44).prop_map(|halves| json!(halves as f64 / 2.0)),
        select(vec![
            json!(null),
            json!(true),
            json!("a"),
            json!("b"),
            json!(""),
            json!("random"),
            json!("日本語"),
            json!("a long text"),
            json!([]),
            json!({}),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1e300),
            json!(9_007_199_254_740_991_u64),
            json!(9_007_199_254_740_992_u64),
            json!(-9_007_199_254_740_992_i64),
            json!(0.1),
            json!(-0.0),
        ]),
    ]
}

/// Some of the parameters with values, and now and then one that the workflow does not have.
fn given() -> impl Strategy<Value = Value> {
    let names = select(vec!["a", "b", "c", "1.text"]);
    prop::collection::vec((names, value()), 0..4).prop_map(|given| {
        given
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>()
            .into()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn the_schema_accepts_exactly_what_a_submission_accepts(
        parameters in (parameter("a"), parameter("b")),
        all in prop::collection::vec(given(), 8),
    ) {
        let header = json!({"title": "Draw", "parameters": [parameters.0, parameters.1]});
        let Ok(header) = WorkflowHeader::read(header.to_string().as_bytes(), &graph()) else {
            return Ok(());
        };
        let workflow = NamedWorkflow { graph: graph(), header: Some(header) };
        let schema = parameters_schema(workflow.header.as_ref(), |_| vec!["x".to_owned()]);
        prop_assert!(jsonschema::meta::is_valid(&schema), "{schema}");
        let validator = jsonschema::validator_for(&schema).unwrap();
        for given in all {
            let named = given.as_object().unwrap().clone();
            let submitted = GivenParameters::new(named, Map::new()).resolved(&workflow);
            prop_assert_eq!(submitted.is_ok(), validator.is_valid(&given), "{} {}: {:?}", schema, given, submitted);
        }
    }
}

/// The property above is about something: headers of all types are among those that it tries.
#[test]
fn headers_of_every_type_can_be_read() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut read = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let parameter = parameter("a").new_tree(&mut runner).unwrap().current();
        let header = json!({"title": "Draw", "parameters": [parameter]}).to_string();
        if let Ok(header) = WorkflowHeader::read(header.as_bytes(), &graph()) {
            read.insert(header.parameters[0].kind.word());
        }
    }
    assert_eq!(read.len(), 6, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_shows_what_the_servers_offer() {
    let (comfyui, relay) = relay().await;
    let classes = json!({
        "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["b.safetensors", "a.safetensors"]]}}},
        "SaveImage": {"output_node": true},
    });
    comfyui.answer("GET /object_info", 200, &classes);
    // It has read them before they were there.
    comfyui.close_sockets();
    let offered = async || {
        let (_, answer) = relay.get(&format!("{WORKFLOWS}/txt2img")).await;
        answer["schema"]["properties"]["checkpoint"]["examples"].clone()
    };
    wait_until("the servers' choices are shown", async || {
        offered().await == json!(["a.safetensors", "b.safetensors"])
    })
    .await;
    // The server judges them, not the schema.
    let (_, answer) = relay.get(&format!("{WORKFLOWS}/txt2img")).await;
    let validator = jsonschema::validator_for(&answer["schema"]).unwrap();
    assert!(validator.is_valid(&json!({"checkpoint": "c.safetensors", "seed": "random"})));
    assert!(!validator.is_valid(&json!({"checkpoint": ""})));
}
