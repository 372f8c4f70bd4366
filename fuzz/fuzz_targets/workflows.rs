//! Workflow files, their parameters, and the plans of their graphs.
//!
//! A case has up to three parts, separated by zeros: a file, `params`, and the list of its output nodes.
#![no_main]

use std::collections::{HashMap, HashSet};

use comfy_relay::estimate::{CostModel, Estimate};
use comfy_relay::job::{Plan, Role};
use comfy_relay::workflow::{self, GivenParameters, NamedWorkflow, WorkflowError};
use comfy_relay_fuzz::PART;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

type Graph = Map<String, Value>;

fuzz_target!(|data: &[u8]| {
    let mut parts = data
        .split(|&byte| byte == PART)
        .map(|part| std::str::from_utf8(part).unwrap_or_default());
    let file = parts.next().unwrap_or_default();
    let params: Option<Graph> = parts
        .next()
        .and_then(|part| serde_json::from_str(part).ok());
    let outputs: Option<Vec<String>> = parts
        .next()
        .and_then(|part| serde_json::from_str(part).ok());
    match workflow::parse(file.as_bytes()) {
        Ok(graph) => {
            workflow::check(Value::Object(graph.clone())).unwrap();
            if let Some(params) = params {
                fill(&graph, &params);
            }
            plan(&graph, outputs.as_deref());
        }
        Err(error) => {
            check_error(&error);
            // Graphs that other clients submitted are planned without a check.
            if let Ok(graph) = serde_json::from_str(file) {
                plan(&graph, outputs.as_deref());
            }
        }
    }
});

/// An error text is one line, in lower case, without a full stop.
fn check_error(error: &WorkflowError) {
    let text = error.to_string();
    assert!(text.starts_with(|c: char| c.is_ascii_lowercase()), "{text}");
    assert!(!text.ends_with('.'), "{text}");
    assert!(!text.chars().any(char::is_control), "{text}");
}

/// All parameters are filled in, and nothing else changes.
fn fill(graph: &Graph, params: &Graph) {
    let workflow = NamedWorkflow::plain(graph.clone());
    let given = GivenParameters::new(Map::new(), params.clone());
    let filled = match workflow::fill(&workflow, &given, |_, _, _| None) {
        Ok(filled) => filled,
        Err(error) => return check_error(&error),
    };
    assert!(filled.keys().eq(graph.keys()));
    let mut changed = 0;
    for (node, before) in filled.values().zip(graph.values()) {
        let (mut inputs, mut inputs_before) = (node.clone(), before.clone());
        for (name, value) in inputs_of(&node["inputs"]) {
            if *value != before["inputs"][name] {
                let is_requested = |(key, requested): (&String, &Value)| {
                    requested == value && key.ends_with(&format!(".{name}"))
                };
                assert!(params.iter().any(is_requested));
                changed += 1;
            }
        }
        if let (Value::Object(a), Value::Object(b)) = (&mut inputs, &mut inputs_before) {
            a.remove("inputs");
            b.remove("inputs");
            assert_eq!(a, b);
        }
        assert_eq!(links(node), links(before));
    }
    assert!(changed <= params.len());
    workflow::check(Value::Object(filled)).unwrap();
}

fn plan(graph: &Graph, outputs: Option<&[String]>) {
    let plan = Plan::from_graph(graph, outputs);
    assert_eq!(plan, Plan::from_graph(graph, outputs));
    let places: HashMap<&str, usize> = plan.nodes().map(|(id, _)| id).zip(0..).collect();
    for (id, node) in plan.nodes() {
        assert_eq!(graph[id]["class_type"], node.class_type);
        for work in [node.calls, node.units_or_calls()] {
            assert!(work.is_finite() && work > 0.0, "{node:?}");
        }
        assert_ne!(node.steps, Some(0));
        assert_eq!(node.signature.len(), 16);
        for loader in &node.loaders {
            let class = graph[loader]["class_type"].as_str().unwrap();
            assert_eq!(Role::of(class), Role::Loader);
        }
        for source in links(&graph[id]) {
            let Some(&place) = places.get(source) else {
                continue;
            };
            assert!(!node.needed || plan.node(source).unwrap().needed);
            assert!(place < places[id] || depends(graph, source, id));
        }
    }
    let estimate = Estimate::of_prompt("b", &plan, &[], &CostModel::default());
    assert!(estimate.remaining.is_none_or(f64::is_finite));
}

fn inputs_of(inputs: &Value) -> impl Iterator<Item = (&String, &Value)> {
    inputs.as_object().into_iter().flatten()
}

/// The nodes that a node reads.
fn links(node: &Value) -> Vec<&str> {
    let inputs = inputs_of(&node["inputs"]);
    inputs
        .filter_map(|(_, input)| match input.as_array()?.as_slice() {
            [Value::String(id), Value::Number(_)] => Some(id.as_str()),
            _ => None,
        })
        .collect()
}

/// Whether a node reads another one, directly or not. If both do, they form a cycle.
fn depends(graph: &Graph, node: &str, on: &str) -> bool {
    let (mut open, mut seen) = (vec![node], HashSet::new());
    while let Some(id) = open.pop() {
        if id == on {
            return true;
        }
        if seen.insert(id) {
            open.extend(graph.get(id).map(links).unwrap_or_default());
        }
    }
    false
}
