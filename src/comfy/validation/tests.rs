use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::problem::MAX_PROBLEMS;
use super::*;
use crate::comfy::rejection::{self, WrongInput};
use crate::python_json;

/// Classes as servers of 2026 list them, of ComfyUI itself and of extensions.
const OBJECT_INFO: &[u8] = include_bytes!("tests/object_info.json");

fn classes() -> NodeClasses {
    python_json::read(OBJECT_INFO).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn graph() -> Value {
    json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
        "4": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "positive": ["3", 0], "negative": ["3", 0],
            "latent_image": ["2", 0], "seed": 7, "steps": 20, "cfg": 7.5, "sampler_name": "euler",
            "scheduler": "normal", "denoise": 1.0}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "a"}},
    })
}

/// The graph with a value in place of another, and what comes of it.
fn with(path: &str, value: Value) -> Validation {
    let mut graph = graph();
    let (node, input) = path.split_once('.').unwrap();
    graph[node]["inputs"][input] = value;
    classes().validate(&object(graph), &[])
}

fn summary(validation: &Validation) -> (Verdict, Vec<String>) {
    let problems = validation.problems.iter();
    let line = |it: &Problem| format!("{}.{} {}", it.node, it.input, it.kind.as_str());
    (validation.verdict, problems.map(line).collect())
}

/// Asserts that the graph is refused with one problem.
fn assert_refused(path: &str, value: Value, expected: &str) {
    let (verdict, problems) = summary(&with(path, value.clone()));
    assert_eq!(
        (verdict, problems),
        (Verdict::Refused, vec![expected.to_owned()]),
        "{path}: {value}"
    );
}

fn assert_accepted(path: &str, value: Value) {
    let found = summary(&with(path, value.clone()));
    assert_eq!(found, (Verdict::Accepted, vec![]), "{path}: {value}");
}

#[test]
fn a_right_graph_is_accepted() {
    let found = classes().validate(&object(graph()), &[]);
    assert_eq!(summary(&found), (Verdict::Accepted, vec![]));
}

#[test]
fn a_missing_model_file_is_named_in_both_notations() {
    let found = with("1.ckpt_name", json!("flux.safetensors"));
    assert_eq!(
        summary(&found),
        (
            Verdict::Refused,
            vec!["1.ckpt_name value_not_in_list".to_owned()]
        )
    );
    assert_eq!(
        found.problems[0].to_string(),
        r#"model file "flux.safetensors" is missing"#
    );
    assert_eq!(
        found.rejection().to_string(),
        "Prompt outputs failed validation; CheckpointLoaderSimple (node 1), input ckpt_name: Value not in list: \
         ckpt_name: 'flux.safetensors' not in ['sd15.safetensors', 'sdxl.safetensors']"
    );
    let upscale = json!({
        "1": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "4x.pth"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    });
    let found = classes().validate(&object(upscale), &[]);
    assert_eq!(
        summary(&found),
        (
            Verdict::Refused,
            vec!["1.model_name value_not_in_list".to_owned()]
        )
    );
    assert_eq!(
        found.problems[0].lack,
        Some(Missing::Model("4x.pth".to_owned()))
    );
    // A sampler is not a file.
    let found = with("4.sampler_name", json!("bogus"));
    assert_eq!(found.problems[0].lack, None);
    assert_eq!(
        found.problems[0].to_string(),
        "KSampler (node 4), input sampler_name: Value not in list: sampler_name: 'bogus' not in ['euler', 'dpmpp_2m', 'lcm']"
    );
}

/// Servers before the end of 2025 do not check choices in the newer notation.
#[test]
fn choices_in_the_newer_notation_are_doubted_on_older_servers() {
    let older: NodeClasses = serde_json::from_value(json!({
        "Loader": {"input": {"required": {"name": ["COMBO", {"options": ["a.pt"]}]}}, "output": ["MODEL"],
            "python_module": "comfy_extras.nodes_x", "output_node": true},
    }))
    .unwrap();
    let graph = json!({"1": {"class_type": "Loader", "inputs": {"name": "b.pt"}}});
    let found = older.validate(&object(graph), &[]);
    assert_eq!(
        summary(&found),
        (
            Verdict::Doubtful,
            vec!["1.name value_not_in_list".to_owned()]
        )
    );
}

