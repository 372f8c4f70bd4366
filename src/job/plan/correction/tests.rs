use serde_json::{Value, json};

use super::*;
use crate::job::{Plan, PlannedNode};

const SMALL: ImageSize = image(512, 512);

const fn image(width: u32, height: u32) -> ImageSize {
    ImageSize {
        width,
        height,
        frames: 1,
        milliseconds: 0,
    }
}

fn plan(graph: &Value, sizes: &ImageSizes) -> Plan {
    Plan::read(graph.as_object().unwrap(), None, sizes)
}

fn node(graph: &Value, sizes: &ImageSizes, id: &str) -> PlannedNode {
    plan(graph, sizes).node(id).unwrap().clone()
}

/// The sizes that are known when node `9` of a graph has saved files, the first of which has this size.
fn after(graph: &Value, sizes: &ImageSizes, first: ImageSize, files: usize) -> ImageSizes {
    let saved = node(graph, sizes, "9").saved.unwrap();
    match saved.compare(first, files) {
        SizeFinding::Observed(key, size) => {
            let observed = ObservedSizes::from([(key, size)]);
            sizes.clone().with_observed(Arc::new(observed))
        }
        other => panic!("{other:?}"),
    }
}

/// Text to image of a size that a node chooses in some way of its own.
fn chosen(ratio: &str, seed: u64) -> Value {
    json!({
        "1": {"class_type": "CR Aspect Ratio", "inputs": {"aspect_ratio": ratio, "prescale_factor": 1.0}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": ["1", 0], "height": ["1", 1], "batch_size": 1}},
        "3": {"class_type": "KSampler", "inputs": {"steps": 20, "seed": seed, "latent_image": ["2", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}
    })
}

#[test]
fn a_saved_image_shows_the_size_of_the_latent_that_it_comes_from() {
    let nothing = ImageSizes::default();
    assert_eq!(node(&chosen("1:1", 1), &nothing, "3").units, None);
    let sizes = after(&chosen("1:1", 1), &nothing, image(1_024, 1_024), 2);
    let units = |ratio| node(&chosen(ratio, 2), &sizes, "3").units;
    let set = json!({"1": {"class_type": "EmptyLatentImage", "inputs": {"width": 1_024, "height": 1_024, "batch_size": 2}},
        "3": {"class_type": "KSampler", "inputs": {"steps": 20, "latent_image": ["1", 0]}}});
    assert_eq!(units("1:1"), node(&set, &nothing, "3").units);
    assert_eq!(units("4:3"), None, "another choice is another size");
}

#[test]
fn what_was_learned_before_a_correction_still_counts() {
    let nothing = ImageSizes::default();
    let before = node(&chosen("1:1", 1), &nothing, "3").signature;
    let sizes = after(&chosen("1:1", 1), &nothing, SMALL, 1);
    let corrected = node(&chosen("1:1", 1), &sizes, "3");
    assert_ne!(corrected.signature, before);
    assert_eq!(corrected.former_signature, Some(before));
    // Nothing is left to correct.
    assert_eq!(after(&chosen("1:1", 1), &sizes, SMALL, 1), sizes);
}

/// Text to image that is enlarged by a model.
fn enlarged(side: u32, model: &str) -> Value {
    json!({
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": side, "height": side}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0]}},
        "5": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": model}},
        "6": {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["5", 0], "image": ["8", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["6", 0]}}
    })
}

#[test]
fn an_upscale_model_enlarges_images_of_any_size_alike() {
    let nothing = ImageSizes::default();
    let sizes = after(&enlarged(512, "double"), &nothing, image(1_024, 1_024), 1);
    let units = |graph: &Value, sizes| node(graph, sizes, "6").units.unwrap();
    let (once, twice) = (enlarged(384, "double"), enlarged(768, "quadruple"));
    assert!(units(&once, &nothing) > 3.0 * units(&once, &sizes));
    assert_eq!(
        units(&twice, &nothing),
        units(&twice, &sizes),
        "another model"
    );
    // A cut-out does not show by how much a model enlarges.
    let saved = node(&once, &nothing, "9").saved.unwrap();
    assert_eq!(saved.compare(image(500, 100), 1), SizeFinding::AsPlanned);
}

#[test]
fn a_size_that_the_graph_sets_is_not_corrected() {
    let graph = json!({
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
        "3": {"class_type": "KSampler", "inputs": {"latent_image": ["2", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}
    });
    assert_eq!(node(&graph, &ImageSizes::default(), "9").saved, None);
    // What a node behind it does is not certain.
    let mut graph = graph;
    graph["8"] = json!({"class_type": "Zoom", "inputs": {"image": ["3", 0]}});
    graph["9"]["inputs"]["images"] = json!(["8", 0]);
    let nothing = ImageSizes::default();
    let sizes = after(&graph, &nothing, image(2_048, 2_048), 1);
    let units = |id, sizes| node(&graph, sizes, id).units.unwrap();
    assert_eq!(units("3", &sizes), units("3", &nothing));
    assert!(units("9", &sizes) > 5.0 * units("9", &nothing));
}

#[test]
fn an_image_of_another_size_shows_that_a_file_has_changed() {
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "3": {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}
    });
    let file = ImageFile::parse("photo.png").unwrap();
    let sizes = ImageSizes::from_iter([(file, image(1_001, 777))]);
    let saved = node(&graph, &sizes, "9").saved.unwrap();
    for (size, finding) in [
        (image(1_000, 776), SizeFinding::AsPlanned),
        (image(776, 1_000), SizeFinding::AsPlanned),
        (image(512, 512), SizeFinding::FileChanged),
    ] {
        assert_eq!(saved.compare(size, 1), finding);
    }
}

#[test]
fn an_animation_whose_frames_are_not_known_has_those_that_were_planned() {
    let saved = |images: f64| {
        let planned = Dimensions {
            width: 64.0,
            height: 64.0,
            images,
        };
        SavedImages::of(Some(planned), SizeCause::Node(SizeKey(1))).unwrap()
    };
    for (planned, first, files, frames) in [(81.0, 1, 1, 81), (81.0, 49, 1, 49), (81.0, 1, 49, 49)]
    {
        let finding = saved(planned).compare(
            ImageSize {
                frames: first,
                ..SMALL
            },
            files,
        );
        let observed = ObservedSize::Images(ImageSize { frames, ..SMALL });
        assert_eq!(finding, SizeFinding::Observed(SizeKey(1), observed));
    }
}
