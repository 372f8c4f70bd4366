//! Parameters that give the samplers of a graph other seeds.

use serde_json::{Map, Value};

use super::catalog::NamedWorkflow;
use super::error::WorkflowError;
use super::given::GivenParameters;
use super::header::{DefaultValue, HeaderParameter, InputTarget, IntegerLimits, ParameterKind};
use super::parameter_problem::ParameterProblem;
use super::params::{by_id, is_placeholder};

/// The inputs that are seeds.
const NAMES: [&str; 2] = ["seed", "noise_seed"];

/// The inputs that `count` jobs of a workflow set, with parameters for all of them, whose seeds grow by one from job to job: from
/// `first`, or else from the seed that is given, drawn or in the graph. The header's limits of a seed hold for all of them.
///
/// # Errors
///
/// What is wrong with the parameters; if there is a first seed, and no node takes it; and if the last one would be too large.
pub fn seeds(
    workflow: &NamedWorkflow,
    mut given: GivenParameters,
    count: usize,
    first: Option<u64>,
) -> Result<Vec<Map<String, Value>>, WorkflowError> {
    let header = workflow.header.iter().flat_map(|it| &it.parameters);
    let of_seeds: Vec<(&HeaderParameter, IntegerLimits)> = header.filter_map(of_seed).collect();
    for (parameter, limits) in &of_seeds {
        let own = given.named.get(&parameter.name);
        let is_drawn = match own {
            Some(value) => *value == DefaultValue::RANDOM,
            None => parameter.default == DefaultValue::Random,
        };
        let value = match first {
            Some(first) if is_drawn || own.is_none() => first.into(),
            None if is_drawn => limits.of_first(count).random(),
            _ => continue,
        };
        given.named.insert(parameter.name.clone(), value);
    }
    let all = growing(
        &workflow.graph,
        &given.resolved(workflow)?.inputs,
        count,
        first,
    )?;
    let inputs = given.inputs.keys();
    let own: Vec<String> = inputs.map(|name| by_id(&workflow.graph, name)).collect();
    for (parameter, _) in of_seeds {
        let targets = parameter.targets.iter().filter(|it| is_seed(it));
        let targets = targets.map(ToString::to_string);
        // One that is set by itself is out of the header's hands.
        for target in targets.filter(|it| first.is_some() || !own.contains(it)) {
            for value in all.iter().filter_map(|job| job.get(&target)) {
                let accepted = parameter.accepted(value);
                accepted.map_err(|problem| WorkflowError::Parameters(vec![problem]))?;
            }
        }
    }
    Ok(all)
}

/// The limits of a parameter that sets a seed.
fn of_seed(parameter: &HeaderParameter) -> Option<(&HeaderParameter, IntegerLimits)> {
    match parameter.kind {
        ParameterKind::Integer(limits) if parameter.targets.iter().any(is_seed) => {
            Some((parameter, limits))
        }
        _ => None,
    }
}

fn is_seed(target: &InputTarget) -> bool {
    NAMES.contains(&target.input.as_str())
}

/// The parameters of `count` jobs, with `params` for all of them, whose seeds grow by one from job to job: from `first`, or
/// else from the seed that each node has by `params` or by the graph. Seeds that are linked to other nodes stay.
///
/// # Errors
///
/// If there is a first one, and the graph has no node that takes it; and if the last one would be too large.
fn growing(
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
    use crate::workflow::header::WorkflowHeader;

    #[test]
    fn all_seeds_with_a_value_of_their_own_grow_by_one() {
        let graph = json!({
            "3": {"class_type": "KSampler", "inputs": {"seed": 5}},
            "4": {"class_type": "KSamplerAdvanced", "inputs": {"noise_seed": null}},
            "5": {"class_type": "KSampler", "inputs": {"seed": ["6", 0]}},
        });
        let graph = graph.as_object().unwrap();
        let none = Map::new();
        let all = |first| json!(growing(graph, &none, 2, first).unwrap());
        let given = json!([{"3.seed": 9, "4.noise_seed": 9}, {"3.seed": 10, "4.noise_seed": 10}]);
        assert_eq!(all(Some(9)), given);
        assert_eq!(all(None), json!([{"3.seed": 5}, {"3.seed": 6}]));
        assert!(growing(graph, &none, 2, Some(u64::MAX)).is_err());
        assert!(growing(&none, &none, 2, Some(1)).is_err());
        assert_eq!(
            growing(&none, &none, 2, None).unwrap(),
            [Map::new(), Map::new()]
        );
    }

    #[test]
    fn a_seed_that_is_drawn_leaves_room_for_those_after_it() {
        let graph = json!({"3": {"class_type": "KSampler", "inputs": {"seed": 5}}});
        let header = json!({"title": "Draw", "parameters": [
            {"name": "seed", "type": "integer", "minimum": 10, "maximum": 20, "default": "random", "targets": [{"node": "3", "input": "seed"}]},
        ]});
        let graph = graph.as_object().unwrap().clone();
        let header = WorkflowHeader::read(header.to_string().as_bytes(), &graph).unwrap();
        let workflow = NamedWorkflow {
            graph,
            header: Some(header),
        };
        let drawn = |count| seeds(&workflow, GivenParameters::default(), count, None);
        assert_eq!(
            drawn(11).unwrap()[10],
            *json!({"3.seed": 20}).as_object().unwrap()
        );
        assert!(drawn(12).is_err());
    }

    #[test]
    fn parameters_of_all_jobs_are_in_each_and_may_be_the_first_seed() {
        let graph = json!({"3": {"class_type": "KSampler", "inputs": {"seed": 5}}});
        let params = json!({"3.seed": 40, "3.steps": 8});
        let (graph, params) = (graph.as_object().unwrap(), params.as_object().unwrap());
        let all = |first| json!(growing(graph, params, 2, first).unwrap());
        let of = |seed| json!({"3.seed": seed, "3.steps": 8});
        assert_eq!(all(None), json!([of(40), of(41)]));
        assert_eq!(all(Some(7)), json!([of(7), of(8)]));
    }
}
