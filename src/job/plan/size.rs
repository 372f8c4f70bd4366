//! The size and number of the images that leave a node.

use std::collections::HashMap;

use serde_json::Value;

use super::correction::{ImageSizes, SizeCause, SizeKey};
use super::dimensions::Dimensions;
use super::graph::{Graph, class, inputs, link};
use super::image::ImageSize;
use super::numbers::GraphNumbers;
use super::role::Role;
use super::size_rules::SizeRules;

/// The inputs that are the images which a node works on. Others, such as conditioning, may have sizes
/// that are not those of its work.
const IMAGES: [&str; 5] = ["latent_image", "samples", "image", "images", "pixels"];

/// In the name of a class that may change the size of images. Where such a node does not do what its inputs
/// say, it is the one that is corrected.
const RESIZING: [&str; 11] = [
    "scale",
    "resize",
    "crop",
    "pad",
    "outpaint",
    "preprocessor",
    "stitch",
    "concat",
    "grid",
    "repeat",
    "batch",
];

/// The classes that are certain to make images of the size that they set, or `empty` in their names.
const EXACT: [&str; 3] = ["imagescale", "latentupscale", "imagecrop"];

/// What is known of the images that leave a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size<'a> {
    /// `None` if they depend on something that is not known.
    pub(super) dimensions: Option<Dimensions>,
    /// The name of the file that they depend on.
    pub(super) file: Option<&'a str>,
    /// What is wrong if they turn out to be of another size.
    pub(super) cause: SizeCause,
}

/// What the size of a node's images is read from.
#[derive(Clone, Copy)]
pub(super) struct SizeContext<'n, 'a> {
    pub(super) graph: Graph<'a>,
    pub(super) numbers: &'n GraphNumbers<'a>,
    /// The sizes of its sources.
    pub(super) sizes: &'n HashMap<&'a str, Size<'a>>,
    /// What is known beside the graph.
    pub(super) known: &'n ImageSizes,
    /// The node's own key.
    pub(super) key: SizeKey,
}

impl<'a> Size<'a> {
    /// The images that leave a node that loads a file.
    pub(super) fn of_file(
        file: &'a str,
        size: Option<ImageSize>,
        node: &'a Value,
        context: SizeContext<'_, 'a>,
    ) -> Self {
        let rules = SizeRules::new(node, context.numbers);
        let cause = match size {
            Some(_) => SizeCause::File,
            None => SizeCause::Node(context.key),
        };
        let size = Self {
            dimensions: size.map(|size| rules.loaded(size)),
            file: Some(file),
            cause,
        };
        size.corrected(None, context)
    }

    /// The images that leave a node: of the size that it sets, or of the incoming size, changed.
    pub(super) fn of(node: &'a Value, context: SizeContext<'_, 'a>) -> Option<Self> {
        let incoming = Self::incoming(node, context.sizes);
        let known = incoming.and_then(|size| size.dimensions);
        let rules = SizeRules::new(node, context.numbers);
        let set_by = || Self::set_by(node, context);
        let file = incoming.and_then(|size| size.file).or_else(set_by);
        let size = if let Some((dimensions, is_own)) = rules.set(known) {
            Self {
                dimensions: Some(dimensions),
                // A size that a node sets depends on no file.
                file: file.filter(|_| !is_own || set_by().is_some()),
                cause: cause_of_set(node, set_by().is_some(), context.key),
            }
        } else if let Some(incoming) = incoming {
            Self {
                dimensions: known.map(|known| rules.changed(known)),
                file,
                cause: cause_of_changed(node, incoming, context.key),
            }
        } else if file.is_some() || rules.makes_images() {
            Self {
                dimensions: None,
                file,
                cause: SizeCause::Node(context.key),
            }
        } else {
            return None;
        };
        Some(size.corrected(known, context))
    }

    /// The same as it was observed, if it was. `incoming` are the images that the node takes.
    fn corrected(self, incoming: Option<Dimensions>, context: SizeContext<'_, 'a>) -> Self {
        // What was observed of a source is in the size of the source.
        let is_own = match self.cause {
            SizeCause::Node(key) | SizeCause::Factor(key, _) => key == context.key,
            SizeCause::Graph | SizeCause::File => false,
        };
        let observed = context.known.of_node(context.key).filter(|_| is_own);
        let dimensions = observed.and_then(|observed| observed.dimensions(incoming));
        Self {
            dimensions: dimensions.or(self.dimensions),
            ..self
        }
    }

    /// The file on which a size that the node sets depends.
    fn set_by(node: &Value, context: SizeContext<'_, 'a>) -> Option<&'a str> {
        ["width", "height"].into_iter().find_map(|name| {
            let (id, _) = context.graph.link_of(node, name)?;
            context.sizes.get(id)?.file
        })
    }

    /// The largest of the incoming sizes: of images if there are any, else of all inputs. An image of
    /// unknown size hides the others; among other inputs, a known size counts more.
    fn incoming(node: &Value, sizes: &HashMap<&'a str, Self>) -> Option<Self> {
        let among = |is_image: bool| -> Vec<Self> {
            inputs(node)
                .filter(|(name, _)| IMAGES.contains(name) == is_image)
                .filter_map(|(_, value)| sizes.get(link(value)?.0).copied())
                .collect()
        };
        let unknown = |sizes: &[Self]| sizes.iter().find(|size| size.dimensions.is_none()).copied();
        let images = among(true);
        let others = || among(false);
        unknown(&images)
            .or_else(|| largest(&images))
            .or_else(|| largest(&others()))
            .or_else(|| unknown(&others()))
    }
}

fn largest<'a>(sizes: &[Size<'a>]) -> Option<Size<'a>> {
    let known = sizes
        .iter()
        .filter_map(|size| Some((size, size.dimensions?)));
    known
        .max_by(|(_, a), (_, b)| {
            let by_area = a.area().total_cmp(&b.area());
            a.pixels().total_cmp(&b.pixels()).then(by_area)
        })
        .map(|(size, _)| *size)
}

/// What is wrong if a node does not make the images that it sets.
fn cause_of_set(node: &Value, depends_on_file: bool, key: SizeKey) -> SizeCause {
    let class = class(node).to_ascii_lowercase();
    match class.contains("empty") || EXACT.contains(&class.as_str()) {
        true if depends_on_file => SizeCause::File,
        true => SizeCause::Graph,
        false => SizeCause::Node(key),
    }
}

/// What is wrong if images that a node has changed, or passed on, are of another size.
fn cause_of_changed(node: &Value, incoming: Size<'_>, key: SizeKey) -> SizeCause {
    let name = class(node);
    let class = name.to_ascii_lowercase();
    match incoming.dimensions {
        Some(dimensions) if class.contains("upscalewithmodel") => {
            SizeCause::Factor(key, dimensions)
        }
        _ if RESIZING.iter().any(|word| class.contains(word)) => SizeCause::Node(key),
        // What is upstream of it is not known, and it may pass that on as it is.
        None => incoming.cause,
        _ if matches!(Role::of(name), Role::Sampler | Role::Vae | Role::Save)
            || class.contains("reroute") =>
        {
            incoming.cause
        }
        _ if matches!(incoming.cause, SizeCause::Graph | SizeCause::File) => SizeCause::Node(key),
        _ => incoming.cause,
    }
}

#[cfg(test)]
mod tests;
