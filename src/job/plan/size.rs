//! The size and number of the images that leave a node.

use std::collections::HashMap;

use serde_json::Value;

use super::graph::{Graph, MAX_FEATURE, class, inputs, link};
use super::image::ImageSize;

/// The factor of an upscale model, which the graph does not show.
const UPSCALE: f64 = 4.0;

/// The inputs that are the images which a node works on. Others, such as conditioning, may have sizes
/// that are not those of its work.
const IMAGES: [&str; 5] = ["latent_image", "samples", "image", "images", "pixels"];

/// The pixels in the unit `megapixels`, as ComfyUI counts them.
const MEGAPIXEL: f64 = 1024.0 * 1024.0;

/// The images that leave a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dimensions {
    width: f64,
    height: f64,
    images: f64,
}

/// What is known of the images that leave a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size<'a> {
    /// `None` if they depend on a file of unknown size.
    pub(super) dimensions: Option<Dimensions>,
    /// The name of the file that they depend on.
    pub(super) file: Option<&'a str>,
}

impl Dimensions {
    /// The pixels of all images.
    pub(super) fn pixels(self) -> f64 {
        (self.area() * self.images).min(MAX_FEATURE)
    }

    fn area(self) -> f64 {
        self.width * self.height
    }

    /// Of the same number of images, `by` times as wide and as high.
    fn scaled(self, by: f64) -> Self {
        Self {
            width: self.width * by,
            height: self.height * by,
            ..self
        }
    }

    fn limited(self) -> Self {
        let side = MAX_FEATURE.sqrt();
        Self {
            width: self.width.min(side),
            height: self.height.min(side),
            images: self.images.min(MAX_FEATURE),
        }
    }
}

impl<'a> Size<'a> {
    /// The image in a file.
    pub(super) fn of_file(file: &'a str, size: Option<ImageSize>) -> Self {
        let dimensions = size.map(|size| Dimensions {
            width: f64::from(size.width),
            height: f64::from(size.height),
            images: f64::from(size.frames),
        });
        Self {
            dimensions,
            file: Some(file),
        }
    }

    /// The images that leave a node: of the size that it sets, or of the incoming size, changed.
    pub(super) fn of(
        node: &'a Value,
        graph: Graph<'a>,
        sizes: &HashMap<&'a str, Self>,
    ) -> Option<Self> {
        let incoming = Self::incoming(node, sizes);
        let known = incoming.and_then(|size| size.dimensions);
        let reader = Numbers { node, graph, sizes };
        let file = incoming
            .and_then(|size| size.file)
            .or_else(|| reader.file());
        if let Some((dimensions, is_own)) = reader.set(known) {
            // A size that a node sets depends on no file.
            let file = file.filter(|_| !is_own || reader.file().is_some());
            return Some(Self {
                dimensions: Some(dimensions),
                file,
            });
        }
        match known {
            Some(known) => Some(Self {
                dimensions: Some(reader.changed(known)),
                file,
            }),
            None => file.map(|file| Self {
                dimensions: None,
                file: Some(file),
            }),
        }
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

/// Reads the numbers that a node is set to.
struct Numbers<'n, 'a> {
    node: &'a Value,
    graph: Graph<'a>,
    sizes: &'n HashMap<&'a str, Size<'a>>,
}

impl<'a> Numbers<'_, 'a> {
    /// The positive number that an input is set to: as a literal, by a node that holds one, or by one
    /// that tells the size of an image.
    fn number(&self, name: &str) -> Option<f64> {
        let literal = || self.graph.number(self.node, name);
        literal().or_else(|| {
            let (dimensions, output) = self.told_size(name)?;
            match output {
                0 => Some(dimensions?.width),
                1 => Some(dimensions?.height),
                _ => None,
            }
        })
    }

    fn first(&self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| self.number(name))
    }

    /// The size that a node such as `GetImageSize` tells, if an input is linked to one.
    fn told_size(&self, name: &str) -> Option<(Option<Dimensions>, u64)> {
        let (id, output) = self.graph.link_of(self.node, name)?;
        let tells = class(self.graph.node(id)?).to_ascii_lowercase();
        if !(tells.contains("get") && tells.contains("size") || tells.contains("imagesize")) {
            return None;
        }
        Some((self.sizes.get(id)?.dimensions, output))
    }

    /// The file on which a size that the node sets depends.
    fn file(&self) -> Option<&'a str> {
        ["width", "height"].into_iter().find_map(|name| {
            self.told_size(name)?;
            let (id, _) = self.graph.link_of(self.node, name)?;
            self.sizes.get(id)?.file
        })
    }

    /// The size that the node sets, and whether that does not depend on the incoming one.
    fn set(&self, incoming: Option<Dimensions>) -> Option<(Dimensions, bool)> {
        let amount = self.number("amount").unwrap_or(1.0);
        let (width, height) = (self.number("width")?, self.number("height")?);
        let batch = self.number("batch_size");
        let frames = self.first(&["length", "frames", "video_frames"]);
        // A node that sets how many images it makes does not make them for each incoming one:
        // a video of 81 frames has 81 frames, whatever it starts from.
        let own = batch.unwrap_or(1.0) * frames.unwrap_or(1.0);
        let images = match (batch, frames, incoming) {
            (None, None, Some(size)) => size.images,
            _ => own,
        };
        let mut dimensions = Dimensions {
            width,
            height,
            images: images * amount,
        };
        if let Some(incoming) = incoming.filter(|_| self.is("crop")) {
            dimensions.width = width.min(incoming.width);
            dimensions.height = height.min(incoming.height);
        }
        let is_own = !self.is("crop") && images == own;
        Some((dimensions.limited(), is_own))
    }

    /// The incoming images as the node changes them.
    fn changed(&self, incoming: Dimensions) -> Dimensions {
        let amount = self.number("amount").unwrap_or(1.0);
        let mut changed = incoming.scaled(self.scale(incoming));
        let padding =
            |names: [&str; 2]| -> f64 { names.iter().filter_map(|name| self.number(name)).sum() };
        if self.is("pad") {
            changed.width += padding(["left", "right"]);
            changed.height += padding(["top", "bottom"]);
        }
        changed.images *= amount;
        changed.limited()
    }

    /// How many times as wide and as high the images become.
    fn scale(&self, incoming: Dimensions) -> f64 {
        let (width, height) = (incoming.width, incoming.height);
        if let Some(scale) = self.number("scale_by") {
            return scale;
        }
        if self.is("upscalewithmodel") {
            return UPSCALE;
        }
        if self.is("fluxkontextimagescale") {
            return (MEGAPIXEL / incoming.area()).sqrt();
        }
        if !["scale", "resize", "preprocessor"]
            .iter()
            .any(|word| self.is(word))
        {
            return 1.0;
        }
        // One side that is set keeps the ratio; 0 for the other one means just that.
        let by = [
            self.number("megapixels")
                .map(|megapixels| (megapixels * MEGAPIXEL / incoming.area()).sqrt()),
            self.first(&["largest_size", "longer_edge", "longest_side"])
                .map(|side| side / width.max(height)),
            self.first(&["shorter_edge", "resolution"])
                .map(|side| side / width.min(height)),
            self.number("width").map(|side| side / width),
            self.number("height").map(|side| side / height),
        ];
        by.into_iter().flatten().next().unwrap_or(1.0)
    }

    /// Whether the name of the node's class has a word in it.
    fn is(&self, word: &str) -> bool {
        class(self.node).to_ascii_lowercase().contains(word)
    }
}

#[cfg(test)]
mod tests;
