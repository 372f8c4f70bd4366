//! The relay keeps strangers out: tokens, web pages, floods, and clients that mean no good.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
mod confusion;
mod expiry;
mod files;
mod gate;
#[path = "../downstream/impostor.rs"]
#[expect(dead_code, reason = "what the other tests answer is not answered here")]
mod impostor;
mod keys;
mod leaks;
mod limits;
mod pages;
mod program;
mod proxies;
mod scopes;
mod settings;
mod slow;
#[path = "../downstream/subscriber.rs"]
#[expect(dead_code, reason = "what the other tests hear is not heard here")]
mod subscriber;
mod tls;
mod tokens;
#[path = "../downstream/world.rs"]
#[expect(dead_code, reason = "what the other tests ask is not asked here")]
mod world;
