//! How the bytes of a case are read, for the targets and their seeds.

pub mod client;

/// Separates the parts of a case of `workflows`: JSON never holds this byte unescaped.
pub const PART: u8 = 0;

/// Separates the steps of a case of `upstream_frames`.
pub const STEP: u8 = b'\n';
