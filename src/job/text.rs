//! The sentences in messages.

mod paths;

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::nodes::{Bar, Current, Nodes};
use super::{Plan, PlannedNode};

pub use paths::redact;

/// The longest name of a node in a sentence, in characters.
const MAX_NAME: usize = 60;

/// The longest status of a service, in characters.
const MAX_STATUS: usize = 40;

/// The longest error text, in characters: a few lines on a page.
const MAX_ERROR: usize = 500;

/// The longest stored error text, in characters: the node's name stands before it.
const MAX_STORED_ERROR: usize = MAX_ERROR + 2 * MAX_NAME + 20;

/// How many characters of the beginning and of the end of a long text are quoted: 200 with the mark between them.
const EXCERPT: (usize, usize) = (147, 50);

/// The message of a queued job.
pub(super) fn queued(ahead: Option<usize>) -> String {
    match ahead {
        None => "Queued".to_owned(),
        Some(0) => "Queued, next in line".to_owned(),
        Some(ahead) => format!("Queued, {ahead} ahead"),
    }
}

/// The message of a job that no backend takes.
pub(super) fn waiting(reason: &str) -> String {
    format!("Waiting: {reason}")
}

/// The message of a job whose prompt was lost, and is to be handed in again.
pub(super) fn to_restart(ahead: Option<usize>) -> String {
    match ahead {
        None | Some(0) => "Lost with its server, to be restarted".to_owned(),
        Some(ahead) => format!("Lost with its server, to be restarted, {ahead} ahead"),
    }
}

/// The message of a job whose prompt was handed in again.
pub(super) fn restarted(backend: Option<&str>) -> String {
    match backend {
        None => "Restarted".to_owned(),
        Some(backend) => format!("Restarted on {}", short(backend, MAX_NAME)),
    }
}

/// The message of a group: how many of its jobs have completed, and how many there are of each other kind.
pub(super) fn group(completed: usize, total: usize, others: &[(usize, &str)]) -> String {
    let noun = if total == 1 { "shot" } else { "shots" };
    let mut message = format!("{completed} of {total} {noun}");
    for (count, word) in others.iter().filter(|(count, _)| *count > 0) {
        message += &format!(", {count} {word}");
    }
    message
}

/// Why a group failed: how many of its jobs did, and what went wrong in the first.
pub(super) fn group_failure(failed: usize, job: &str, error: &str) -> String {
    format!("{failed} failed; {job}: {error}")
}

/// The message of a job whose backend does not answer.
pub(super) fn unreachable(since: Timestamp) -> String {
    format!(
        "Waiting for ComfyUI to answer, since {} UTC",
        since.strftime("%H:%M:%S")
    )
}

/// The message of a job whose backend shows no sign of life.
pub(super) fn silent(silence: SignedDuration) -> String {
    format!("No sign of life from ComfyUI for {}", passed(silence))
}

/// A time that has passed, for people: "45 s", "6 min", "2 h 5 min".
pub fn passed(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    match (seconds / 3_600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// The message of a running job whose events go to another client.
pub(super) const HIDDEN_STEPS: &str = "Running for another client: its steps cannot be seen";

/// The message of a running job.
pub(super) fn running(nodes: &Nodes, plan: &Plan) -> String {
    let Some(current) = nodes.current() else {
        return "Starting".to_owned();
    };
    let Some(rounds) = nodes.current_round() else {
        return node(current, plan);
    };
    let (ended, all) = (rounds.ended, rounds.all);
    if plan.opens_loop(current.id) {
        return format!("Loop: {ended} of {all}");
    }
    format!("Loop: {ended} of {all}, {}", node(current, plan))
}

/// What a node does.
fn node(current: Current<'_>, plan: &Plan) -> String {
    let planned = plan.node(current.id);
    let name = planned.map_or_else(
        || format!("Node {}", short(current.id, MAX_NAME)),
        |node| short(node.name(), MAX_NAME),
    );
    if current.loading {
        return format!("{name}: loading a model");
    }
    if let Some(status) = current.status {
        let share = current.bar.filter(|bar| has_moved(*bar));
        let share = share.map(|bar| format!(", {:.0} %", bar.share() * 100.0));
        let status = short(status, MAX_STATUS);
        return format!("{name}: {status}{}", share.unwrap_or_default());
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

/// What is quoted of a text that somebody has sent: all of it, or of a long one the beginning and the end.
pub fn excerpt(text: &str) -> Cow<'_, str> {
    let (head, tail) = EXCERPT;
    let mut ends = text.char_indices().map(|(at, _)| at).skip(head);
    let Some(head_end) = ends.next().filter(|_| ends.nth(tail + 2).is_some()) else {
        return Cow::Borrowed(text);
    };
    let mut starts = text.char_indices().map(|(at, _)| at);
    let tail_start = starts.nth_back(tail - 1).unwrap_or(text.len());
    Cow::Owned(format!("{} … {}", &text[..head_end], &text[tail_start..]))
}

/// The text without characters that could change what is around it on a terminal or in a log: control characters but
/// line breaks and tabs, and those that change the direction of text. Each becomes U+FFFD.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_raw = |c: char| !matches!(c, '\n' | '\t') && is_control(c);
    if text.contains(is_raw) {
        Cow::Owned(text.replace(is_raw, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON with the same content, and without characters that could change what is around it on a terminal: they are
/// escaped where they stand in a text, and white space anywhere else.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_control) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            '\n' | '\t' | '\r' => safe.push(' '),
            // All of them are in the basic plane, so one escape holds each.
            c if is_control(c) => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Whether a character controls a terminal, or the direction of the text around it.
fn is_control(c: char) -> bool {
    let directs = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || directs
}

/// The text on one line, without control characters, cut off after `max` characters.
pub(super) fn short(text: &str, max: usize) -> String {
    let mut line = String::new();
    let words = text
        .split(|c: char| c.is_whitespace() || is_control(c))
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
    fn a_silence_is_said_in_words() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (6 * 60 + 30, "6 min"),
            (7_500, "2 h 5 min"),
        ] {
            let said = silent(SignedDuration::from_secs(seconds));
            assert_eq!(said, format!("No sign of life from ComfyUI for {words}"));
        }
    }

    #[test]
    fn a_long_text_is_quoted_in_part() {
        let text = "é".repeat(200);
        assert_eq!(excerpt(&text), text);
        let long = format!("{{{}}}", "é".repeat(100_000));
        let quoted = excerpt(&long);
        assert_eq!(quoted.chars().count(), 200);
        assert!(
            quoted.starts_with("{é") && quoted.ends_with("é}"),
            "{quoted}"
        );
    }

    #[test]
    fn an_error_text_becomes_one_clean_line() {
        assert_eq!(short("a\u{0}b\n\n  c\u{1b}[0m", 80), "a b c [0m");
        assert_eq!(short("a\u{202e}gnp.exe\u{9b}2J", 80), "a gnp.exe 2J");
        assert_eq!(
            printable("a\u{1b}[2J\tb\n\u{202e}c\u{9b}\u{7f}é"),
            "a\u{fffd}[2J\tb\n\u{fffd}c\u{fffd}\u{fffd}é"
        );
        assert_eq!(short("äöü", 2), "äö…");
        assert_eq!(short(&"x".repeat(10_000), 500).chars().count(), 501);
        assert_eq!(
            failure(Some(("KSampler", "3")), "out of memory\n"),
            "KSampler (node 3): out of memory"
        );
    }
}