#[test]
fn a_missing_class_is_named_once_beside_all_else() {
    let mut graph = graph();
    graph["7"] = json!({"class_type": "NoSuchNode", "inputs": {}, "_meta": {"title": "Blur"}});
    graph["8"] = json!({"class_type": "NoSuchNode", "inputs": {}});
    graph["1"]["inputs"]["ckpt_name"] = json!("flux.safetensors");
    let found = classes().validate(&object(graph), &[]);
    let expected = ["7. missing_node_type", "1.ckpt_name value_not_in_list"];
    assert_eq!(
        summary(&found),
        (Verdict::Refused, expected.map(str::to_owned).to_vec())
    );
    assert_eq!(
        found.problems[0].to_string(),
        r#"node class "NoSuchNode" is missing"#
    );
    let rejection = found.rejection();
    assert_eq!(
        (rejection.kind.as_str(), rejection.inputs_total),
        ("missing_node_type", 1)
    );
    assert_eq!(
        rejection.to_string(),
        "Node 'Blur' not found. The custom node may not be installed; NoSuchNode (node 7)"
    );
}

#[test]
fn inputs_that_are_missing_or_out_of_range_are_refused() {
    assert_refused("4.steps", json!(0), "4.steps value_smaller_than_min");
    assert_refused("4.steps", json!("0"), "4.steps value_smaller_than_min");
    assert_refused("4.steps", json!(10_001), "4.steps value_bigger_than_max");
    assert_refused("4.denoise", json!(1.5), "4.denoise value_bigger_than_max");
    assert_refused("4.steps", json!("many"), "4.steps invalid_input_type");
    assert_refused("4.steps", json!("1.5"), "4.steps invalid_input_type");
    assert_refused("4.cfg", json!(null), "4.cfg invalid_input_type");
    assert_refused("4.cfg", json!({"a": 1}), "4.cfg invalid_input_type");
    let found = with("4.steps", json!(10_001));
    assert_eq!(
        found.problems[0].as_found().message,
        "Value 10001 bigger than max of 10000: steps"
    );
    let mut graph = graph();
    graph["5"]["inputs"].as_object_mut().unwrap().remove("vae");
    let found = classes().validate(&object(graph), &[]);
    assert_eq!(
        summary(&found),
        (
            Verdict::Refused,
            vec!["5.vae required_input_missing".to_owned()]
        )
    );
}

#[test]
fn values_that_python_converts_are_accepted() {
    for value in [
        json!(20),
        json!(20.9),
        json!(" 20 "),
        json!("+2_0"),
        json!(true),
        json!("٢٠"),
    ] {
        assert_accepted("4.steps", value);
    }
    for value in [
        json!(7),
        json!("7.5"),
        json!("1e1"),
        json!(" .5"),
        json!(true),
    ] {
        assert_accepted("4.cfg", value);
    }
    for value in [json!(7), json!(null), json!({"a": 1}), json!(true)] {
        assert_accepted("3.text", value);
    }
    assert_accepted("4.seed", json!(u64::MAX));
    assert_accepted("4.steps", json!({"__value__": 20}));
    assert_accepted("4.unknown", json!([1, 2, 3]));
}

#[test]
fn links_that_lead_nowhere_are_refused_as_comfyui_does() {
    // The check of a node ends in an exception, which ComfyUI reports for the input of the node that needs it.
    assert_refused(
        "5.samples",
        json!(["99", 0]),
        "5.images exception_during_inner_validation",
    );
    assert_refused(
        "5.samples",
        json!([4, 0]),
        "5.images exception_during_inner_validation",
    );
    assert_refused(
        "5.samples",
        json!(["4", 1]),
        "5.images exception_during_inner_validation",
    );
    assert_refused(
        "5.samples",
        json!(["4", "0"]),
        "5.images exception_during_inner_validation",
    );
    assert_refused(
        "6.images",
        json!(["99", 0]),
        "6. exception_during_validation",
    );
    assert_refused("5.samples", json!(["4"]), "5.samples bad_linked_input");
    assert_refused(
        "5.samples",
        json!(["1", 2]),
        "5.samples return_type_mismatch",
    );
    assert_accepted("5.samples", json!(["4", -1]));
    assert_accepted("5.samples", json!(["4", false]));
    assert_refused(
        "5.samples",
        json!(["4", -2]),
        "5.images exception_during_inner_validation",
    );
    let found = with("5.samples", json!(["1", 2]));
    assert_eq!(
        found.problems[0].as_found().message,
        "Return type mismatch between linked nodes: samples, received_type(VAE) mismatch input_type(LATENT)"
    );
}

