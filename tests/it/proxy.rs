//! ComfyUI's own API before several ComfyUI servers.

mod clients;
mod comfy_client;
mod comfyui_page;
mod ends;
mod failing_servers;
mod files;
mod hostile_requests;
mod lists;
mod pass_through;
mod prompts;
mod sockets;
