//! The sizes of the pictures that a graph loads.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::output::print_note;
use crate::comfy::ComfyClient;
use crate::job::Plan;
use crate::recording::RecordedInput;

/// Asks the server for the sizes of those pictures that `graph` loads and that are not among `inputs` yet, and adds
/// them by the names that they have in a graph. One that cannot be measured is left out with a warning.
pub(super) async fn measure(
    server: &ComfyClient,
    graph: &Value,
    inputs: &mut BTreeMap<String, RecordedInput>,
) {
    let plan = graph.as_object().map(|graph| Plan::from_graph(graph, None));
    for file in plan.iter().flat_map(Plan::files) {
        let name = file.to_string();
        if inputs.contains_key(&name) {
            continue;
        }
        match server.rest().image_size(file).await {
            Ok(Some(size)) => {
                let input = RecordedInput {
                    width: size.width,
                    height: size.height,
                    frames: size.frames,
                };
                inputs.insert(name, input);
            }
            Ok(None) => print_note(format_args!(
                "warning: {name} is not in inputs.json: ComfyUI has no such file, or its head shows no size"
            )),
            Err(error) => {
                print_note(format_args!(
                    "warning: {name} is not in inputs.json: {error}"
                ));
            }
        }
    }
}