#[test]
fn a_node_that_is_needed_and_has_no_inputs_is_refused() {
    let mut graph = graph();
    graph["4"].as_object_mut().unwrap().remove("inputs");
    let found = classes().validate(&object(graph), &[]);
    let expected = vec!["4.samples exception_during_inner_validation".to_owned()];
    assert_eq!(summary(&found), (Verdict::Refused, expected));
}

#[test]
fn types_may_be_unions_and_wildcards() {
    assert!(classes().definition("PreviewAny").is_some());
    for (output, input, links) in [
        ("IMAGE", "IMAGE", true),
        ("IMAGE", "LATENT", false),
        ("INT, FLOAT", "FLOAT", true),
        ("INT,FLOAT", "STRING", false),
        ("*", "LATENT", true),
        ("LATENT", "*", true),
        ("COMFY_MATCHTYPE_V3", "LATENT", true),
        ("IMAGE", "COMBO", true),
    ] {
        let linkable = crate::comfy::node_definition::is_linkable(output, input);
        assert_eq!(linkable, links, "{output} to {input}");
    }
}

/// What an extension checks in its own way, ComfyUI may take.
#[test]
fn what_an_extension_may_take_is_not_refused() {
    let graph = |inputs: Value| {
        let graph = json!({
            "1": {"class_type": "TheirLoader", "inputs": inputs},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        });
        classes().validate(&object(graph), &[])
    };
    let right = json!({"file": "a.mp4", "frames": 3});
    assert_eq!(summary(&graph(right)), (Verdict::Accepted, vec![]));
    for (inputs, problem) in [
        (
            json!({"file": "b.mp4", "frames": 3}),
            "1.file value_not_in_list",
        ),
        (
            json!({"file": "a.mp4", "frames": 99}),
            "1.frames value_bigger_than_max",
        ),
    ] {
        let expected = (Verdict::Doubtful, vec![problem.to_owned()]);
        assert_eq!(summary(&graph(inputs)), expected);
    }
    // No check of its own replaces these.
    for (inputs, problem) in [
        (json!({"file": "a.mp4"}), "1.frames required_input_missing"),
        (
            json!({"file": "a.mp4", "frames": "x"}),
            "1.frames invalid_input_type",
        ),
    ] {
        let expected = (Verdict::Refused, vec![problem.to_owned()]);
        assert_eq!(summary(&graph(inputs)), expected);
    }
}

#[test]
fn dynamic_inputs_and_uploads_are_not_judged() {
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "uploaded a moment ago.png"}},
        "2": {"class_type": "BatchImages", "inputs": {"images.image0": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "a"}},
    });
    let found = classes().validate(&object(graph), &[]);
    assert_eq!(summary(&found), (Verdict::Accepted, vec![]));
}

#[test]
fn only_what_outputs_need_is_checked() {
    let mut graph = graph();
    graph["7"] = json!({"class_type": "KSampler", "inputs": {}});
    let found = classes().validate(&object(graph.clone()), &[]);
    assert_eq!(summary(&found), (Verdict::Accepted, vec![]));
    // An output that fails beside a good one is left out by ComfyUI, which takes the graph.
    graph["8"] = json!({"class_type": "SaveImage", "inputs": {"images": ["5", 0]}});
    let found = classes().validate(&object(graph.clone()), &[]);
    let problems = vec!["8.filename_prefix required_input_missing".to_owned()];
    assert_eq!(summary(&found), (Verdict::Accepted, problems.clone()));
    // Alone it is refused; an older server may run the others all the same.
    let found = classes().validate(&object(graph), &["8".to_owned()]);
    assert_eq!(summary(&found), (Verdict::Doubtful, problems));
}

