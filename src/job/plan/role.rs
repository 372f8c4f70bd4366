//! What a node does.

/// What a node does, judged by the name of its class: custom nodes keep to these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads a model from the disk.
    Loader,
    /// Denoises, step by step.
    Sampler,
    /// Encodes a text.
    Text,
    /// Turns pictures into latents or back.
    Vae,
    /// Enlarges pictures.
    Upscale,
    /// Writes files.
    Save,
    /// Anything else.
    Other,
}

/// The picture that one unit of work stands for, in pixels.
const UNIT_PIXELS: f64 = 512.0 * 512.0;

/// Twice the pixels cost somewhat less than twice the time: every step has a part that does not grow.
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

    /// The work of one pass over a picture. Some of it does not grow with the picture: so costs of
    /// tiny ones are not taken for a measure of large ones.
    pub(super) fn pass(self, pixels: f64) -> f64 {
        let fixed = match self {
            Self::Loader | Self::Text => return 1.0,
            Self::Sampler | Self::Vae | Self::Upscale => 0.005,
            Self::Save | Self::Other => 0.25,
        };
        fixed + (pixels / UNIT_PIXELS).powf(PIXEL_POWER)
    }
}
