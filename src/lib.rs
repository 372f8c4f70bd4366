//! A relay between ComfyUI and the people who wait for its pictures.
//!
//! It follows ComfyUI servers, folds what they tell of nodes and steps into jobs with an honest
//! percentage and a remaining time, and hands every job's progress to any number of subscribers.
//!
//! # The map
//!
//! A module imports from floors below its own, never from its own and never upwards. Within floor 0,
//! `estimate` reads `job`, and not the reverse. A test holds this.
//!
//! | floor | modules | |
//! |---|---|---|
//! | top | [`cli`] | parse, start, wait, stop |
//! | 5 | [`evaluation`] | scores estimators on recordings |
//! | 3 | [`server`] | the downstream edge: HTTP, and threads with thousands of subscribers each |
//! | 2 | [`relay`] | the heart: the only place where the modules of floor 1 meet |
//! | 1 | [`comfy`] · [`hub`] · [`store`] · [`workflow`] · [`replay`] | none knows another |
//! | 0 | [`job`] · [`estimate`] · [`recording`] | what a job is, how events change it, when it will end; the file format of recordings |
//! | ground | [`config`] | plain data, read once |
//!
//! # The way of one event
//!
//! ```text
//! task A, one for each ComfyUI server                       thread B, for thousands of subscribers
//!
//! Socket::next ─ Message::parse ─ Relay::ingest ─┐
//!      Job::apply ─ Estimate::of ─ Publication   ├─ Hub::publish ══ Mailbox ══▶ Shard ─ sockets
//!      (numbered, framed once)                   ├─ Recorder::record   never waits
//!                                               ─┘
//! ```
//!
//! Every event is folded, but a job whose status stays the same is published ten times a second at the
//! most (`relay/throttle.rs`): the newest state is held back until then, never dropped.
//!
//! # Where this differs from a first sketch of the design
//!
//! - Subscribers have no task each: waking ten thousand tasks costs as much again as writing to their
//!   sockets, and each holds kilobytes. The head of `session.rs` tells what there is instead. Event
//!   streams and monitors, of which there are few, are tasks.
//! - Positions of events (`{epoch, seq}`) are left to the day when several nodes share the work: on one
//!   node [`job::Job::apply`] swallows every echo by its state alone.
//! - The history of a prompt is read by a task of its own beside task A, so that a slow answer never
//!   keeps the socket from being read.

pub mod config;

mod watched_file;

pub mod job;

pub mod estimate;

pub mod recording;

pub mod auth;

pub mod comfy;

pub mod hub;

pub mod store;

pub mod workflow;

pub mod replay;

pub mod relay;

pub mod session;

pub mod server;

pub mod evaluation;

pub mod cli;
