//! Faults between the relay and ComfyUI, made to happen over real sockets: whatever breaks, every job
//! comes to its true end, once, and its progress never falls.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod cuts;
mod fault;
mod frames;
mod gate;
#[path = "../downstream/impostor.rs"]
#[expect(dead_code, reason = "what the other tests answer is not answered here")]
mod impostor;
mod line;
mod play;
mod random;
mod removals;
mod silence;
#[path = "../downstream/subscriber.rs"]
#[expect(dead_code, reason = "what the other tests hear is not heard here")]
mod subscriber;
#[path = "../downstream/world.rs"]
#[expect(dead_code, reason = "what the other tests ask is not asked here")]
mod world;
