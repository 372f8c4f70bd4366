//! What the cost of a node depends on, as a hash.

use std::borrow::Cow;

use serde_json::Value;

use super::graph::{Graph, class, inputs, link};
use super::numbers::GraphNumbers;

/// Inputs that change an image, but not the time that it takes.
const COSTLESS: [&str; 14] = [
    "seed",
    "noise_seed",
    "text",
    "text_g",
    "text_l",
    "clip_g",
    "clip_l",
    "t5xxl",
    "prompt",
    "positive_prompt",
    "negative_prompt",
    "filename_prefix",
    "image",
    "cfg",
];

/// A 64-bit FNV-1a hash of words. Stored in the database, so it must never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature(u64);

impl Signature {
    pub(super) fn of<'w>(words: impl IntoIterator<Item = &'w str>) -> Self {
        let words = words.into_iter();
        let bytes = words.flat_map(|word| word.bytes().chain([0]));
        Self(bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// The hash itself.
    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// 16 hexadecimal digits.
    pub(super) fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The inputs that the cost of a node may depend on, as sorted words `name=value`.
pub(super) fn words<'a>(
    node: &'a Value,
    graph: Graph<'a>,
    numbers: &GraphNumbers<'a>,
) -> Vec<String> {
    let mut words: Vec<String> = inputs(node)
        .filter(|(name, _)| !COSTLESS.contains(name))
        .filter_map(|(name, value)| {
            let value = match link(value) {
                Some((id, output)) => match held(id, graph) {
                    Held::Value(value) => Cow::Borrowed(value),
                    Held::Costless => return None,
                    Held::Nothing => Cow::Owned(numbers.calculated_by(id, output)?.into()),
                },
                None if value.is_array() => return None,
                None => Cow::Borrowed(value),
            };
            Some(format!("{name}={value}"))
        })
        .collect();
    // At a guidance scale of 1, ComfyUI does not evaluate the negative prompt.
    let guider = graph.source(node, "guider").map(|(guider, _)| guider);
    let mut nodes = [Some(node), guider].into_iter().flatten();
    if nodes.any(|node| numbers.number(node, "cfg") == Some(1.0)) {
        words.push("cfg=1".to_owned());
    }
    words.sort_unstable();
    words
}

/// What a node holds, as far as the cost of others may depend on it.
enum Held<'a> {
    Value(&'a Value),
    Costless,
    Nothing,
}

/// The value of a node that only holds one, if the cost may depend on it. File names do not count:
/// models are distinguished as loaders, and images cost the same by any name.
fn held<'a>(id: &str, graph: Graph<'a>) -> Held<'a> {
    let Some((name, value)) = graph.held(id) else {
        return Held::Nothing;
    };
    let class = graph.node(id).map(class).unwrap_or_default();
    if COSTLESS.contains(&name) || class.to_ascii_lowercase().contains("load") {
        return Held::Costless;
    }
    Held::Value(value)
}
