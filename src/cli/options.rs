//! Groups of flags that set one configuration between them.

pub(super) mod access;
pub(super) mod comfyui;
pub(super) mod database;
mod port;
pub(super) mod redis;
