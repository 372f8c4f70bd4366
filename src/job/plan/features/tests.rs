use serde_json::json;

use super::*;
use crate::job::plan::dimensions::Dimensions;
use crate::job::plan::image::ImageSize;

fn features(graph: Value, id: &str) -> Features {
    let graph = graph.as_object().unwrap();
    GraphReader::new(graph, &ImageSizes::default()).features(id, &graph[id])
}

fn sampler(inputs: Value) -> Value {
    let mut graph = json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 1024, "batch_size": 2}},
        "3": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "latent_image": ["2", 0], "steps": 20}},
        "4": {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "scale_by": 2.0}}
    });
    for (name, value) in inputs.as_object().unwrap() {
        graph["3"]["inputs"][name] = value.clone();
    }
    graph
}

#[test]
fn a_signature_depends_on_what_costs_time_only() {
    let signature = |inputs| features(sampler(inputs), "3").signature;
    let plain = signature(json!({"seed": 1, "cfg": 7.0}));
    assert_eq!(plain, signature(json!({"seed": 2, "cfg": 8.0})));
    let texts = json!({"text": "a", "text_g": "a", "t5xxl": "a", "prompt": "a"});
    assert_eq!(plain, signature(texts));
    assert_ne!(plain, signature(json!({"steps": 30})));
    assert_ne!(plain, signature(json!({"cfg": 1.0})));
    let mut larger = sampler(json!({}));
    larger["2"]["inputs"]["width"] = 1024.into();
    assert_ne!(plain, features(larger, "3").signature);
    let mut other = sampler(json!({}));
    other["1"]["inputs"]["ckpt_name"] = "b".into();
    assert_ne!(plain, features(other, "3").signature);
}

#[test]
fn sizes_and_loaders_are_followed_through_the_graph() {
    let graph = sampler(json!({}));
    let reader = GraphReader::new(graph.as_object().unwrap(), &ImageSizes::default());
    let pixels = |id| reader.sizes[id].dimensions.map(Dimensions::pixels);
    assert_eq!(pixels("3"), Some(512.0 * 1024.0 * 2.0));
    assert_eq!(pixels("4"), Some(1024.0 * 2048.0 * 2.0));
    assert_eq!(features(graph, "4").loaders, ["1"]);
}

#[test]
fn steps_are_those_between_start_and_end() {
    let steps = |inputs| features(sampler(inputs), "3").steps;
    assert_eq!(
        steps(json!({"start_at_step": 5, "end_at_step": 10_000})),
        Some(15)
    );
    assert_eq!(
        steps(json!({"start_at_step": 0, "end_at_step": 12})),
        Some(12)
    );
    assert_eq!(steps(json!({"denoise": 0.5})), Some(20));
    assert_eq!(steps(json!({"start_at_step": 30})), None);
}

#[test]
fn a_sampler_that_evaluates_the_model_twice_costs_twice() {
    let units = |name: &str| features(sampler(json!({"sampler_name": name})), "3").calls;
    assert_eq!(units("heun"), 2.0 * units("euler"));
}

/// The same graph, with one input of one node set.
fn with(mut graph: Value, id: &str, name: &str, value: Value) -> Value {
    graph[id]["inputs"][name] = value;
    graph
}

/// A sampler whose steps, seed and guidance scale are linked to nodes of their own.
fn linked() -> Value {
    json!({
        "1": {"class_type": "PrimitiveInt", "inputs": {"value": 20}},
        "2": {"class_type": "PrimitiveInt", "inputs": {"value": 512}},
        "3": {"class_type": "PrimitiveInt", "inputs": {"value": 7}},
        "4": {"class_type": "PrimitiveFloat", "inputs": {"value": 7.0}},
        "5": {"class_type": "PrimitiveString", "inputs": {"value": "euler"}},
        "6": {"class_type": "EmptyLatentImage", "inputs": {"width": ["2", 0], "height": 512, "batch_size": 1}},
        "7": {"class_type": "KSampler", "inputs": {
            "steps": ["1", 0], "seed": ["3", 0], "cfg": ["4", 0], "sampler_name": ["5", 0],
            "latent_image": ["6", 0]}},
        "8": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "9": {"class_type": "Sharpen", "inputs": {"picture": ["8", 0], "radius": ["1", 0]}}
    })
}

