//! What ComfyUI's own API is answered with, where it is that of one server and there are several behind it.

mod all_servers;
mod assets;
pub(super) mod caller;
mod client_events;
pub(super) mod event_tap;
mod forward;
mod history_list;
mod job_list;
mod known_prompt;
mod made_frames;
mod merged;
pub(super) mod prompt_name;
mod queue_list;
mod stop;
mod tap_preview;
pub(super) mod tap_queue;
mod unlisted;
mod upload;
mod view;

pub use caller::{comfy_tags, labelled_comfy_tags};
pub use client_events::ClientEvents;
pub use forward::ForwardedRequest;
pub use job_list::{ComfyJobs, JobListQuery};
pub use made_frames::QueueLength;
pub use queue_list::ComfyQueue;
pub use tap_preview::TapPreview;
pub use tap_queue::{TapFrame, TapPayload};
pub use view::ViewedFile;

/// What stands for the name of a server where none of them can be asked.
const NO_SERVER: &str = "any of the configured addresses";
