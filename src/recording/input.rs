//! [`RecordedInput`]: one file of `inputs.json`.

use serde::{Deserialize, Serialize};

/// A file that a graph loads. Its size was measured beside the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedInput {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// 1 for an image.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub frames: u32,
}

fn one() -> u32 {
    1
}

fn is_one(frames: &u32) -> bool {
    *frames == 1
}