#[test]
fn a_linked_number_counts_like_a_literal() {
    let plain = features(linked(), "7");
    assert_eq!(plain.steps, Some(20));
    let more = features(with(linked(), "1", "value", json!(100)), "7");
    assert_eq!(more.steps, Some(100));
    assert_ne!(plain.signature, more.signature);
    let wide = features(with(linked(), "2", "value", json!(1024)), "7");
    assert!(wide.units.unwrap() > 1.5 * plain.units.unwrap());
    assert_ne!(plain.signature, wide.signature);
    let twice = features(with(linked(), "5", "value", json!("heun")), "7");
    assert_eq!(twice.units.unwrap(), 2.0 * plain.units.unwrap());
    let unguided = features(with(linked(), "4", "value", json!(1.0)), "7");
    assert_ne!(plain.signature, unguided.signature);
    let other = with(linked(), "1", "value", json!(3));
    assert_ne!(
        features(linked(), "9").signature,
        features(other, "9").signature
    );
}

#[test]
fn a_linked_costless_input_does_not_count() {
    let plain = features(linked(), "7").signature;
    let seeded = with(linked(), "3", "value", json!(8));
    assert_eq!(plain, features(seeded, "7").signature);
    let guided = with(linked(), "4", "value", json!(8.0));
    assert_eq!(plain, features(guided, "7").signature);
}

/// The features of the node that works on a loaded file; the sizes of some files are known.
fn of_loaded(name: &str, sizes: &[(&str, u32)]) -> Features {
    let sizes = sizes.iter().map(|(name, width)| {
        let size = ImageSize {
            width: *width,
            height: 512,
            frames: 1,
            milliseconds: 0,
        };
        (ImageFile::parse(name).unwrap(), size)
    });
    let graph = with(linked(), "8", "image", json!(name));
    let graph = graph.as_object().unwrap();
    GraphReader::new(graph, &sizes.collect()).features("9", &graph["9"])
}

#[test]
fn images_of_the_same_size_cost_the_same_by_any_name() {
    let sizes = [("a.png", 512), ("b.png", 512), ("c.png", 1024)];
    let of = |name| of_loaded(name, &sizes);
    assert_eq!(of("a.png").signature, of("b.png").signature);
    assert_ne!(of("a.png").signature, of("c.png").signature);
    assert!(of("c.png").units.unwrap() > 1.5 * of("a.png").units.unwrap());
}

#[test]
fn of_a_file_of_unknown_size_only_the_same_file_costs_the_same() {
    let (a, b) = (of_loaded("a.png", &[]), of_loaded("b.png", &[]));
    assert_eq!((a.units, b.units), (None, None));
    assert_ne!(a.signature, b.signature);
    assert_eq!(a.signature, of_loaded("a.png", &[]).signature);
    let sized = of_loaded("a.png", &[("a.png", 512)]);
    assert_ne!(sized.signature, a.signature);
    assert_eq!(sized.former_signature, Some(a.signature));
}

/// A sampler that consists of several nodes.
fn custom() -> Value {
    json!({
        "1": {"class_type": "BasicScheduler", "inputs": {"scheduler": "normal", "steps": 20, "denoise": 1.0}},
        "2": {"class_type": "SplitSigmas", "inputs": {"sigmas": ["1", 0], "step": 5}},
        "3": {"class_type": "CFGGuider", "inputs": {"cfg": 7.0}},
        "4": {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}},
        "5": {"class_type": "SamplerCustomAdvanced", "inputs": {
            "noise": ["4", 0], "guider": ["3", 0], "sigmas": ["2", 1]}},
        "6": {"class_type": "FlipSigmas", "inputs": {"sigmas": ["1", 0]}},
        "7": {"class_type": "SamplerCustomAdvanced", "inputs": {"sigmas": ["6", 0]}}
    })
}

#[test]
fn the_guidance_scale_counts_if_it_is_one() {
    let plain = features(custom(), "5").signature;
    let scale = |cfg: f64| features(with(custom(), "3", "cfg", json!(cfg)), "5").signature;
    assert_eq!(plain, scale(8.0));
    assert_ne!(plain, scale(1.0));
    let seeded = with(custom(), "4", "noise_seed", json!(2));
    assert_eq!(plain, features(seeded, "5").signature);
}

#[test]
fn steps_are_found_through_every_node_that_changes_sigmas() {
    let plain = features(custom(), "7");
    assert_eq!(plain.steps, Some(20));
    let more = features(with(custom(), "1", "steps", json!(30)), "7");
    assert_eq!(more.steps, Some(30));
    assert_ne!(plain.signature, more.signature);
}

#[test]
fn each_part_of_split_sigmas_has_its_own_steps() {
    assert_eq!(features(custom(), "5").steps, Some(15));
    let first = with(custom(), "5", "sigmas", json!(["2", 0]));
    assert_eq!(features(first, "5").steps, Some(5));
}

