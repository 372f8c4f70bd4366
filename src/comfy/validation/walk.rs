//! Visits the nodes that outputs need, as ComfyUI does, without a stack of calls: graphs can be deep.

use serde_json::Value;

use crate::comfy::node_definition::{InputDefinition, InputType, is_linkable};
use crate::comfy::validation::input_value;
use crate::comfy::validation::node::{GraphNode, GraphNodes};
use crate::comfy::validation::problem::{FoundProblems, MAX_PROBLEMS, Problem, ProblemKind};

/// How many nodes of a cycle are named.
const MAX_CYCLE: usize = 20;

/// How many cycles are named: each node of a long one may be linked to all before it.
const MAX_CYCLES: usize = 5;

/// How many problems are put into words: what is found in a node can be forgotten again, so more than are listed.
const MAX_WORDED: usize = 4 * MAX_PROBLEMS;

/// Whether a node passes, with everything that it needs. The best comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Validity {
    Good,
    /// Unless a class has a check of its own, it does not.
    Doubtful,
    Bad,
}

/// How far a node is checked.
#[derive(Debug, Clone, Copy)]
enum CheckState {
    Unvisited,
    Open,
    Done(Validity),
}

/// A node that is being checked.
#[derive(Debug)]
struct Visit<'a> {
    node: &'a GraphNode<'a>,
    /// The next of its inputs.
    next: usize,
    /// The input of the node before it on the stack that is linked to it; `None` if it is an output.
    via: Option<&'a str>,
    validity: Validity,
    found: FoundProblems,
}

/// What comes after an input.
enum NextStep<'a> {
    /// The next one.
    Next,
    /// The node that it is linked to.
    Enter(&'a GraphNode<'a>),
    /// It is linked to a node that waits for this one.
    Cycle(&'a GraphNode<'a>),
    /// Python raises an exception with this text, and the node is not checked further.
    Raise(String),
}

/// Where a link leads.
enum Target<'a> {
    Node(&'a GraphNode<'a>),
    /// Python raises an exception with this text.
    Nowhere(String),
}

