use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

/// The number at an output of node `1` of a graph in which images have 1,000 by 500 pixels.
fn number(graph: &Value, output: u64) -> Option<f64> {
    let graph: &Map<String, Value> = graph.as_object().unwrap();
    let graph = Graph(graph);
    let mut numbers = GraphNumbers::new(graph);
    for id in graph.topological() {
        let size = Dimensions {
            width: 1_000.0,
            height: 500.0,
            images: 3.0,
        };
        numbers.read(id, graph.node(id).unwrap(), |_| Some(size));
    }
    numbers.of_value(&json!(["1", output]))
}

/// The number at the first output of a node.
fn first(class: &str, inputs: Value) -> Option<f64> {
    number(&json!({"1": {"class_type": class, "inputs": inputs}}), 0)
}

#[test]
fn nodes_that_hold_a_number_pass_it_on() {
    for class in [
        "PrimitiveInt",
        "easy int",
        "INTConstant",
        "Int Literal",
        "ImpactInt",
    ] {
        assert_eq!(first(class, json!({"value": 768})), Some(768.0), "{class}");
    }
    let noted = json!({"number_type": "integer", "number": 16});
    assert_eq!(first("Constant Number", noted), Some(16.0));
    for (class, inputs) in [
        ("RandomInt", json!({"max": 5, "mode": "x"})),
        ("Seed (rgthree)", json!({"number": 5, "mode": "x"})),
        ("PrimitiveString", json!({"value": "768"})),
        ("ConvertRange", json!({"from": 5, "to": 6})),
    ] {
        assert_eq!(first(class, inputs.clone()), None, "{class} {inputs}");
    }
}

#[test]
fn nodes_that_calculate_are_calculated() {
    for (class, inputs, result) in [
        (
            "SimpleMath+",
            json!({"value": "a*b", "a": 512, "b": 1.5}),
            768.0,
        ),
        (
            "MathExpression|pysssss",
            json!({"expression": "a/3", "a": 512}),
            170.0,
        ),
        (
            "ComfyMathExpression",
            json!({"expression": "a/4", "values.a": 1_022}),
            255.5,
        ),
        (
            "CM_IntBinaryOperation",
            json!({"op": "Mul", "a": 64, "b": 12}),
            768.0,
        ),
        (
            "Number Operation",
            json!({"operation": "division", "number_a": 64, "number_b": 2}),
            32.0,
        ),
        (
            "easy mathInt",
            json!({"operation": "subtract", "a": 64, "b": 2}),
            62.0,
        ),
    ] {
        assert_eq!(
            first(class, inputs.clone()),
            Some(result),
            "{class} {inputs}"
        );
    }
    for (class, inputs) in [
        ("SimpleMath+", json!({"value": "a*b", "a": 512})),
        (
            "MathExpression|pysssss",
            json!({"expression": "random_int(1, a)", "a": 512}),
        ),
        (
            "CM_IntBinaryOperation",
            json!({"op": "Xor", "a": 64, "b": 12}),
        ),
        (
            "easy mathInt",
            json!({"operation": "divide", "a": 64, "b": 0}),
        ),
    ] {
        assert_eq!(first(class, inputs.clone()), None, "{class} {inputs}");
    }
}

#[test]
fn numbers_follow_links_through_several_nodes() {
    let graph = json!({
        "1": {"class_type": "MathExpression|pysssss", "inputs": {"expression": "a * 8 + b.height", "a": ["2", 0], "b": ["5", 0]}},
        "2": {"class_type": "Reroute", "inputs": {"": ["3", 0]}},
        "3": {"class_type": "CM_FloatToInt", "inputs": {"a": ["12:4", 0]}},
        "12:4": {"class_type": "PrimitiveFloat", "inputs": {"value": 96.0}},
        "5": {"class_type": "ImageBlur", "inputs": {}}
    });
    assert_eq!(number(&graph, 0), Some(1_268.0));
}

#[test]
fn the_size_of_an_image_is_at_the_outputs_of_its_class() {
    for (class, outputs) in [
        (
            "GetImageSize",
            [Some(1_000.0), Some(500.0), Some(3.0), None],
        ),
        (
            "GetImageSizeAndCount",
            [None, Some(1_000.0), Some(500.0), Some(3.0)],
        ),
        (
            "easy imageSizeByLongerSide",
            [Some(1_000.0), None, None, None],
        ),
        ("easy imageSizeBySide", [None; 4]),
    ] {
        let graph = json!({"1": {"class_type": class, "inputs": {"image": ["2", 0]}}});
        let found = [0, 1, 2, 3].map(|output| number(&graph, output));
        assert_eq!(found, outputs, "{class}");
        assert_eq!(number(&graph, u64::MAX), None);
    }
}

#[test]
fn a_cycle_has_no_number() {
    let graph = json!({
        "1": {"class_type": "SimpleMath+", "inputs": {"value": "a+1", "a": ["2", 0]}},
        "2": {"class_type": "Reroute", "inputs": {"": ["1", 0]}}
    });
    assert_eq!(number(&graph, 0), None);
}

/// A node of any of the classes that are read, with any inputs.
fn node() -> impl Strategy<Value = Value> {
    let classes = [
        "PrimitiveInt",
        "SimpleMath+",
        "MathExpression|pysssss",
        "easy mathInt",
        "GetImageSizeAndCount",
        "Reroute",
    ];
    let names = ["a", "b", "value", "expression", "operation", "image", ""];
    let value = prop_oneof![
        any::<f64>().prop_map(|number| json!(number)),
        (0..4_u8, 0..5_u64).prop_map(|(id, output)| json!([id.to_string(), output])),
        "[ab+*/%(). 0-9]{0,40}".prop_map(Value::from),
        prop::sample::select(vec!["a**b", "add", "divide", "a.width//b", "max(a,b)"])
            .prop_map(Value::from),
        Just(Value::Null),
    ];
    let inputs = prop::collection::vec((prop::sample::select(names.to_vec()), value), 0..6);
    (prop::sample::select(classes.to_vec()), inputs).prop_map(|(class, inputs)| {
        let inputs = inputs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        json!({"class_type": class, "inputs": Map::from_iter(inputs)})
    })
}

proptest! {
    #[test]
    fn any_graph_has_numbers_within_the_limits(nodes in prop::collection::vec(node(), 4)) {
        let nodes = nodes.into_iter().enumerate().map(|(id, node)| (id.to_string(), node));
        let graph = Value::Object(nodes.collect());
        for output in 0..5 {
            let number = number(&graph, output);
            prop_assert!(number.is_none_or(|number| number.abs() <= MAX_FEATURE), "{:?}", number);
        }
    }
}
