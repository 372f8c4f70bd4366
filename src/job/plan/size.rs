//! The size and number of the images that leave a node.

use std::collections::HashMap;

use serde_json::Value;

use super::graph::{Graph, MAX_FEATURE, class, inputs, link};

/// The factor of an upscale model, which the graph does not show.
const UPSCALE: f64 = 4.0;

/// The inputs that are the images which a node works on. Others, such as conditioning, may have sizes
/// that are not those of its work.
const IMAGES: [&str; 5] = ["latent_image", "samples", "image", "images", "pixels"];

/// The images that leave a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    /// The pixels of one image.
    area: f64,
    images: f64,
}

impl Size {
    /// The images that leave a node: of the size that it sets, or of the incoming size, scaled.
    pub(super) fn of<'a>(
        node: &'a Value,
        graph: Graph<'a>,
        sizes: &HashMap<&'a str, Self>,
    ) -> Option<Self> {
        let number = |name: &str| graph.number(node, name);
        let count = |names: &[&str]| names.iter().find_map(|name| number(name));
        let incoming = Self::incoming(node, sizes);
        let amount = number("amount").unwrap_or(1.0);
        let (area, images) = match (number("width"), number("height"), incoming) {
            (Some(width), Some(height), _) => {
                let batch = count(&["batch_size"]);
                let frames = count(&["length", "frames", "video_frames"]);
                // A node that sets how many images it makes does not make them for each incoming one:
                // a video of 81 frames has 81 frames, whatever it starts from.
                let images = match (batch, frames, incoming) {
                    (None, None, Some(size)) => size.images,
                    _ => batch.unwrap_or(1.0) * frames.unwrap_or(1.0),
                };
                (width * height, images)
            }
            (_, _, Some(size)) => {
                let scale = match number("scale_by") {
                    Some(scale) => scale,
                    None if class(node).contains("UpscaleWithModel") => UPSCALE,
                    None => 1.0,
                };
                (size.area * scale * scale, size.images)
            }
            _ => return None,
        };
        Some(Self {
            area: area.min(MAX_FEATURE),
            images: (images * amount).min(MAX_FEATURE),
        })
    }

    /// The pixels of all images.
    pub(super) fn pixels(self) -> f64 {
        (self.area * self.images).min(MAX_FEATURE)
    }

    /// The largest of the incoming sizes: of images if there are any, else of all inputs.
    fn incoming(node: &Value, sizes: &HashMap<&str, Self>) -> Option<Self> {
        let largest = |is_image: bool| {
            inputs(node)
                .filter(|(name, _)| IMAGES.contains(name) == is_image)
                .filter_map(|(_, value)| sizes.get(link(value)?.0).copied())
                .max_by(|a, b| {
                    let by_area = a.area.total_cmp(&b.area);
                    a.pixels().total_cmp(&b.pixels()).then(by_area)
                })
        };
        largest(true).or_else(|| largest(false))
    }
}
