//! What the inputs of a node say about the size of its images.

use serde_json::Value;

use super::dimensions::Dimensions;
use super::graph::{class, inputs};
use super::image::ImageSize;
use super::numbers::GraphNumbers;

/// The factor of an upscale model, which the graph does not show.
const UPSCALE: f64 = 4.0;

/// The pixels in the unit `megapixels`, as ComfyUI counts them.
const MEGAPIXEL: f64 = 1024.0 * 1024.0;

/// Reads what a node is set to.
pub(super) struct SizeRules<'n, 'a> {
    node: &'a Value,
    numbers: &'n GraphNumbers<'a>,
    /// The name of the node's class in lower case.
    class: String,
}

impl<'n, 'a> SizeRules<'n, 'a> {
    pub(super) fn new(node: &'a Value, numbers: &'n GraphNumbers<'a>) -> Self {
        Self {
            node,
            numbers,
            class: class(node).to_ascii_lowercase(),
        }
    }

    /// The size that the node sets, and whether that does not depend on the incoming one.
    pub(super) fn set(&self, incoming: Option<Dimensions>) -> Option<(Dimensions, bool)> {
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
        let crops = self.is("crop");
        if let Some(incoming) = incoming.filter(|_| crops) {
            dimensions.width = width.min(incoming.width);
            dimensions.height = height.min(incoming.height);
        }
        let keeps_ratio = self.keeps_ratio();
        if let Some(incoming) = incoming.filter(|_| keeps_ratio) {
            let scale = (width / incoming.width).min(height / incoming.height);
            let fitted = incoming.scaled(scale);
            (dimensions.width, dimensions.height) = (fitted.width, fitted.height);
        }
        let is_own = !crops && !keeps_ratio && images == own;
        Some((dimensions.limited(), is_own))
    }

    /// The incoming images as the node changes them.
    pub(super) fn changed(&self, incoming: Dimensions) -> Dimensions {
        let amount = self.number("amount").unwrap_or(1.0);
        let mut changed = incoming.scaled(self.scale(incoming));
        let padding =
            |names: [&str; 2]| -> f64 { names.iter().filter_map(|name| self.number(name)).sum() };
        if self.is("pad") {
            changed.width += padding(["left", "right"]);
            changed.height += padding(["top", "bottom"]);
        }
        if let Some(length) = self.number("length").filter(|_| self.is("frombatch")) {
            changed.images = changed.images.min(length);
        }
        changed.images *= amount;
        changed.limited()
    }

    /// The images that a node makes of a file that it loads: those of a video as far as it takes them.
    pub(super) fn loaded(&self, file: ImageSize) -> Dimensions {
        let (width, height) = (f64::from(file.width), f64::from(file.height));
        let mut images = f64::from(file.frames);
        let seconds = f64::from(file.milliseconds) / 1_000.0;
        if let Some(rate) = self.number("force_rate").filter(|_| seconds > 0.0) {
            images = (seconds * rate).round();
        }
        let skipped = self.number("skip_first_frames").unwrap_or(0.0);
        let nth = self.number("select_every_nth").unwrap_or(1.0);
        images = ((images - skipped) / nth).ceil();
        if let Some(most) = self.number("frame_load_cap") {
            images = images.min(most);
        }
        // One side that is set keeps the ratio.
        let (width, height) = match (self.number("custom_width"), self.number("custom_height")) {
            (Some(width), Some(height)) => (width, height),
            (Some(side), None) => (side, height * side / width),
            (None, Some(side)) => (width * side / height, side),
            (None, None) => (width, height),
        };
        let dimensions = Dimensions {
            width,
            height,
            images: images.max(1.0),
        };
        dimensions.limited()
    }

    /// Whether the node makes images, of a size that is not known: it sets a width and a height, or loads them from
    /// somewhere.
    pub(super) fn makes_images(&self) -> bool {
        let loads = self.is("load") && (self.is("image") || self.is("video"));
        loads
            || ["width", "height"]
                .iter()
                .all(|name| self.input(name).is_some())
    }

    /// Whether it makes images that fit into the size that it sets.
    fn keeps_ratio(&self) -> bool {
        let is_text = |name: &str, text: &str| {
            self.input(name)
                .and_then(Value::as_str)
                .is_some_and(|value| value == text)
        };
        is_text("method", "keep proportion")
            || is_text("keep_proportion", "resize")
            || self.input("keep_proportion") == Some(&Value::Bool(true))
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
            self.number("multiplier"),
            self.number("megapixels")
                .map(|megapixels| (megapixels * MEGAPIXEL / incoming.area()).sqrt()),
            self.first(&["largest_size", "longer_edge", "longest_side", "longer_size"])
                .map(|side| side / width.max(height)),
            self.first(&["shorter_edge", "resolution", "shorter_size"])
                .map(|side| side / width.min(height)),
            self.number("width").map(|side| side / width),
            self.number("height").map(|side| side / height),
        ];
        by.into_iter().flatten().next().unwrap_or(1.0)
    }

    /// The positive number that an input is set to.
    fn number(&self, name: &str) -> Option<f64> {
        self.numbers
            .of_value(self.input(name)?)
            .filter(|number| *number > 0.0)
    }

    /// The first of these inputs that is set to a positive number.
    fn first(&self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| self.number(name))
    }

    /// An input by its name; newer nodes have the name of a choice before it, as `resize_type.width`.
    fn input(&self, name: &str) -> Option<&'a Value> {
        let exact = self.node.get("inputs")?.get(name);
        exact.or_else(|| {
            let is_named = |(input, _): &(&str, &Value)| {
                let group = input.strip_suffix(name);
                group.is_some_and(|group| group.ends_with('.'))
            };
            inputs(self.node).find(is_named).map(|(_, value)| value)
        })
    }

    /// Whether the name of the node's class has a word in it.
    fn is(&self, word: &str) -> bool {
        self.class.contains(word)
    }
}
