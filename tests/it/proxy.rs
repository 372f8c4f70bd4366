//! ComfyUI's own API before several ComfyUI servers.

mod comfy_client;
mod ends;
mod pass_through;
mod prompts;
mod sockets;