#[test]
fn a_graph_without_outputs_is_refused() {
    let graph = json!({"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}});
    let found = classes().validate(&object(graph), &[]);
    assert_eq!(
        summary(&found),
        (Verdict::Refused, vec![". prompt_no_outputs".to_owned()])
    );
    let rejection = found.rejection();
    assert_eq!(rejection.to_string(), "Prompt has no outputs");
    assert!(rejection.inputs.is_empty());
}

#[test]
fn a_cycle_is_refused_with_its_nodes() {
    let graph = json!({
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "a"}},
    });
    let found = classes().validate(&object(graph), &[]);
    let expected = ["2. dependency_cycle", "1. dependency_cycle"];
    assert_eq!(
        summary(&found),
        (Verdict::Refused, expected.map(str::to_owned).to_vec())
    );
    let path = "Dependency cycle detected: 2 (ImageInvert) -> 1 (ImageInvert) -> 2 (ImageInvert)";
    assert_eq!(found.problems[0].as_found().message, path);
}

/// How long this thread has run: other programs on a busy machine do not count.
fn processor_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).unwrap().into()
}

/// Ten thousand nodes: in a row, all linked back to the first, all wrong, all of missing classes.
#[test]
fn hostile_graphs_take_no_time() {
    let row = |class: &str, last: Value| {
        let mut graph = Map::new();
        for node in 0..10_000 {
            let link = match node {
                9_999 => last.clone(),
                node => json!([(node + 1).to_string(), 0]),
            };
            let inputs =
                json!({"image": link, "image1": ["0", 0], "image2": ["0", 0], "wrong": link});
            let node_of_row = json!({"class_type": class, "inputs": inputs});
            graph.insert(node.to_string(), node_of_row);
        }
        let inputs = json!({"images": ["0", 0], "filename_prefix": "a"});
        graph.insert(
            "end".to_owned(),
            json!({"class_type": "SaveImage", "inputs": inputs}),
        );
        graph
    };
    let many: Vec<Value> = (0..1_000_000).map(Value::from).collect();
    let wrong: Map<String, Value> = (0..10_000)
        .map(|node| {
            (
                node.to_string(),
                json!({"class_type": "SaveImage", "inputs": {}}),
            )
        })
        .collect();
    let loader = (0..5_000).map(|i| {
        (
            i.to_string(),
            json!({"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": i}}),
        )
    });
    let savers = (0..5_000).map(|i| {
        let inputs = json!({"images": [i.to_string(), 0], "filename_prefix": {"__value__": i}});
        (
            format!("s{i}"),
            json!({"class_type": "SaveImage", "inputs": inputs}),
        )
    });
    let cases = [
        (row("ImageInvert", json!(["end", 0])), Verdict::Refused),
        (row("ImageInvert", json!(["0", 0])), Verdict::Refused),
        (row("ImageInvert", json!(["5000", 0])), Verdict::Refused),
        (row("ImageInvert", Value::Array(many)), Verdict::Refused),
        (row("TheirBlend", json!(["0", 0])), Verdict::Refused),
        (row("NoSuchNode", json!(1)), Verdict::Refused),
        (wrong, Verdict::Refused),
        (loader.chain(savers).collect(), Verdict::Refused),
    ];
    let classes = classes();
    for (case, (graph, verdict)) in cases.into_iter().enumerate() {
        let began = processor_time();
        let found = classes.validate(&graph, &[]);
        let took = processor_time() - began;
        assert_eq!(found.verdict, verdict, "{case}");
        assert!(
            found.problems.len() <= MAX_PROBLEMS && found.problems_total >= found.problems.len()
        );
        println!("{case}: {took:?}, {} problems", found.problems_total);
        // A build without optimisation took 7 to 46 ms.
        assert!(took < Duration::from_secs(2), "{case}: {took:?}");
    }
}

/// The prompts that recorded servers were asked to run: the status of the answer, the answer, and the graph.
fn recorded_prompts(status: u16) -> Vec<(Value, Map<String, Value>)> {
    let versions = fs::read_dir("fixtures").unwrap().flatten();
    let folders = versions.filter_map(|version| fs::read_dir(version.path()).ok());
    let mut prompts = Vec::new();
    for recording in folders.flatten().flatten() {
        let lines = fs::read_to_string(recording.path().join("http.jsonl"));
        for line in lines.unwrap_or_default().lines() {
            let mut exchange: Value = python_json::read(line.as_bytes()).unwrap();
            let graph = exchange["request_body"]["prompt"].take();
            if let Value::Object(graph) = graph
                && exchange["path"] == "/prompt"
                && exchange["status"] == status
            {
                prompts.push((exchange["response"].take(), graph));
            }
        }
    }
    prompts
}

