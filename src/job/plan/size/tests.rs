use serde_json::{Map, json};

use super::*;
use crate::job::plan::features::GraphReader;
use crate::job::plan::image::ImageFile;

/// A photo of 1,000 by 500 pixels.
const PHOTO: ImageSize = ImageSize {
    width: 1_000,
    height: 500,
    frames: 1,
    milliseconds: 0,
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

#[test]
fn sizes_are_calculated_from_numbers_and_images() {
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "Reroute", "inputs": {"": ["1", 0]}},
        "3": {"class_type": "GetImageSizeAndCount", "inputs": {"image": ["2", 0]}},
        "7:1": {"class_type": "PrimitiveInt", "inputs": {"value": 64}},
        "7:2": {"class_type": "MathExpression|pysssss", "inputs": {"expression": "a * 1.5 // b * b", "a": ["3", 1], "b": ["7:1", 0]}},
        "7:3": {"class_type": "SimpleMath+", "inputs": {"value": "min(a, 256)", "a": ["3", 2]}},
        "5": {"class_type": "EmptyImage", "inputs": {"width": ["7:2", 0], "height": ["7:3", 0], "batch_size": 2}},
        "6": {"class_type": "Reroute", "inputs": {"": ["5", 0]}}
    });
    assert_eq!(of(&graph, "6", true), Some((1_472.0, 256.0, 2.0)));
    assert_eq!(of(&graph, "6", false), None);
    let unknown = ImageSizes::default();
    let reader = GraphReader::new(graph.as_object().unwrap(), &unknown);
    let file = reader.size("6").and_then(|size| size.file);
    assert_eq!(file, Some("photo.png"), "the size of the file decides");
}

#[test]
fn inputs_of_a_choice_and_kept_ratios_count() {
    let table = [
        (
            "ResizeImageMaskNode",
            json!({"resize_type": "scale dimensions", "resize_type.width": 640, "resize_type.height": 480}),
            (640.0, 480.0),
        ),
        (
            "ResizeImageMaskNode",
            json!({"resize_type": "scale by multiplier", "resize_type.multiplier": 2.0}),
            (2_000.0, 1_000.0),
        ),
        (
            "ResizeImageMaskNode",
            json!({"resize_type": "scale longer dimension", "resize_type.longer_size": 500}),
            (500.0, 250.0),
        ),
        (
            "ImageResize+",
            json!({"width": 500, "height": 500, "method": "keep proportion"}),
            (500.0, 250.0),
        ),
        (
            "ImageResizeKJv2",
            json!({"width": 500, "height": 500, "keep_proportion": "resize"}),
            (500.0, 250.0),
        ),
        (
            "ImageResizeKJv2",
            json!({"width": 500, "height": 500, "keep_proportion": "stretch"}),
            (500.0, 500.0),
        ),
    ];
    for (class, inputs, (width, height)) in table {
        let found = behind_photo(class, inputs.clone());
        assert_eq!(found, (width, height, 1.0), "{class} {inputs}");
    }
}

#[test]
fn a_video_has_the_frames_that_are_taken_of_it() {
    let clip = ImageSize {
        width: 640,
        height: 480,
        frames: 120,
        milliseconds: 5_000,
    };
    let sizes = ImageSizes::from_iter([(ImageFile::parse("clip.mp4").unwrap(), clip)]);
    for (class, mut inputs, size) in [
        ("LoadVideo", json!({}), (640.0, 480.0, 120.0)),
        (
            "VHS_LoadVideo",
            json!({"frame_load_cap": 16}),
            (640.0, 480.0, 16.0),
        ),
        (
            "VHS_LoadVideo",
            json!({"frame_load_cap": 0, "skip_first_frames": 21, "select_every_nth": 2}),
            (640.0, 480.0, 50.0),
        ),
        (
            "VHS_LoadVideo",
            json!({"force_rate": 8, "custom_width": 320, "custom_height": 0}),
            (320.0, 240.0, 40.0),
        ),
        (
            "VHS_LoadVideo",
            json!({"skip_first_frames": 500}),
            (640.0, 480.0, 1.0),
        ),
    ] {
        inputs[if class == "LoadVideo" {
            "file"
        } else {
            "video"
        }] = "clip.mp4".into();
        let graph = json!({
            "1": {"class_type": class, "inputs": inputs},
            "2": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}}
        });
        let reader = GraphReader::new(graph.as_object().unwrap(), &sizes);
        let found = reader.size("2").and_then(|size| size.dimensions).unwrap();
        assert_eq!((found.width, found.height, found.images), size, "{graph}");
    }
}
