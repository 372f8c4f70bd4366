//! Which backends can run a graph, and why others cannot.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use crate::comfy::{NodeClasses, Problem, ProblemKind, PromptOptions, Validation, Verdict};
use crate::relay::backend::Backend;
use crate::relay::backend::follower::Follower;
use crate::relay::unsuitable::UnsuitableBackend;
use crate::relay::{Relay, RelayError};

/// Graphs with more nodes are validated on a thread that may block.
const LARGE_GRAPH: usize = 500;

/// How many reasons are given for a backend.
const MAX_REASONS: usize = 10;

/// Whether a backend can run a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suitability {
    /// The backend's place in the configuration, from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What ComfyUI would find; `None` as long as the backend's node classes are not known.
    pub validation: Option<Validation>,
}

impl Suitability {
    /// Whether it can; `None` if that is not known.
    pub fn can_run(&self) -> Option<bool> {
        match self.validation.as_ref()?.verdict {
            Verdict::Accepted => Some(true),
            Verdict::Doubtful => None,
            Verdict::Refused => Some(false),
        }
    }

    /// What is wrong with the graph there, of many problems the first.
    pub fn problems(&self) -> &[Problem] {
        let validation = self.validation.as_ref();
        validation
            .map(|it| it.problems.as_slice())
            .unwrap_or_default()
    }

    /// `None` if it cannot, or is not known.
    fn fitness(&self) -> Option<Fitness> {
        let validation = self.validation.as_ref()?;
        match validation.verdict {
            Verdict::Accepted if validation.problems.is_empty() => Some(Fitness::Whole),
            Verdict::Accepted => Some(Fitness::InPart),
            Verdict::Doubtful => Some(Fitness::Doubtful),
            Verdict::Refused => None,
        }
    }

    fn unsuitable(&self) -> UnsuitableBackend {
        let total = self.validation.as_ref().map_or(0, |it| it.problems_total);
        let named = self.problems().iter().take(MAX_REASONS);
        let mut reasons: Vec<String> = named.map(Problem::to_string).collect();
        if total > reasons.len() {
            reasons.push(format!("{} more", total - reasons.len()));
        }
        UnsuitableBackend {
            name: self.name.clone(),
            reasons,
        }
    }
}

/// How well a backend is known to run a graph. The best comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    /// All that the graph is to make.
    Whole,
    /// Without some of its outputs, which ComfyUI leaves out.
    InPart,
    /// Unless a class refuses an input: ComfyUI decides.
    Doubtful,
}

/// The places in the configuration of the backends that a graph may be handed to: those that run all of it, or else
/// those that run a part, or else those of which only their ComfyUI knows; and with them those that have not answered.
///
/// # Errors
///
/// [`RelayError::Rejected`] if the graph itself is wrong: every backend that was asked refuses it for the same reason, and not
/// because it lacks something that another server may have. Of a single backend, that is ComfyUI's own refusal in any
/// case. [`RelayError::NoBackendCanRun`] otherwise.
pub fn placeable(asked: &[Suitability]) -> Result<Vec<usize>, RelayError> {
    let best = asked.iter().filter_map(Suitability::fitness).min();
    let may_run =
        |it: &&Suitability| it.validation.is_none() || (best.is_some() && it.fitness() == best);
    let places: Vec<usize> = asked.iter().filter(may_run).map(|it| it.index).collect();
    if !places.is_empty() {
        return Ok(places);
    }
    let validations = asked.iter().filter_map(|it| it.validation.as_ref());
    let mut others = validations.clone();
    if let Some(first) = others.next() {
        let is_same = others.all(|other| other == first);
        let is_lack = first.problems.iter().any(|it| it.lack.is_some());
        if is_same && (asked.len() == 1 || !is_lack) {
            return Err(RelayError::Rejected(first.rejection()));
        }
    }
    Err(RelayError::NoBackendCanRun {
        backends: asked.iter().map(Suitability::unsuitable).collect(),
        rejections: validations.map(Validation::rejection).collect(),
    })
}

