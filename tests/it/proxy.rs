//! ComfyUI's own API before several ComfyUI servers.

mod clients;
mod comfy_client;
mod comfy_sdks;
mod comfyui_page;
mod ends;
mod failing_servers;
mod files;
mod hostile_requests;
mod lists;
mod pass_through;
mod prompts;
mod sockets;
mod v2_assets;
mod v2_client;
mod v2_copies;
mod v2_events;
mod v2_jobs;
mod v2_uploads;
