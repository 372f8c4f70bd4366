//! The loaders that a node depends on.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::graph::{class, links};
use super::role::Role;

/// How many loaders are kept for one node: more than any model consists of. Without a limit, a chain of
/// loaders would take quadratic time and memory.
const MAX_LOADERS: usize = 64;

/// The nearest loaders that a node depends on, itself included, each with its distance in links.
#[derive(Debug, Default)]
pub(super) struct Loaders<'a>(Vec<(u32, &'a str)>);

impl<'a> Loaders<'a> {
    /// The loaders of a node. `known` has those of its sources.
    pub(super) fn of(id: &'a str, node: &'a Value, known: &HashMap<&'a str, Self>) -> Self {
        let mut found = Vec::new();
        if Role::of(class(node)) == Role::Loader {
            found.push((0, id));
        }
        let sources: HashSet<&str> = links(node).into_iter().collect();
        for source in sources {
            let loaders = known.get(source).into_iter().flat_map(|loaders| &loaders.0);
            found.extend(loaders.map(|(distance, id)| (distance.saturating_add(1), *id)));
        }
        found.sort_unstable();
        let mut seen = HashSet::new();
        found.retain(|(_, id)| seen.len() < MAX_LOADERS && seen.insert(*id));
        found.shrink_to_fit();
        Self(found)
    }

    /// Their ids, the nearest first.
    pub(super) fn ids(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(|(_, id)| *id)
    }
}
