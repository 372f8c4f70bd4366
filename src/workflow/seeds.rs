//! Parameters that give the samplers of a graph other seeds.

use serde_json::{Map, Value};

use super::error::WorkflowError;
use super::parameter_problem::ParameterProblem;
use super::params::is_placeholder;

/// The inputs that are seeds.
const NAMES: [&str; 2] = ["seed", "noise_seed"];

/// The parameters of `count` jobs, with `params` for all of them, whose seeds grow by one from job to job: from `first`, or
/// else from the seed that each node has by `params` or by the graph. Seeds that are linked to other nodes stay.
///
/// # Errors
///
/// If there is a first one, and the graph has no node that takes it; and if the last one would be too large.
pub fn seeds(
    graph: &Map<String, Value>,
    params: &Map<String, Value>,
    count: usize,
    first: Option<u64>,
) -> Result<Vec<Map<String, Value>>, WorkflowError> {
    let wrong = |code, why: &str| {
        let problem = ParameterProblem::new("seed", code, why);
        WorkflowError::Parameters(vec![problem])
    };
    let mut starts = Vec::new();
    for (id, node) in graph {
        for name in NAMES {
            let value = node.get("inputs").and_then(|inputs| inputs.get(name));
            let key = format!("{id}.{name}");
            let Some(value) = params.get(&key).or(value) else {
                continue;
            };
            let own = value.as_u64();
            let takes = own.is_some() || is_placeholder(value);
            if let Some(start) = first.filter(|_| takes).or(own) {
                starts.push((key, start));
            }
        }
    }
    if first.is_some() && starts.is_empty() {
        return Err(wrong(
            ParameterProblem::UNKNOWN,
            "no node has an input \"seed\" or \"noise_seed\" with a value of its own",
        ));
    }
    let job = |number: usize| {
        let seeds = starts.iter().map(|(name, start)| {
            let seed = u64::try_from(number)
                .ok()
                .and_then(|it| start.checked_add(it));
            let seed = seed.ok_or_else(|| {
                let why = "the last one would be larger than 64 bits hold";
                wrong(ParameterProblem::LIMIT, why)
            })?;
            Ok((name.clone(), seed.into()))
        });
        let own = params
            .iter()
            .map(|(name, value)| Ok((name.clone(), value.clone())));
        own.chain(seeds).collect()
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
        let none = Map::new();
        let all = |first| json!(seeds(graph, &none, 2, first).unwrap());
        let given = json!([{"3.seed": 9, "4.noise_seed": 9}, {"3.seed": 10, "4.noise_seed": 10}]);
        assert_eq!(all(Some(9)), given);
        assert_eq!(all(None), json!([{"3.seed": 5}, {"3.seed": 6}]));
        assert!(seeds(graph, &none, 2, Some(u64::MAX)).is_err());
        assert!(seeds(&none, &none, 2, Some(1)).is_err());
        assert_eq!(
            seeds(&none, &none, 2, None).unwrap(),
            [Map::new(), Map::new()]
        );
    }

    #[test]
    fn parameters_of_all_jobs_are_in_each_and_may_be_the_first_seed() {
        let graph = json!({"3": {"class_type": "KSampler", "inputs": {"seed": 5}}});
        let params = json!({"3.seed": 40, "3.steps": 8});
        let (graph, params) = (graph.as_object().unwrap(), params.as_object().unwrap());
        let all = |first| json!(seeds(graph, params, 2, first).unwrap());
        let of = |seed| json!({"3.seed": seed, "3.steps": 8});
        assert_eq!(all(None), json!([of(40), of(41)]));
        assert_eq!(all(Some(7)), json!([of(7), of(8)]));
    }
}