#[test]
fn invalid_inputs_are_ignored() {
    let cycle = with(custom(), "2", "sigmas", json!(["2", 0]));
    assert_eq!(features(cycle, "5").steps, None);
    let own = with(linked(), "1", "value", json!(["1", 0]));
    assert_eq!(features(own, "7").steps, None);
    for odd in [
        json!(null),
        json!({}),
        json!([]),
        json!("20"),
        json!(-1),
        json!(true),
    ] {
        let graph = with(linked(), "1", "value", odd);
        assert_eq!(features(graph, "7").steps, None);
    }
    let huge = with(linked(), "2", "value", json!(1e308));
    let huge = with(huge, "6", "height", json!(1e308));
    let huge = with(huge, "6", "batch_size", json!(1e308));
    assert!(features(huge, "7").units.unwrap().is_finite());
}

/// A long text only counts for its own node: with many links to one text, reading it for each would
/// take time that the size of the graph does not limit.
#[test]
fn a_long_linked_text_does_not_count() {
    let graph = |letter: &str| {
        json!({
            "1": {"class_type": "PrimitiveString", "inputs": {"value": letter.repeat(1000)}},
            "2": {"class_type": "Join", "inputs": {"first": ["1", 0]}}
        })
    };
    assert_eq!(
        features(graph("a"), "2").signature,
        features(graph("b"), "2").signature
    );
    assert_ne!(
        features(graph("a"), "1").signature,
        features(graph("b"), "1").signature
    );
}

#[test]
fn the_size_is_that_of_the_latent_not_of_the_conditioning() {
    let units = |width: u32| {
        let graph = json!({
            "1": {"class_type": "CLIPTextEncodeSDXL", "inputs": {"width": 4096, "height": 4096}},
            "2": {"class_type": "EmptyLatentImage", "inputs": {"width": width, "height": width}},
            "3": {"class_type": "KSampler", "inputs": {
                "steps": 20, "positive": ["1", 0], "latent_image": ["2", 0]}}
        });
        features(graph, "3").units.unwrap()
    };
    assert!(units(1024) > 3.0 * units(512));
}

#[test]
fn other_links_set_the_size_if_no_image_does() {
    let graph = json!({
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024}},
        "2": {"class_type": "Loader", "inputs": {}},
        "3": {"class_type": "KSampler", "inputs": {"latent": ["1", 0], "image": ["2", 0]}}
    });
    assert!(features(graph, "3").units.unwrap() > 3.0);
}

#[test]
fn a_node_that_scales_keeps_the_number_of_images() {
    let units = |class: &str, batch: u32| {
        let graph = json!({
            "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": batch}},
            "2": {"class_type": class, "inputs": {"samples": ["1", 0], "width": 1024, "height": 1024}},
            "3": {"class_type": "KSampler", "inputs": {"steps": 20, "latent_image": ["2", 0]}}
        });
        (
            features(graph.clone(), "2").units.unwrap(),
            features(graph, "3").units.unwrap(),
        )
    };
    for class in ["LatentUpscale", "ImageScale"] {
        let (one, eight) = (units(class, 1), units(class, 8));
        assert!(eight.0 > 5.0 * one.0 && eight.1 > 5.0 * one.1);
    }
}

#[test]
fn a_video_has_the_frames_that_it_sets() {
    let units = |batch: u32| {
        let graph = json!({
            "1": {"class_type": "EmptyImage", "inputs": {"width": 512, "height": 512, "batch_size": batch}},
            "2": {"class_type": "WanImageToVideo", "inputs": {
                "start_image": ["1", 0], "width": 512, "height": 512, "length": 81, "batch_size": 1}}
        });
        features(graph, "2").units.unwrap()
    };
    assert_eq!(units(1), units(8));
}

/// A chain of `count` loaders, each linked to the one before, and a sampler.
fn chain(count: usize) -> Value {
    let mut graph = Map::new();
    for at in 0..count {
        let mut inputs = json!({"lora_name": "a"});
        if at > 0 {
            inputs["model"] = json!([(at - 1).to_string(), 0]);
        }
        let loader = json!({"class_type": "LoraLoader", "inputs": inputs});
        graph.insert(at.to_string(), loader);
    }
    let inputs = json!({"model": [(count - 1).to_string(), 0], "steps": 20});
    graph.insert(
        "end".to_owned(),
        json!({"class_type": "KSampler", "inputs": inputs}),
    );
    Value::Object(graph)
}