impl Relay {
    /// Which backends can run a graph. All are asked at the same time, and one that does not answer in time counts as not known.
    pub async fn suitability(
        &self,
        graph: &Map<String, Value>,
        options: &PromptOptions,
    ) -> Vec<Suitability> {
        let backends: Vec<_> = self.0.tracker.backends.iter().cloned().collect();
        self.suitability_of(&backends, graph, options).await
    }

    /// The same, of these backends alone.
    pub(in crate::relay) async fn suitability_of(
        &self,
        backends: &[Arc<Backend>],
        graph: &Map<String, Value>,
        options: &PromptOptions,
    ) -> Vec<Suitability> {
        let validator = Validator {
            graph,
            targets: options.targets(),
            validated: Mutex::default(),
        };
        let asked = backends.iter().map(|backend| {
            let follower = &self.0.followers[backend.index];
            let validator = &validator;
            async move {
                Suitability {
                    index: backend.index,
                    name: backend.name().to_owned(),
                    validation: validator.judge(follower).await,
                }
            }
        });
        join_all(asked).await
    }
}

/// Validates one graph on several backends.
struct Validator<'a> {
    graph: &'a Map<String, Value>,
    targets: &'a [String],
    /// What has come of it, by the node classes: backends share those that are the same.
    validated: Mutex<Vec<(Arc<NodeClasses>, Validation)>>,
}

impl Validator<'_> {
    /// Judges a backend by its node classes, which are read again where a copy that is not fresh shows that it lacks
    /// something. `None` if they cannot be read in time.
    async fn judge(&self, follower: &Follower) -> Option<Validation> {
        let backend = &follower.backend;
        let known = backend.known_classes();
        if let Some(known) = &known {
            let validation = self.validate(&known.classes).await;
            if !may_change(&validation) || known.asked_at.elapsed() < follower.config.fresh_classes
            {
                return Some(validation);
            }
        }
        read_again(follower).await?;
        let read = backend.known_classes()?;
        let is_newer = known.is_none_or(|known| known.asked_at < read.asked_at);
        if !is_newer {
            return None;
        }
        Some(self.validate(&read.classes).await)
    }

    async fn validate(&self, classes: &Arc<NodeClasses>) -> Validation {
        let mut validated = self.validated.lock().await;
        let same = validated
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, classes));
        if let Some((_, validation)) = same {
            return validation.clone();
        }
        let validation = if self.graph.len() > LARGE_GRAPH {
            let (classes, graph) = (classes.clone(), self.graph.clone());
            let targets = self.targets.to_vec();
            let validating =
                tokio::task::spawn_blocking(move || classes.validate(&graph, &targets));
            match validating.await {
                Ok(validation) => validation,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        } else {
            classes.validate(self.graph, self.targets)
        };
        validated.push((classes.clone(), validation.clone()));
        validation
    }
}

/// Whether other node classes of the same server could make a difference: a file was added, or an extension.
fn may_change(validation: &Validation) -> bool {
    let kinds = [ProblemKind::NotAChoice, ProblemKind::MissingClass];
    let mut problems = validation.problems.iter();
    validation.verdict != Verdict::Accepted && problems.any(|it| kinds.contains(&it.kind))
}

