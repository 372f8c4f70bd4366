// The map links its modules to files; here they lead to the modules, because the first definition of a
// reference counts.
//! [`auth`]: crate::auth
//! [`broker`]: crate::broker
//! [`cli`]: crate::cli
//! [`comfy`]: crate::comfy
//! [`config`]: crate::config
//! [`connector`]: crate::connector
//! [`estimate`]: crate::estimate
//! [`evaluation`]: crate::evaluation
//! [`hub`]: crate::hub
//! [`job`]: crate::job
//! [`placement`]: crate::placement
//! [`recording`]: crate::recording
//! [`relay`]: crate::relay
//! [`replay`]: crate::replay
//! [`server`]: crate::server
//! [`session`]: crate::session
//! [`store`]: crate::store
//! [`webhook`]: crate::webhook
//! [`workflow`]: crate::workflow
#![doc = include_str!("../docs/architecture.md")]

pub mod config;

pub mod connector;

mod python_json;

mod watched_file;

mod wire_schema;

pub mod job;

pub mod estimate;

pub mod placement;

pub mod recording;

pub mod auth;

pub mod broker;

pub mod comfy;

pub mod hub;

pub mod store;

pub mod webhook;

pub mod workflow;

pub mod replay;

pub mod relay;

pub mod session;

pub mod server;

pub mod evaluation;

pub mod cli;
