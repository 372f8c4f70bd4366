//! What ComfyUI's own API is answered with, where it is that of one server and there are several behind it.

mod forward;

pub use forward::ForwardedRequest;
