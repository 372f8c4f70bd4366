use serde_json::{Map, json};

use super::*;
use crate::job::plan::features::GraphReader;
use crate::job::plan::image::{ImageFile, ImageSizes};

/// A photo of 1,000 by 500 pixels.
const PHOTO: ImageSize = ImageSize {
    width: 1_000,
    height: 500,
    frames: 1,
};

/// The width, height and number of the images that leave a node behind a loaded photo.
fn behind_photo(class: &str, mut inputs: Value) -> (f64, f64, f64) {
    inputs["image"] = json!(["1", 0]);
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": class, "inputs": inputs}
    });
    of(&graph, "2", true).unwrap()
}

fn of(graph: &Value, id: &str, is_known: bool) -> Option<(f64, f64, f64)> {
    let file = ImageFile::parse("photo.png").unwrap();
    let sizes = ImageSizes::from_iter(is_known.then_some((file, PHOTO)));
    let graph: &Map<String, Value> = graph.as_object().unwrap();
    let reader = GraphReader::new(graph, &sizes);
    let dimensions = reader.size(id)?.dimensions?;
    Some((dimensions.width, dimensions.height, dimensions.images))
}

#[test]
fn nodes_change_the_size_as_their_inputs_say() {
    let table = [
        ("VAEEncode", json!({}), (1_000.0, 500.0, 1.0)),
        (
            "ImageScaleBy",
            json!({"scale_by": 1.5}),
            (1_500.0, 750.0, 1.0),
        ),
        (
            "ImageScale",
            json!({"width": 640, "height": 480}),
            (640.0, 480.0, 1.0),
        ),
        // 0 keeps the ratio.
        (
            "ImageScale",
            json!({"width": 500, "height": 0}),
            (500.0, 250.0, 1.0),
        ),
        (
            "ImageScale",
            json!({"width": 0, "height": 1000}),
            (2_000.0, 1_000.0, 1.0),
        ),
        (
            "ImageScaleToMaxDimension",
            json!({"largest_size": 100}),
            (100.0, 50.0, 1.0),
        ),
        (
            "ImageScaleToTotalPixels",
            json!({"megapixels": 0.5 / 1.048576}),
            (1_000.0, 500.0, 1.0),
        ),
        (
            "ResizeImagesByShorterEdge",
            json!({"shorter_edge": 100}),
            (200.0, 100.0, 1.0),
        ),
        (
            "CannyEdgePreprocessor",
            json!({"resolution": 250}),
            (500.0, 250.0, 1.0),
        ),
        ("ImageUpscaleWithModel", json!({}), (4_000.0, 2_000.0, 1.0)),
        (
            "ImageCrop",
            json!({"width": 400, "height": 900}),
            (400.0, 500.0, 1.0),
        ),
        (
            "ImagePadForOutpaint",
            json!({"left": 100, "top": 0, "right": 50, "bottom": 20}),
            (1_150.0, 520.0, 1.0),
        ),
        (
            "RepeatImageBatch",
            json!({"amount": 3}),
            (1_000.0, 500.0, 3.0),
        ),
        // Only a node that scales is scaled by its resolution.
        ("Blur", json!({"resolution": 250}), (1_000.0, 500.0, 1.0)),
    ];
    for (class, inputs, size) in table {
        let found = behind_photo(class, inputs.clone());
        let is_close = |a: f64, b: f64| (a - b).abs() < 1e-6 * b;
        assert!(
            is_close(found.0, size.0) && is_close(found.1, size.1) && found.2 == size.2,
            "{class} {inputs}: {found:?}"
        );
    }
}

#[test]
fn a_latent_can_take_its_size_from_an_image() {
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "GetImageSize", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {
            "width": ["2", 0], "height": ["2", 1], "batch_size": 2}}
    });
    assert_eq!(of(&graph, "3", true), Some((1_000.0, 500.0, 2.0)));
    assert_eq!(of(&graph, "3", false), None);
    let graph = graph.as_object().unwrap();
    let unknown = ImageSizes::default();
    let reader = GraphReader::new(graph, &unknown);
    assert_eq!(
        reader.size("3").and_then(|size| size.file),
        Some("photo.png")
    );
}

#[test]
fn a_size_that_a_node_sets_depends_on_no_file() {
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "width": 64, "height": 64}}
    });
    assert_eq!(of(&graph, "2", false), Some((64.0, 64.0, 1.0)));
    let graph = graph.as_object().unwrap();
    let unknown = ImageSizes::default();
    let reader = GraphReader::new(graph, &unknown);
    assert_eq!(reader.size("2").and_then(|size| size.file), None);
}

#[test]
fn conditioning_of_unknown_size_does_not_hide_the_size_of_the_latent() {
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "ControlNetApply", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
        "4": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "latent_image": ["3", 0]}}
    });
    assert_eq!(of(&graph, "4", false), Some((512.0, 512.0, 1.0)));
}
