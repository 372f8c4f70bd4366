//! The numbers that nodes of a graph hold, calculate, or read from images.

use std::collections::HashMap;

use serde_json::Value;

use super::dimensions::Dimensions;
use super::expression::evaluate;
use super::graph::{Graph, MAX_FEATURE, class, inputs, link};

/// The outputs of a node whose numbers are kept: no node that calculates has more.
const MAX_OUTPUTS: usize = 4;

/// In the name of a class that holds a number, or passes one on as another type.
const HOLDERS: [&str; 11] = [
    "primitive",
    "constant",
    "literal",
    "integer",
    "int",
    "float",
    "number",
    "slider",
    "convert",
    "reroute",
    "simplemath",
];

/// In the name of a class whose number is another one in each run.
const RANDOM: [&str; 2] = ["random", "seed"];

/// The inputs that name the operation of a node on two numbers.
const OPERATIONS: [&str; 4] = ["operation", "op", "operator", "math_operation"];

/// The inputs that are these two numbers.
const OPERANDS: [[&str; 2]; 4] = [
    ["a", "b"],
    ["number_a", "number_b"],
    ["value_a", "value_b"],
    ["int_a", "int_b"],
];

/// Where the size of an image is among the outputs of a node that tells it: width, height, number.
const SIZE: [usize; 3] = [0, 1, 2];

/// The same of nodes that pass the image on as their first output.
const SIZE_BEHIND_IMAGE: [usize; 3] = [1, 2, 3];

/// The numbers that nodes set their inputs to. A number is certain or not there: a node that is not known
/// has none.
#[derive(Debug)]
pub(super) struct GraphNumbers<'a> {
    graph: Graph<'a>,
    nodes: HashMap<&'a str, NodeNumbers>,
}

/// The numbers that leave a node.
#[derive(Debug, Clone, Copy)]
struct NodeNumbers {
    by_output: [Option<f64>; MAX_OUTPUTS],
    /// Whether they are the size of an image.
    is_size: bool,
}

