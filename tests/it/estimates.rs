//! What the relay estimates: from what runs, at the size of its images.

mod corrections;
mod images;
mod others;
mod outputs;
mod restarts;
mod server;