/// Waits until the node classes of a backend have been read, for as long as one that answers takes. `None` if they will
/// not be.
async fn read_again(follower: &Follower) -> Option<()> {
    let (backend, config) = (&follower.backend, &follower.config);
    let is_away = !backend.state().api.reachable && !backend.stands_by();
    let newest = *backend.class_reading.borrow();
    let failed_lately = newest
        .began_at
        .is_some_and(|at| at.elapsed() < config.fresh_classes);
    if is_away || (!newest.is_running && failed_lately) {
        return None;
    }
    let mut reading = follower.read_node_classes();
    let began_at = reading.borrow().began_at?;
    let ended = reading.wait_for(|reading| !reading.is_running);
    // Fails only if the backend is gone, and it lives as long as the relay.
    let ended = timeout_at(began_at + config.classes_timeout, ended).await;
    ended.is_ok().then_some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a server with these files finds of a graph. Number 8 has another output, number 9 the class from an extension.
    fn found(index: usize, files: Option<&[&str]>, inputs: Value) -> Suitability {
        let module = if index == 9 {
            "custom_nodes.x"
        } else {
            "nodes"
        };
        let validation = files.map(|files| {
            let classes: NodeClasses = serde_json::from_value(json!({
                "Loader": {"input": {"required": {"file": [files], "strength": ["FLOAT", {"max": 2.0}]}},
                    "output": [], "output_node": true, "python_module": module},
            }))
            .unwrap();
            let mut graph = json!({"1": {"class_type": "Loader", "inputs": inputs}});
            if index == 8 {
                graph["2"] = json!({"class_type": "Loader", "inputs": loader(files[0])});
            }
            classes.validate(graph.as_object().unwrap(), &[])
        });
        Suitability {
            index,
            name: format!("gpu{index}"),
            validation,
        }
    }

    fn loader(file: &str) -> Value {
        json!({"file": file, "strength": 1.0})
    }

    #[test]
    fn a_graph_may_go_where_it_can_run_and_where_that_is_not_known() {
        let asked = [
            found(0, Some(&["a.pt"]), loader("a.pt")),
            found(1, Some(&["b.pt"]), loader("a.pt")),
            found(2, None, loader("a.pt")),
            // An extension may take it: only if nobody else does.
            found(9, Some(&["b.pt"]), loader("a.pt")),
        ];
        assert_eq!(placeable(&asked).unwrap(), [0, 2]);
        assert_eq!(placeable(&asked[1..]).unwrap(), [2, 9]);
        assert_eq!(placeable(&asked[3..]).unwrap(), [9]);
    }

    #[test]
    fn a_server_that_runs_all_outputs_is_better_than_one_that_leaves_some_out() {
        let asked = [
            found(8, Some(&["b.pt"]), loader("a.pt")),
            found(9, Some(&["b.pt"]), loader("a.pt")),
            found(0, Some(&["a.pt"]), loader("a.pt")),
        ];
        assert_eq!(asked[0].can_run(), Some(true));
        assert_eq!(placeable(&asked).unwrap(), [0]);
        assert_eq!(placeable(&asked[..2]).unwrap(), [8]);
    }

    #[test]
    fn every_reason_is_named_where_no_backend_can() {
        let asked = [
            found(0, Some(&["b.pt"]), loader("a.pt")),
            found(1, Some(&["c.pt"]), loader("a.pt")),
        ];
        let error = placeable(&asked).unwrap_err();
        assert_eq!(error.code(), "no_backend_can_run");
        let lacks = r#"model file "a.pt" is missing"#;
        assert_eq!(
            error.to_string(),
            format!("no ComfyUI server can run the workflow: gpu0: {lacks}; gpu1: {lacks}")
        );
        // Of a single server it is ComfyUI's own refusal.
        let error = placeable(&asked[..1]).unwrap_err();
        assert_eq!(error.code(), "workflow_rejected");
        assert!(
            error.to_string().contains("Loader (node 1), input file"),
            "{error}"
        );
    }

    #[test]
    fn a_graph_that_is_wrong_everywhere_is_refused_as_comfyui_does() {
        let wrong = json!({"file": "a.pt", "strength": 3.0});
        let files: Option<&[&str]> = Some(&["a.pt"]);
        let asked = [found(0, files, wrong.clone()), found(1, files, wrong)];
        let error = placeable(&asked).unwrap_err();
        assert_eq!(error.code(), "workflow_rejected");
        assert!(
            error
                .to_string()
                .contains("Value 3.0 bigger than max of 2.0"),
            "{error}"
        );
    }
}
