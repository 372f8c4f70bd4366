//! Parameters that give the samplers of a graph other seeds.

use serde_json::{Map, Value};

use super::error::WorkflowError;
use super::params::is_placeholder;

/// The inputs that are seeds.
const NAMES: [&str; 2] = ["seed", "noise_seed"];

/// The parameters of `count` jobs whose seeds grow by one from job to job: from `first`, or else from the seed that each node of the
/// graph has. Seeds that are linked to other nodes stay.
///
/// # Errors
///
/// If there is a first one, and the graph has no node that takes it; and if the last one would be too large.
pub fn seeds(
    graph: &Map<String, Value>,
    count: usize,
    first: Option<u64>,
) -> Result<Vec<Map<String, Value>>, WorkflowError> {
    let wrong = |why: &str| WorkflowError::Parameter {
        name: "seed".to_owned(),
        why: why.to_owned(),
    };
    let mut starts = Vec::new();
    for (id, node) in graph {
        for name in NAMES {
            let value = node.get("inputs").and_then(|inputs| inputs.get(name));
            let Some(value) = value else { continue };
            let own = value.as_u64();
            let takes = own.is_some() || is_placeholder(value);
            if let Some(start) = first.filter(|_| takes).or(own) {
                starts.push((format!("{id}.{name}"), start));
            }
        }
    }
    if first.is_some() && starts.is_empty() {
        return Err(wrong(
            "no node has an input \"seed\" or \"noise_seed\" with a value of its own",
        ));
    }
    let job = |number: usize| {
        let seeds = starts.iter().map(|(name, start)| {
            let seed = u64::try_from(number)
                .ok()
                .and_then(|it| start.checked_add(it));
            let seed =
                seed.ok_or_else(|| wrong("the last one would be larger than 64 bits hold"))?;
            Ok((name.clone(), seed.into()))
        });
        seeds.collect()
    };
    (0..count).map(job).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_seeds_with_a_value_of_their_own_grow_by_one() {
        let graph = json!({
            "3": {"class_type": "KSampler", "inputs": {"seed": 5}},
            "4": {"class_type": "KSamplerAdvanced", "inputs": {"noise_seed": null}},
            "5": {"class_type": "KSampler", "inputs": {"seed": ["6", 0]}},
        });
        let graph = graph.as_object().unwrap();
        let all = |first| json!(seeds(graph, 2, first).unwrap());
        let given = json!([{"3.seed": 9, "4.noise_seed": 9}, {"3.seed": 10, "4.noise_seed": 10}]);
        assert_eq!(all(Some(9)), given);
        assert_eq!(all(None), json!([{"3.seed": 5}, {"3.seed": 6}]));
        assert!(seeds(graph, 2, Some(u64::MAX)).is_err());
        assert!(seeds(&Map::new(), 2, Some(1)).is_err());
        assert_eq!(
            seeds(&Map::new(), 2, None).unwrap(),
            [Map::new(), Map::new()]
        );
    }
}
