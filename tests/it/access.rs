//! Who may use the relay and how much: tokens, origins, limits, TLS, and clients that attack it.

mod added_servers;
mod algorithm_confusion;
mod client_ip;
mod commands;
mod encrypted_comfyui;
mod encrypted_relay;
mod environment;
mod expiry;
mod files;
mod leaks;
mod limits;
mod nginx;
mod origins;
mod probes;
mod public_address;
mod refusals;
mod request_ids;
mod scopes;
mod secret_files;
mod settings;
mod settings_file;
mod slow;
mod tls;
mod token_command;
mod tokens;
mod wrong_settings;
