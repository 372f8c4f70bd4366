//! A backend that cannot run a graph, and why.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// How many backends a sentence names, and how many reasons of each.
const NAMED: usize = 3;

/// A backend that cannot run a graph.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct UnsuitableBackend {
    /// Its name.
    pub name: String,
    /// Why, of many reasons the first.
    pub reasons: Vec<String>,
}

impl fmt::Display for UnsuitableBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, listing(&self.reasons, ", "))
    }
}

/// What a sentence says of several of them.
pub(super) fn sentence(backends: &[UnsuitableBackend]) -> String {
    listing(backends, "; ")
}

fn listing<T: ToString>(all: &[T], separator: &str) -> String {
    let mut named: Vec<String> = all.iter().take(NAMED).map(T::to_string).collect();
    if all.len() > NAMED {
        named.push(format!("and {} more", all.len() - NAMED));
    }
    named.join(separator)
}
