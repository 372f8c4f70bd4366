use std::collections::HashSet;

use serde_json::{Map, Value};

use super::graph::{class, links};

/// The ids of the nodes that a server will execute as outputs, as far as that is known when a graph is
/// submitted; the server's queue has the exact list.
///
/// `classes` are the classes of output nodes, from `output_node` in `GET /object_info`; without them
/// every node without a consumer counts as one. `refused` are the outputs that the answer to
/// `POST /prompt` excludes. `targets` are those that were asked for, or none for all: a server executes no others.
pub fn outputs(
    graph: &Map<String, Value>,
    classes: Option<&HashSet<String>>,
    refused: &[String],
    targets: &[String],
) -> Vec<String> {
    let read: HashSet<&str> = graph.values().flat_map(links).collect();
    let is_output = |id: &String, node: &Value| {
        let is_target = targets.contains(id);
        let is_class = |classes: &HashSet<String>| classes.contains(class(node));
        let may_be_output = || is_target || !read.contains(id.as_str());
        !refused.contains(id)
            && (targets.is_empty() || is_target)
            && classes.map_or_else(may_be_output, is_class)
    };
    let outputs = graph.iter().filter(|(id, node)| is_output(id, node));
    outputs.map(|(id, _)| id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph() -> Map<String, Value> {
        let graph = json!({
            "1": {"class_type": "KSampler", "inputs": {}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
            "4": {"class_type": "KSampler", "inputs": {}}
        });
        graph.as_object().unwrap().clone()
    }

    #[test]
    fn without_known_classes_each_node_without_a_consumer_is_an_output() {
        assert_eq!(outputs(&graph(), None, &[], &[]), ["2", "3", "4"]);
        let refused = ["3".to_owned()];
        assert_eq!(outputs(&graph(), None, &refused, &[]), ["2", "4"]);
    }

    #[test]
    fn a_node_that_no_output_needs_is_none_itself() {
        let classes = ["SaveImage", "PreviewImage"].map(str::to_owned);
        let classes = HashSet::from(classes);
        assert_eq!(outputs(&graph(), Some(&classes), &[], &[]), ["2", "3"]);
        let refused = ["2".to_owned()];
        assert_eq!(outputs(&graph(), Some(&classes), &refused, &[]), ["3"]);
    }

    #[test]
    fn of_the_outputs_only_those_run_that_are_asked_for() {
        let classes = HashSet::from(["SaveImage", "PreviewImage"].map(str::to_owned));
        let targets = ["1", "3"].map(str::to_owned);
        assert_eq!(outputs(&graph(), Some(&classes), &[], &targets), ["3"]);
        assert_eq!(outputs(&graph(), None, &[], &targets), ["1", "3"]);
        let refused = ["3".to_owned()];
        assert_eq!(outputs(&graph(), None, &refused, &targets), ["1"]);
    }
}
