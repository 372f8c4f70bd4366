//! ComfyUI's own API before several ComfyUI servers.

mod pass_through;
