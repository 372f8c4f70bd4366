//! The documents that describe the API: what is kept of them, and whether it is true.

mod answers;
mod documents;
mod messages;
mod requests;
mod typescript;