/// The classes, with the model files of the recorded servers.
fn recorded_classes() -> NodeClasses {
    let mut info: Value = python_json::read(OBJECT_INFO).unwrap();
    let files = [
        "corrupt.safetensors",
        "tiny-sd15-b.safetensors",
        "tiny-sd15-fp16.safetensors",
        "tiny-sd15.safetensors",
    ];
    info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] = json!([files]);
    serde_json::from_value(info).unwrap()
}

/// Where something is wrong, and what, in the words of servers since 0.9, sorted: ComfyUI checks inputs in any order.
fn places(inputs: &[WrongInput]) -> Vec<[String; 4]> {
    let places = inputs.iter().map(|it| {
        let code = it.code.replace("invalid_prompt", "missing_node_type");
        [
            it.node.clone(),
            it.class_type.clone(),
            it.input.clone(),
            code,
        ]
    });
    let mut places: Vec<[String; 4]> = places.collect();
    places.sort();
    places
}

/// What real servers have refused is refused in the same place for the same reason.
#[test]
fn recorded_refusals_are_found() {
    let classes = recorded_classes();
    let refusals = recorded_prompts(400);
    assert_eq!(refusals.len(), 30);
    for (response, graph) in refusals {
        let refused = Rejection::read(&response, &graph);
        let found = classes.validate(&graph, &[]);
        assert_eq!(found.verdict, Verdict::Refused, "{response}");
        let rejection = found.rejection();
        let kind = refused.kind.replace("invalid_prompt", "missing_node_type");
        assert_eq!(rejection.kind, kind);
        assert_eq!(
            places(&rejection.inputs),
            places(&refused.inputs),
            "{response}"
        );
        assert_eq!(rejection.inputs_total, refused.inputs_total);
    }
}

/// What real servers have taken is accepted, and outputs that they ignore are ignored for the same reason.
#[test]
fn recorded_graphs_are_accepted() {
    let classes = recorded_classes();
    let mut compared = 0;
    for (response, graph) in recorded_prompts(200) {
        let is_known = |node: &Value| {
            let class = node["class_type"].as_str().unwrap();
            classes.definition(class).is_some()
        };
        if !graph.values().all(is_known) {
            continue;
        }
        let found = classes.validate(&graph, &[]);
        assert_eq!(found.verdict, Verdict::Accepted, "{found:?}");
        let ignored = rejection::wrong_inputs(&response["node_errors"]);
        assert_eq!(places(&found.rejection().inputs), places(&ignored));
        compared += 1;
    }
    assert!(compared >= 280, "{compared}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "INT|FLOAT|COMBO|A|A,B|[0-3]|options|\\PC{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let name = "class_type|inputs|required|optional|min|max|options|[a-c]|[0-3]|__value__";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a server says of its classes, and whatever a client sends.
    #[test]
    fn no_graph_and_no_definition_panics(
        specs in prop::collection::vec(any_json(), 3),
        outputs in any_json(),
        values in prop::collection::vec(any_json(), 9),
    ) {
        let inputs = json!({"a": specs[0], "b": specs[1]});
        let class = json!({"input": {"required": inputs, "optional": {"c": specs[2]}}, "output": outputs,
            "output_node": true, "python_module": "nodes"});
        let classes: NodeClasses = serde_json::from_value(json!({"A": class})).unwrap();
        let node = |at: usize| json!({"class_type": "A", "inputs": {"a": values[at], "b": values[at + 1], "c": values[at + 2]}});
        let graph = json!({"1": node(0), "2": node(3), "3": node(6)});
        let found = classes.validate(&object(graph), &[]);
        let _ = (found.rejection().to_string(), found.problems.first().map(Problem::to_string));
        prop_assert_eq!(found.problems.is_empty(), found.problems_total == 0);
        prop_assert!(found.verdict == Verdict::Accepted || !found.problems.is_empty());
    }
}