#[test]
fn a_node_keeps_its_nearest_loaders() {
    let graph = chain(4000);
    let graph = graph.as_object().unwrap();
    let reader = GraphReader::new(graph, &ImageSizes::default());
    let loaders = |id: &str| reader.features(id, &graph[id]).loaders;
    assert!(graph.keys().all(|id| loaders(id).len() <= 64));
    let nearest: Vec<String> = (4000 - 64..4000).rev().map(|at| at.to_string()).collect();
    assert_eq!(loaders("end"), nearest);
    assert_eq!(loaders("1"), ["1", "0"]);
}

#[test]
fn each_loader_that_a_node_keeps_counts() {
    let plain = features(chain(4000), "end").signature;
    for at in [3936, 3937, 3970, 3999] {
        let other = with(chain(4000), &at.to_string(), "lora_name", json!("b"));
        assert_ne!(plain, features(other, "end").signature);
    }
}

#[test]
fn a_signature_does_not_depend_on_ids() {
    let graph = |first: &str, second: &str| {
        json!({
            first: {"class_type": "UNETLoader", "inputs": {"unet_name": "a"}},
            second: {"class_type": "VAELoader", "inputs": {"vae_name": "b"}},
            "end": {"class_type": "KSampler", "inputs": {"model": [first, 0], "vae": [second, 0]}}
        })
    };
    assert_eq!(
        features(graph("1", "2"), "end").signature,
        features(graph("2", "1"), "end").signature
    );
}

/// A loop around a sampler of so many steps, with so many rounds.
fn repeated(rounds: u32, steps: u32) -> Value {
    json!({
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
        "2": {"class_type": "TestForLoopOpen", "inputs": {"remaining": rounds, "initial_value1": ["1", 0]}},
        "3": {"class_type": "KSampler", "inputs": {"steps": steps, "seed": 1, "latent_image": ["2", 2]}},
        "4": {"class_type": "TestForLoopClose", "inputs": {"flow_control": ["2", 0], "initial_value1": ["3", 0]}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0]}}
    })
}

#[test]
fn the_end_of_a_loop_has_the_work_of_all_rounds_but_the_first() {
    let body = features(repeated(4, 20), "3");
    let end = features(repeated(4, 20), "4");
    assert_eq!(end.role, Role::Sampler);
    assert_eq!(end.steps, None, "it has no bar of its own");
    assert_eq!(
        (end.calls, end.units),
        (3.0 * body.calls, body.units.map(|units| 3.0 * units))
    );
    // There is nothing to repeat.
    assert_eq!(features(repeated(1, 20), "4").role, Role::Other);
}

#[test]
fn a_loop_with_other_rounds_or_other_nodes_costs_something_else() {
    let end = |graph: Value| features(graph, "4").signature;
    let plain = end(repeated(4, 20));
    assert_ne!(plain, end(repeated(8, 20)));
    assert_ne!(plain, end(repeated(4, 30)));
    assert_eq!(plain, end(with(repeated(4, 20), "3", "seed", json!(2))));
    assert_eq!(
        features(repeated(4, 20), "5"),
        features(repeated(8, 20), "5")
    );
}

#[test]
fn loops_within_loops_multiply() {
    let mut graph = repeated(3, 10);
    graph["6"] = json!({"class_type": "TestForLoopOpen", "inputs": {"remaining": 5, "initial_value1": ["1", 0]}});
    graph["2"]["inputs"]["initial_value1"] = json!(["6", 0]);
    graph["7"] = json!({"class_type": "TestForLoopClose", "inputs": {"flow_control": ["6", 0], "initial_value1": ["4", 0]}});
    let of = |id| features(graph.clone(), id).calls;
    assert_eq!(of("4"), 20.0);
    // The sampler, the rest of the inner loop, and its start.
    assert_eq!(of("7"), 4.0 * (10.0 + 20.0 + 1.0));
}

#[test]
fn loops_that_are_linked_in_odd_ways_are_read_in_bounded_time() {
    let own = with(repeated(3, 10), "4", "flow_control", json!(["4", 0]));
    assert!(features(own, "4").calls.is_finite());
    let nodes = (0..2_000).map(|at: usize| {
        let before = at.saturating_sub(1).to_string();
        let inputs =
            json!({"flow": [before, 0], "loop": ["0", 0], "total": 1e300, "value": [before, 1]});
        (
            at.to_string(),
            json!({"class_type": "forLoop", "inputs": inputs}),
        )
    });
    let graph = Value::Object(nodes.collect());
    assert!(features(graph, "1999").calls.is_finite());
}