/// Checks nodes, each once.
pub(super) struct Walk<'a> {
    nodes: &'a GraphNodes<'a>,
    progress: Vec<CheckState>,
    stack: Vec<Visit<'a>>,
    found: FoundProblems,
    cycles: usize,
    /// How many problems were put into words.
    worded: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(nodes: &'a GraphNodes<'a>) -> Self {
        Self {
            nodes,
            progress: vec![CheckState::Unvisited; nodes.all().len()],
            stack: Vec::new(),
            found: FoundProblems::default(),
            cycles: 0,
            worded: 0,
        }
    }

    /// All problems that were found.
    pub(super) fn into_found(self) -> FoundProblems {
        self.found
    }

    /// Checks an output, with all nodes that it needs.
    pub(super) fn validate(&mut self, output: usize) -> Validity {
        self.enter(&self.nodes.all()[output], None);
        while let Some(visit) = self.stack.last_mut() {
            let Some(inputs) = visit.node.inputs else {
                self.raise("'inputs'");
                continue;
            };
            let definition = visit.node.definition;
            let input = definition.and_then(|it| it.inputs.get(visit.next));
            let Some(input) = input else {
                self.leave();
                continue;
            };
            visit.next += 1;
            match self.check(input, inputs.get(&*input.name)) {
                NextStep::Next => {}
                NextStep::Enter(node) => self.enter(node, Some(&input.name)),
                NextStep::Cycle(node) => self.add_cycle(node),
                NextStep::Raise(exception) => self.raise(&exception),
            }
        }
        match self.progress[output] {
            CheckState::Done(validity) => validity,
            CheckState::Unvisited | CheckState::Open => Validity::Bad,
        }
    }

    fn enter(&mut self, node: &'a GraphNode<'a>, via: Option<&'a str>) {
        let progress = &mut self.progress[node.index];
        if let CheckState::Unvisited = progress {
            *progress = CheckState::Open;
            self.stack.push(Visit {
                node,
                next: 0,
                via,
                validity: Validity::Good,
                found: FoundProblems::default(),
            });
        }
    }

    /// The node on top of the stack is checked.
    fn leave(&mut self) {
        if let Some(visit) = self.stack.pop() {
            self.found.append(visit.found);
            self.finish(visit.node, visit.validity);
        }
    }

    /// The check of the node on top of the stack raises an exception: ComfyUI forgets what else it has found in it.
    fn raise(&mut self, exception: &str) {
        let Some(visit) = self.stack.pop() else {
            return;
        };
        self.found.add(|| {
            match visit.via {
                // The input is that of the node that needs this one.
                Some(input) => visit
                    .node
                    .problem(ProblemKind::InnerFailure)
                    .at_input(input),
                None => visit.node.problem(ProblemKind::Failure),
            }
            .with_details(exception)
        });
        self.finish(visit.node, Validity::Bad);
    }

    fn finish(&mut self, node: &GraphNode<'_>, validity: Validity) {
        self.progress[node.index] = CheckState::Done(validity);
        if let Some(parent) = self.stack.last_mut() {
            parent.validity = parent.validity.max(validity);
        }
    }

    /// Nodes need each other. All of them are on the stack, so each fails with the one on top.
    fn add_cycle(&mut self, first: &GraphNode<'_>) {
        if let Some(visit) = self.stack.last_mut() {
            visit.validity = Validity::Bad;
        }
        self.cycles += 1;
        if self.cycles > MAX_CYCLES {
            return;
        }
        let start = self
            .stack
            .iter()
            .rposition(|it| it.node.index == first.index);
        let cycle = &self.stack[start.unwrap_or_default()..];
        let named: Vec<&GraphNode<'_>> = cycle.iter().map(|it| it.node).take(MAX_CYCLE).collect();
        let step = |node: &GraphNode<'_>| format!("{} ({})", node.id, node.class);
        let mut steps: Vec<String> = named.iter().map(|node| step(node)).collect();
        if cycle.len() > named.len() {
            steps.push("…".to_owned());
        }
        steps.push(step(first));
        let path = steps.join(" -> ");
        for node in &named {
            let problem = || node.problem(ProblemKind::Cycle).with_details(&path);
            self.found.add(problem);
        }
    }

    /// Checks an input of the node on top of the stack.
    fn check(&mut self, input: &'a InputDefinition, value: Option<&'a Value>) -> NextStep<'a> {
        match value {
            None => self.check_absent(input),
            Some(Value::Array(link)) => self.check_link(input, link),
            Some(value) => {
                let Some(visit) = self.stack.last_mut() else {
                    return NextStep::Next;
                };
                if let Some(wrong) = input_value::check(visit.node, input, value) {
                    visit.add(wrong.is_sure, &mut self.worded, wrong.problem);
                }
                NextStep::Next
            }
        }
    }

    fn check_absent(&mut self, input: &InputDefinition) -> NextStep<'a> {
        let is_missing = input.is_required && !matches!(input.takes, InputType::Dynamic);
        if let Some(visit) = self.stack.last_mut().filter(|_| is_missing) {
            let node = visit.node;
            visit.add(true, &mut self.worded, || {
                let problem = node.problem(ProblemKind::MissingInput);
                problem.at_input(&input.name).with_details(&input.name)
            });
        }
        NextStep::Next
    }

    fn check_link(&mut self, input: &'a InputDefinition, link: &'a [Value]) -> NextStep<'a> {
        let Some(visit) = self.stack.last_mut() else {
            return NextStep::Next;
        };
        // What a dynamic input stands for has other names; what is set under its own, ComfyUI does not look at.
        if matches!(input.takes, InputType::Dynamic) {
            return NextStep::Next;
        }
        let node = visit.node;
        let [id, slot] = link else {
            let problem = || node.problem(ProblemKind::BadLink);
            visit.add(true, &mut self.worded, || {
                problem().at_input(&input.name).with_details(&input.name)
            });
            return NextStep::Next;
        };
        let source = match target(self.nodes, id) {
            Target::Node(source) => source,
            Target::Nowhere(exception) => return NextStep::Raise(exception),
        };
        // A class that the server does not have is named as such.
        let Some(definition) = source.definition else {
            return NextStep::Next;
        };
        let is_sure = definition.has_no_own_checks;
        if let Some(outputs) = &definition.outputs {
            match output_type(outputs.as_ref(), slot) {
                Ok(output) => {
                    let is_sure = is_sure && node.definition.is_some_and(|it| it.has_no_own_checks);
                    if let Some((output, wanted)) = wrong_type(input, output.as_deref()) {
                        visit.add(is_sure, &mut self.worded, || {
                            let name = &input.name;
                            let details = format!(
                                "{name}, received_type({output}) mismatch input_type({wanted})"
                            );
                            let problem = node.problem(ProblemKind::WrongType).at_input(name);
                            problem.with_details(&details)
                        });
                        return NextStep::Next;
                    }
                }
                Err(exception) if is_sure => return NextStep::Raise(exception),
                // The outputs of other classes can be of a kind of list that has an element at every place.
                Err(exception) => {
                    visit.add(false, &mut self.worded, || {
                        let problem = node.problem(ProblemKind::InnerFailure);
                        problem.at_input(&input.name).with_details(&exception)
                    });
                }
            }
        }
        match self.progress[source.index] {
            CheckState::Unvisited => NextStep::Enter(source),
            CheckState::Open => NextStep::Cycle(source),
            CheckState::Done(validity) => {
                visit.validity = visit.validity.max(validity);
                NextStep::Next
            }
        }
    }
}

