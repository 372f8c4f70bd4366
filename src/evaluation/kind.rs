use std::fmt;

use crate::job::{Job, PlannedNode, Role};
use crate::recording::Meta;

/// The share of a job's time from which on a node without a bar counts as [`JobKind::SilentNodes`].
const SILENT_SHARE: f64 = 0.4;

/// What makes a job easy or hard to estimate; the first one that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// Other programs ran on the machine for a while, as the notes of the recording say.
    Load,
    /// It loads an image or a video.
    ImageInput,
    /// Some nodes of its graph do not run: no output needs them.
    UnneededNodes,
    /// It makes a video or an animation.
    Video,
    /// It has runs that a loop or a subgraph made.
    Loops,
    /// It has several samplers.
    ManySamplers,
    /// Much of its time passes in a node without a bar.
    SilentNodes,
    /// One sampler.
    TextToImage,
    /// Anything else.
    Other,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::TextToImage,
        Self::ImageInput,
        Self::ManySamplers,
        Self::Video,
        Self::SilentNodes,
        Self::Loops,
        Self::Load,
        Self::UnneededNodes,
        Self::Other,
    ];

    /// The kind of a job that has ended, of the recording that `meta` describes.
    pub(super) fn of(job: &Job, meta: &Meta) -> Self {
        let plan = job.plan();
        let needed = || plan.needed().map(|(_, node)| node);
        let is_video = |node: &PlannedNode| {
            let class = node.class_type.to_ascii_lowercase();
            ["video", "animated"].iter().any(|word| class.contains(word))
        };
        let samplers = needed().filter(|node| node.role == Role::Sampler).count();
        if meta.notes.iter().any(|note| note.contains("busy loops")) {
            Self::Load
        } else if !plan.files().is_empty() {
            Self::ImageInput
        } else if plan.nodes().count() > needed().count() {
            Self::UnneededNodes
        } else if needed().any(is_video) {
            Self::Video
        } else if job.runs().iter().any(|run| plan.node(run.id).is_none()) {
            Self::Loops
        } else if samplers > 1 {
            Self::ManySamplers
        } else if has_silent_node(job) {
            Self::SilentNodes
        } else if samplers == 1 {
            Self::TextToImage
        } else {
            Self::Other
        }
    }
}

fn has_silent_node(job: &Job) -> bool {
    let Some((start, end)) = job.started_at().zip(job.work_done_at()) else {
        return false;
    };
    let duration = end.duration_since(start).as_secs_f64();
    let mut silent = job.runs().into_iter().filter(|run| run.bar.is_none());
    silent.any(|run| run.seconds(end) > SILENT_SHARE * duration)
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Load => "load that comes and goes",
            Self::ImageInput => "image input",
            Self::UnneededNodes => "nodes that do not run",
            Self::Video => "video",
            Self::Loops => "loops",
            Self::ManySamplers => "many samplers",
            Self::SilentNodes => "silent nodes",
            Self::TextToImage => "text to image",
            Self::Other => "other",
        })
    }
}
