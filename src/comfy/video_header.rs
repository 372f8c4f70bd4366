//! The size and the frames of a video, from a part of its file.
//!
//! Crates that read such files need all of what describes the video, which has megabytes where it is long. What is
//! wanted is near its start.

mod avi;
mod matroska;
pub(super) mod mp4;
mod video_head;

use crate::job::ImageSize;
pub(super) use video_head::VideoHead;

/// Whether a file that begins with `head` is one.
pub(super) fn is_video(head: &[u8]) -> bool {
    mp4::is_video(head) || matroska::is_video(head) || avi::is_video(head)
}

/// Reads the head of a file, or a part of it that begins where [`VideoHead::Beyond`] says.
pub(super) fn read(part: &[u8]) -> VideoHead {
    let known = |size: Option<ImageSize>| size.map_or(VideoHead::Unknown, VideoHead::Size);
    if matroska::is_video(part) {
        known(matroska::size(part))
    } else if avi::is_video(part) {
        known(avi::size(part))
    } else {
        mp4::read(part)
    }
}
