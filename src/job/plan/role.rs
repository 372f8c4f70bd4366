/// What a node does, by the name of its class. Custom nodes use the same words in their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads a model from the disk.
    Loader,
    /// Denoises, step by step.
    Sampler,
    /// Encodes a text.
    Text,
    /// Encodes images into latents, or decodes them.
    Vae,
    /// Enlarges images.
    Upscale,
    /// Writes files.
    Save,
    /// Anything else.
    Other,
}

/// The size of the image in one unit of work, in pixels.
const UNIT_PIXELS: f64 = 512.0 * 512.0;

/// The time of a step grows with the pixels to this power: a part of every step does not grow.
const PIXEL_POWER: f64 = 0.9;

impl Role {
    /// The role of a class.
    pub fn of(class_type: &str) -> Self {
        let class = class_type.to_ascii_lowercase();
        let has = |word| class.contains(word);
        if has("sampler") && !has("select") {
            Self::Sampler
        } else if has("load") && !has("image") && !has("video") && !has("mask") {
            Self::Loader
        } else if has("vae") && (has("decode") || has("encode")) {
            Self::Vae
        } else if has("upscale") {
            Self::Upscale
        } else if has("save") || has("preview") || has("combine") {
            Self::Save
        } else if has("encode") {
            Self::Text
        } else {
            Self::Other
        }
    }

    /// The units of work of one pass over an image: `fixed + (pixels / 512²)^0.9`. Without the fixed
    /// part, the cost of a tiny image would predict far too much for a large one.
    pub(super) fn pass(self, pixels: f64) -> f64 {
        let fixed = match self {
            Self::Loader | Self::Text => return 1.0,
            Self::Sampler | Self::Vae | Self::Upscale => 0.005,
            Self::Save | Self::Other => 0.25,
        };
        fixed + (pixels / UNIT_PIXELS).powf(PIXEL_POWER)
    }
}
