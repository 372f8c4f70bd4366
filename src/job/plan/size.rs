//! How large the pictures are that leave a node, and how many.

use std::collections::HashMap;

use serde_json::Value;

use super::graph::{Graph, MAX_FEATURE, class, inputs, link};

/// The factor of an upscale model that does not tell its own.
const UPSCALE: f64 = 4.0;

/// Inputs that are the pictures which a node works on. What else it reads, such as conditioning,
/// may tell sizes that are not those of its work.
const PICTURES: [&str; 5] = ["latent_image", "samples", "image", "images", "pixels"];

/// The pictures that leave a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    /// The pixels of one.
    area: f64,
    pictures: f64,
}

impl Size {
    /// The pictures that leave a node: of its own size, or of that which comes in, enlarged.
    pub(super) fn of<'a>(
        node: &'a Value,
        graph: Graph<'a>,
        sizes: &HashMap<&'a str, Self>,
    ) -> Option<Self> {
        let number = |name: &str| graph.number(node, name);
        let count = |names: &[&str]| names.iter().find_map(|name| number(name));
        let incoming = Self::incoming(node, sizes);
        let amount = number("amount").unwrap_or(1.0);
        let (area, pictures) = match (number("width"), number("height"), incoming) {
            (Some(width), Some(height), _) => {
                let batch = count(&["batch_size"]);
                let frames = count(&["length", "frames", "video_frames"]);
                // A node that says how many it makes does not make as many for each that comes in:
                // a video of 81 frames has 81, whatever it starts from.
                let pictures = match (batch, frames, incoming) {
                    (None, None, Some(size)) => size.pictures,
                    _ => batch.unwrap_or(1.0) * frames.unwrap_or(1.0),
                };
                (width * height, pictures)
            }
            (_, _, Some(size)) => {
                let scale = match number("scale_by") {
                    Some(scale) => scale,
                    None if class(node).contains("UpscaleWithModel") => UPSCALE,
                    None => 1.0,
                };
                (size.area * scale * scale, size.pictures)
            }
            _ => return None,
        };
        Some(Self {
            area: area.min(MAX_FEATURE),
            pictures: (pictures * amount).min(MAX_FEATURE),
        })
    }

    /// The pixels of all of them.
    pub(super) fn pixels(self) -> f64 {
        (self.area * self.pictures).min(MAX_FEATURE)
    }

    /// The most that comes in.
    fn incoming(node: &Value, sizes: &HashMap<&str, Self>) -> Option<Self> {
        let most = |is_picture: bool| {
            inputs(node)
                .filter(|(name, _)| PICTURES.contains(name) == is_picture)
                .filter_map(|(_, value)| sizes.get(link(value)?.0).copied())
                .max_by(|a, b| {
                    let by_area = a.area.total_cmp(&b.area);
                    a.pixels().total_cmp(&b.pixels()).then(by_area)
                })
        };
        most(true).or_else(|| most(false))
    }
}
