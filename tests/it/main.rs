//! The relay, its replay server and its program, tested from outside: real sockets, real databases.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod architecture;
mod broker;
mod client;
mod contract;
mod discovery;
mod documents;
mod downstream;
mod estimates;
mod faults;
mod hunt;
mod old_clients;
mod operations;
mod pages;
mod proxy;
mod queue;
mod replay;
mod storage;
mod support;
mod webhooks;
mod workflows;