impl Visit<'_> {
    fn add(&mut self, is_sure: bool, worded: &mut usize, problem: impl FnOnce() -> Problem) {
        let validity = if is_sure {
            Validity::Bad
        } else {
            Validity::Doubtful
        };
        self.validity = self.validity.max(validity);
        *worded += 1;
        if *worded > MAX_WORDED {
            self.found.total += 1;
        } else {
            self.found.add(problem);
        }
    }
}

/// The node that a link leads to: Python looks it up by its id.
fn target<'a>(nodes: &'a GraphNodes<'a>, id: &Value) -> Target<'a> {
    match id {
        Value::String(id) => match nodes.find(id) {
            Some(node) => Target::Node(node),
            None => Target::Nowhere(format!("'{id}'")),
        },
        Value::Array(_) => Target::Nowhere("unhashable type: 'list'".to_owned()),
        Value::Object(_) => Target::Nowhere("unhashable type: 'dict'".to_owned()),
        id => Target::Nowhere(id.to_string()),
    }
}

/// The type of an output by its number, as Python's lists have it: -1 is the last one.
fn output_type<'a, T>(outputs: &'a [T], slot: &Value) -> Result<&'a T, String> {
    let place = match slot {
        Value::Bool(is_true) => Some(i64::from(*is_true)),
        slot => slot.as_i64(),
    };
    let Some(place) = place else {
        return Err("tuple indices must be integers or slices".to_owned());
    };
    let from_end = if place < 0 { outputs.len() as i64 } else { 0 };
    let index = usize::try_from(place + from_end).ok();
    let output = index.and_then(|index| outputs.get(index));
    output.ok_or_else(|| "tuple index out of range".to_owned())
}

/// The type that an output has and the one that an input wants, if they do not fit. A list of choices can be the type of an
/// output as well: links to choices are not judged.
fn wrong_type<'a>(
    input: &'a InputDefinition,
    output: Option<&'a str>,
) -> Option<(&'a str, &'a str)> {
    let wanted = match &input.takes {
        InputType::Integer(_) => "INT",
        InputType::Number(_) => "FLOAT",
        InputType::Text => "STRING",
        InputType::Boolean => "BOOLEAN",
        InputType::Link(name) => name,
        InputType::Choice { .. } | InputType::Unknown | InputType::Dynamic => return None,
    };
    let output = output.filter(|output| !is_linkable(output, wanted))?;
    Some((output, wanted))
}
