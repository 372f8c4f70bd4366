//! Jobs in PostgreSQL and SQLite: one story for both, and what may go wrong with a database.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adoption;
mod database;
mod disk;
mod faults;
mod goodbyes;
#[path = "../downstream/impostor.rs"]
#[expect(dead_code, reason = "what the other tests answer is not answered here")]
mod impostor;
mod kills;
mod learning;
mod leases;
mod life;
#[path = "../downstream/line.rs"]
mod line;
mod postgres;
mod program;
#[path = "../downstream/subscriber.rs"]
#[expect(dead_code, reason = "what the other tests hear is not heard here")]
mod subscriber;
#[path = "../downstream/world.rs"]
#[expect(dead_code, reason = "what the other tests ask is not asked here")]
mod world;
