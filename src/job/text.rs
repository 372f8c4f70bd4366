//! The sentences in messages.

mod paths;

use jiff::Timestamp;

use super::nodes::{Bar, Current};
use super::{Plan, PlannedNode};

pub use paths::redact;

/// The longest name of a node in a sentence, in characters.
const MAX_NAME: usize = 60;

/// The longest error text, in characters: a few lines on a page.
const MAX_ERROR: usize = 500;

/// The longest stored error text, in characters: the node's name stands before it.
const MAX_STORED_ERROR: usize = MAX_ERROR + 2 * MAX_NAME + 20;

/// The message of a queued job.
pub(super) fn queued(ahead: Option<usize>) -> String {
    match ahead {
        None => "Queued".to_owned(),
        Some(0) => "Queued, next in line".to_owned(),
        Some(ahead) => format!("Queued, {ahead} ahead"),
    }
}

/// The message of a job whose backend does not answer.
pub(super) fn unreachable(since: Timestamp) -> String {
    format!(
        "Waiting for ComfyUI to answer, since {} UTC",
        since.strftime("%H:%M:%S")
    )
}

/// The message of a running job.
pub(super) fn running(current: Option<Current<'_>>, plan: &Plan) -> String {
    let Some(current) = current else {
        return "Starting".to_owned();
    };
    let planned = plan.node(current.id);
    let name = planned.map_or_else(
        || format!("Node {}", short(current.id, MAX_NAME)),
        |node| short(node.name(), MAX_NAME),
    );
    if current.loading {
        return format!("{name}: loading a model");
    }
    match current.bar.map(|bar| (bar, bar.steps())) {
        Some((_, Some((step, steps)))) => format!("{name}: step {step} of {steps}"),
        Some((bar, None)) if has_moved(bar) => format!("{name}: {:.0} %", bar.share() * 100.0),
        _ => planned
            .and_then(activity)
            .map_or_else(|| format!("Running {name}"), str::to_owned),
    }
}

fn has_moved(bar: Bar) -> bool {
    bar.max > 0.0 && bar.value > 0.0
}

/// What nodes of well-known classes do.
fn activity(node: &PlannedNode) -> Option<&'static str> {
    let class = node.class_type.as_str();
    let sentence = match class {
        "CheckpointLoaderSimple" | "CheckpointLoader" | "ImageOnlyCheckpointLoader" => {
            "Loading checkpoint"
        }
        "UNETLoader" | "UnetLoaderGGUF" => "Loading diffusion model",
        "CLIPLoader" | "DualCLIPLoader" | "TripleCLIPLoader" => "Loading text encoder",
        "VAELoader" => "Loading VAE",
        "LoraLoader" | "LoraLoaderModelOnly" => "Loading LoRA",
        "ControlNetLoader" => "Loading ControlNet",
        "UpscaleModelLoader" => "Loading upscale model",
        "LoadImage" | "LoadImageMask" => "Loading image",
        "CLIPTextEncode" | "CLIPTextEncodeSDXL" | "CLIPTextEncodeFlux" => "Reading the prompt",
        "EmptyLatentImage" | "EmptySD3LatentImage" => "Preparing the canvas",
        "KSampler" | "KSamplerAdvanced" | "SamplerCustom" | "SamplerCustomAdvanced" => {
            "Preparing to sample"
        }
        "VAEDecode" | "VAEDecodeTiled" => "Decoding image",
        "VAEEncode" | "VAEEncodeTiled" | "VAEEncodeForInpaint" => "Encoding image",
        "ImageUpscaleWithModel"
        | "LatentUpscale"
        | "LatentUpscaleBy"
        | "ImageScale"
        | "ImageScaleBy" => "Upscaling",
        "SaveImage" => "Saving image",
        "PreviewImage" => "Making a preview",
        "SaveAnimatedWEBP" | "SaveAnimatedPNG" | "SaveWEBM" | "SaveVideo" | "CreateVideo"
        | "VHS_VideoCombine" => "Saving video",
        _ => return None,
    };
    Some(sentence)
}

/// The text of a stored error, which another program may have written.
pub(super) fn stored_failure(message: &str) -> String {
    short(&redact(message), MAX_STORED_ERROR)
}

/// The text of an error, with the class and the id of the node. `raised` may be any text.
pub(super) fn failure(node: Option<(&str, &str)>, raised: &str) -> String {
    let raised = short(&redact(raised), MAX_ERROR);
    match node {
        Some((class, id)) => {
            let (class, id) = (short(class, MAX_NAME), short(id, MAX_NAME));
            format!("{class} (node {id}): {raised}")
        }
        None => raised,
    }
}

/// The text on one line, without control characters, cut off after `max` characters.
pub(super) fn short(text: &str, max: usize) -> String {
    let mut line = String::new();
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > max * 4 {
            break;
        }
    }
    match line.char_indices().nth(max) {
        Some((end, _)) => {
            line.truncate(end);
            line.push('…');
            line
        }
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queued_jobs_have_a_sentence_for_each_position() {
        assert_eq!(queued(None), "Queued");
        assert_eq!(queued(Some(0)), "Queued, next in line");
        assert_eq!(queued(Some(3)), "Queued, 3 ahead");
    }

    #[test]
    fn an_error_text_becomes_one_clean_line() {
        assert_eq!(short("a\u{0}b\n\n  c\u{1b}[0m", 80), "a b c [0m");
        assert_eq!(short("äöü", 2), "äö…");
        assert_eq!(short(&"x".repeat(10_000), 500).chars().count(), 501);
        assert_eq!(
            failure(Some(("KSampler", "3")), "out of memory\n"),
            "KSampler (node 3): out of memory"
        );
    }
}
