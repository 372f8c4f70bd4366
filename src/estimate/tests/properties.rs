//! Random events and graphs.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::job::LoopRounds;

fn event() -> impl Strategy<Value = Event> {
    let node = || {
        prop::sample::select(vec![
            "4",
            "3",
            "8",
            "9",
            "7.0.0.1",
            "x",
            "20",
            "20.0.0.0_21",
            "20.0.0.1_21",
            "22",
        ])
        .prop_map(str::to_owned)
    };
    let number = || prop_oneof![3 => (0u32..30).prop_map(f64::from), 1 => prop::num::f64::ANY];
    prop_oneof![
        Just(Event::Started),
        node().prop_map(|node| Event::NodeStarted {
            node,
            display: None
        }),
        prop::collection::vec(node(), 0..3).prop_map(|nodes| Event::Cached { nodes }),
        (node(), number(), number()).prop_map(|(node, value, max)| Event::Bar {
            node: Some(node),
            value,
            max,
        }),
        (node(), prop::option::of(0u64..1_000_000)).prop_map(|(node, remaining)| Event::Partner {
            node,
            status: None,
            remaining,
        }),
        (0u32..4, any::<u32>()).prop_map(|(ended, all)| Event::Rounds {
            node: "20".to_owned(),
            rounds: LoopRounds { ended, all },
        }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>().prop_map(|x| json!(x)),
        any::<u64>().prop_map(|x| json!(x)),
        any::<i32>().prop_map(|x| json!(x)),
        Just(json!(null)),
        Just(json!(["1", 0])),
        Just(json!("a")),
    ]
}

/// Seconds until the next event, by a clock that is set from time to time.
fn pause() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => 0.0..100.0,
        1 => -1e8..1e8,
        1 => Just(-3_600.0),
        1 => Just(3_600.0),
    ]
}

proptest! {
    #[test]
    fn estimates_are_sane_for_all_events_and_graphs(
        events in prop::collection::vec((event(), pause()), 0..40),
        trained_runs in 0usize..3,
        fields in prop::collection::vec(value(), 11),
    ) {
        let names = ["steps", "width", "height", "batch_size", "scale_by", "start_at_step", "denoise", "mode.num_iterations",
            "mode.start_iteration_index", "mode.max_iteration", "mode.step"];
        let inputs: serde_json::Map<String, Value> =
            names.iter().map(|name| (*name).to_owned()).zip(fields).collect();
        let mut loop_inputs = inputs.clone();
        let mode = if trained_runs == 1 { "For" } else { "simple" };
        loop_inputs.insert("mode".to_owned(), json!(mode));
        let graph = json!({
            "1": {"class_type": "EmptyLatentImage", "inputs": inputs},
            "3": {"class_type": "KSampler", "inputs": inputs},
            "4": {"class_type": "VAELoader", "inputs": {"x": ["3", 0]}},
            "8": {"class_type": "ImageUpscaleWithModel", "inputs": {"x": ["4", 0], "y": ["3", 1]}},
            "20": {"class_type": "StartLoop", "inputs": loop_inputs},
            "21": {"class_type": "KSampler", "inputs": {"steps": 5, "latent": ["20", 4]}},
            "22": {"class_type": "EndLoop", "inputs": {"output_value": ["21", 0]}}
        });
        let mut model = trained(trained_runs);
        let mut job = job(Plan::from_graph(graph.as_object().unwrap(), None));
        let (mut now, mut published) = (0.0, 0);
        for (event, pause) in events {
            now += pause;
            job.apply(event, at(now));
            let estimate = Estimate::of(&job, &model, at(now));
            prop_assert!((0.0..1.0).contains(&estimate.fraction), "{estimate:?}");
            if let (Some(low), Some(middle), Some(high)) = (estimate.low, estimate.remaining, estimate.high) {
                prop_assert!(0.0 <= low && low <= middle && middle <= high && high.is_finite(), "{estimate:?}");
            }
            let progress = job.publish(estimate.fraction, estimate.remaining_time(), at(now)).progress;
            prop_assert!((published..100).contains(&progress));
            published = progress;
        }
        job.apply(Event::Ended(Outcome::Completed), at(now));
        model.learn(&job);
        for (_, node) in job.plan().nodes() {
            prop_assert!(model.predict("b", node, true).seconds.is_finite());
        }
    }
}
