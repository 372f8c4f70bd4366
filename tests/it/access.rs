//! The relay keeps strangers out: tokens, web pages, floods, and clients that mean no good.

mod algorithm_confusion;
mod client_ip;
mod commands;
mod encrypted_comfyui;
mod encrypted_relay;
mod expiry;
mod files;
mod leaks;
mod limits;
mod origins;
mod scopes;
mod settings;
mod slow;
mod tls;
mod tokens;
