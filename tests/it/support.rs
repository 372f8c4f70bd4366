//! What the tests share: servers, clients and proxies that are started for one test.

pub(crate) mod api_description;
pub(crate) mod browser;
pub(crate) mod chaos_proxy;
pub(crate) mod database;
pub(crate) mod echo_comfy;
pub(crate) mod experience;
pub(crate) mod hanging_server;
pub(crate) mod message_description;
pub(crate) mod nginx;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod raw_client;
pub(crate) mod recordings;
pub(crate) mod redis_server;
pub(crate) mod scripted_comfy;
pub(crate) mod signer;
pub(crate) mod subscriber;
pub(crate) mod tcp_proxy;
pub(crate) mod terminal;
pub(crate) mod test_relay;
pub(crate) mod tls_proxy;
pub(crate) mod tokens;
pub(crate) mod tool;
pub(crate) mod wait;
pub(crate) mod webhook_receiver;
