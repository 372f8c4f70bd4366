//! What targets and their seeds share: how the bytes of a case are read.

pub mod client;

/// What separates the parts of a case of `workflows`: JSON never holds it as it is.
pub const PART: u8 = 0;

/// What separates the steps of a case of `upstream_frames`.
pub const STEP: u8 = b'\n';