/// What a node calculates.
enum Calculation<'a> {
    /// An expression.
    Expression(&'a str),
    /// An operation on two numbers, by its name.
    Operation(&'a str),
}

impl<'a> Calculation<'a> {
    /// What a node of a class, in lower case, calculates; `None` if it does not.
    fn of(node: &'a Value, class: &str, graph: Graph<'a>) -> Option<Self> {
        let text = |name: &str| graph.text(node, name);
        let simple = || text("value").filter(|_| class.contains("simplemath"));
        let expression = text("expression").or_else(simple);
        let operation = || OPERATIONS.iter().find_map(|name| text(name));
        expression
            .map(Self::Expression)
            .or_else(|| operation().map(Self::Operation))
    }
}

impl<'a> GraphNumbers<'a> {
    pub(super) fn new(graph: Graph<'a>) -> Self {
        Self {
            graph,
            nodes: HashMap::new(),
        }
    }

    /// Reads the numbers that leave a node. Those of its sources must have been read before; `image` is the size
    /// of the images that leave the node with an id.
    pub(super) fn read(
        &mut self,
        id: &'a str,
        node: &'a Value,
        image: impl Fn(&str) -> Option<Dimensions>,
    ) {
        let name = class(node).to_ascii_lowercase();
        let numbers = if tells_size(&name) {
            image(id).map(|size| NodeNumbers::of_size(&name, size))
        } else {
            let numbers = match Calculation::of(node, &name, self.graph) {
                Some(calculation) => self.calculated(node, &calculation, &name, image),
                None => self.held(id, node, &name),
            };
            numbers.map(|by_output| NodeNumbers {
                by_output: by_output
                    .map(|number| number.map(|number| number.clamp(-MAX_FEATURE, MAX_FEATURE))),
                is_size: false,
            })
        };
        self.nodes.extend(numbers.map(|numbers| (id, numbers)));
    }

    /// The number that an input of a node is set to.
    pub(super) fn number(&self, node: &Value, name: &str) -> Option<f64> {
        self.of_value(node.get("inputs")?.get(name)?)
    }

    /// The integer, not negative, that an input is set to.
    pub(super) fn whole(&self, node: &Value, name: &str) -> Option<u64> {
        let value = node.get("inputs")?.get(name)?;
        value.as_u64().or_else(|| {
            link(value)?;
            let number = self.of_value(value)?;
            (number >= 0.0).then_some(number as u64)
        })
    }

    /// The number that leaves a node, unless that is the size of an image.
    pub(super) fn calculated_by(&self, id: &str, output: u64) -> Option<f64> {
        let numbers = self.nodes.get(id).filter(|numbers| !numbers.is_size)?;
        numbers.at(output)
    }

    /// The number that the value of an input is, as a literal or by a link.
    pub(super) fn of_value(&self, value: &Value) -> Option<f64> {
        match link(value) {
            Some((id, output)) => self.nodes.get(id)?.at(output),
            None => value.as_f64(),
        }
    }

    /// The only number among the inputs of a node that holds one.
    fn held(&self, id: &str, node: &Value, class: &str) -> Option<[Option<f64>; MAX_OUTPUTS]> {
        let has = |words: &[&str]| words.iter().any(|word| class.contains(word));
        if has(&RANDOM) {
            return None;
        }
        // Whatever its class is: its outputs cannot depend on anything else.
        if let Some((_, value)) = self.graph.held(id) {
            return Some([Some(value.as_f64()?); MAX_OUTPUTS]);
        }
        if !has(&HOLDERS) {
            return None;
        }
        let mut numbers =
            inputs(node).filter(|(_, value)| value.is_number() || link(value).is_some());
        let (_, only) = numbers.next()?;
        match numbers.next() {
            Some(_) => None,
            None => Some([Some(self.of_value(only)?); MAX_OUTPUTS]),
        }
    }

    /// What a node calculates.
    fn calculated(
        &self,
        node: &Value,
        calculation: &Calculation<'_>,
        class: &str,
        image: impl Fn(&str) -> Option<Dimensions>,
    ) -> Option<[Option<f64>; MAX_OUTPUTS]> {
        let operation = match calculation {
            Calculation::Expression(text) => {
                let value = evaluate(text, |name| self.variable(node, name, &image))?;
                return Some(outputs(class, value));
            }
            Calculation::Operation(name) => name.to_ascii_lowercase(),
        };
        let number = |name: &str| self.number(node, name);
        let mut operands = OPERANDS.iter();
        let (a, b) = operands.find_map(|[a, b]| Some((number(a)?, number(b)?)))?;
        let expression = match operation.as_str() {
            "add" | "addition" | "+" => "a + b",
            "sub" | "subtract" | "subtraction" | "-" => "a - b",
            "mul" | "multiply" | "multiplication" | "*" => "a * b",
            "div" | "divide" | "division" | "/" => "a / b",
            "floordiv" | "floor division" | "//" => "a // b",
            "mod" | "modulo" | "%" => "a % b",
            "min" | "minimum" => "min(a, b)",
            "max" | "maximum" => "max(a, b)",
            _ => return None,
        };
        let operand = |name: &str| Some(if name == "a" { a } else { b });
        Some([Some(evaluate(expression, operand)?); MAX_OUTPUTS])
    }

    /// The variable of an expression: an input, or the size of the image that an input is linked to, such as
    /// `a.width`. Inputs of newer nodes have the name of their group before their own.
    fn variable(
        &self,
        node: &Value,
        name: &str,
        image: impl Fn(&str) -> Option<Dimensions>,
    ) -> Option<f64> {
        let input = |name: &str| {
            let named = |(input, _): &(&str, &Value)| input.rsplit('.').next() == Some(name);
            inputs(node).find(named).map(|(_, value)| value)
        };
        let Some((of, side)) = name.split_once('.') else {
            return self.of_value(input(name)?);
        };
        let size = image(link(input(of)?)?.0)?;
        match side {
            "width" => Some(size.width),
            "height" => Some(size.height),
            _ => None,
        }
    }
}

impl NodeNumbers {
    fn of_size(class: &str, size: Dimensions) -> Self {
        let mut by_output = [None; MAX_OUTPUTS];
        if class.contains("longe") {
            by_output[0] = Some(size.width.max(size.height));
        } else if class.contains("shorte") {
            by_output[0] = Some(size.width.min(size.height));
        } else if !class.contains("side") {
            let outputs = if class.contains("andcount") {
                SIZE_BEHIND_IMAGE
            } else {
                SIZE
            };
            for (output, number) in outputs
                .into_iter()
                .zip([size.width, size.height, size.images])
            {
                by_output[output] = Some(number);
            }
        }
        Self {
            by_output,
            is_size: true,
        }
    }

    fn at(&self, output: u64) -> Option<f64> {
        *self.by_output.get(usize::try_from(output).ok()?)?
    }
}

/// Whether a class tells the size of an image, by its name in lower case.
pub(super) fn tells_size(class: &str) -> bool {
    class.contains("get") && class.contains("size") || class.contains("imagesize")
}

/// The outputs of a node that calculates: `ComfyMathExpression` has the number itself first, and the integer
/// second, `MathExpression|pysssss` the other way round; `SimpleMath+` rounds.
fn outputs(class: &str, value: f64) -> [Option<f64>; MAX_OUTPUTS] {
    let mut outputs = [Some(value); MAX_OUTPUTS];
    if class.contains("simplemath") {
        outputs[0] = Some(value.round_ties_even());
    } else {
        outputs[usize::from(class.contains("comfymath"))] = Some(value.trunc());
    }
    outputs
}

#[cfg(test)]
mod tests;
