//! What callers ask of the relay, one file a verb.

pub(super) mod list;
pub(super) mod lookup;
pub(super) mod status;
pub(super) mod submit;
