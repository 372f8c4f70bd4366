//! What ComfyUI's own API is answered with, where it is that of one server and there are several behind it.

pub(super) mod caller;
mod client_events;
pub(super) mod event_tap;
mod forward;
mod made_frames;
pub(super) mod prompt_name;
pub(super) mod tap_queue;

pub use caller::comfy_tags;
pub use client_events::ClientEvents;
pub use forward::ForwardedRequest;
pub use made_frames::QueueLength;
pub use tap_queue::{TapFrame, TapPayload};
