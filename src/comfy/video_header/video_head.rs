use crate::job::ImageSize;

/// What a part of a file shows of the video in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::comfy) enum VideoHead {
    /// Its size.
    Size(ImageSize),
    /// The description is not in the part: it begins at this offset or behind it.
    Beyond(u64),
    /// There is no video in it, or one that cannot be read.
    Unknown,
}
