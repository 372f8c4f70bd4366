//! Matroska and WebM files (RFC 9559, in the elements of RFC 8794).

use std::time::Duration;

use crate::job::ImageSize;

/// The ids of elements, with their length markers.
const HEADER: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1F43_B675;
const INFO: u32 = 0x1549_A966;
const TIMESTAMP_SCALE: u32 = 0x002A_D7B1;
const DURATION: u32 = 0x4489;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_TYPE: u32 = 0x83;
const DEFAULT_DURATION: u32 = 0x0023_E383;
const VIDEO: u32 = 0xE0;
const PIXEL_WIDTH: u32 = 0xB0;
const PIXEL_HEIGHT: u32 = 0xBA;

/// The type of a track with a video.
const VIDEO_TRACK: u64 = 1;

/// How many nanoseconds a timestamp counts where the file does not say it.
const DEFAULT_SCALE: u64 = 1_000_000;

/// An element, as far as it is there.
#[derive(Clone, Copy)]
struct Element<'a> {
    id: u32,
    body: &'a [u8],
}

/// Whether a file that begins with `head` is one.
pub(super) fn is_video(head: &[u8]) -> bool {
    head.starts_with(&HEADER.to_be_bytes())
}

/// The size of the first video, from the head of its file. The number of frames is what fits into the file's duration: the
/// file does not say it itself.
pub(super) fn size(head: &[u8]) -> Option<ImageSize> {
    let segment = child(head, SEGMENT)?;
    let info = child(segment, INFO)?;
    let scale = child(info, TIMESTAMP_SCALE).map_or(Some(DEFAULT_SCALE), unsigned)?;
    let ticks = float(child(info, DURATION)?)?;
    let duration = Duration::try_from_secs_f64(ticks * scale as f64 / 1e9).ok()?;
    let is_video = |track: &[u8]| child(track, TRACK_TYPE).and_then(unsigned) == Some(VIDEO_TRACK);
    let track = elements(child(segment, TRACKS)?)
        .filter(|element| element.id == TRACK_ENTRY)
        .map(|element| element.body)
        .find(|track| is_video(track))?;
    let video = child(track, VIDEO)?;
    let side = |id| u32::try_from(unsigned(child(video, id)?)?).ok();
    let (width, height) = (side(PIXEL_WIDTH)?, side(PIXEL_HEIGHT)?);
    let frame = unsigned(child(track, DEFAULT_DURATION)?)?;
    let frames = (duration.as_nanos() + u128::from(frame) / 2).checked_div(frame.into())?;
    let frames = u32::try_from(frames).ok()?;
    (width > 0 && height > 0 && frames > 0).then_some(ImageSize {
        width,
        height,
        frames,
        milliseconds: u32::try_from(duration.as_millis()).unwrap_or(0),
    })
}

/// The body of the first element of an id.
fn child(body: &[u8], id: u32) -> Option<&[u8]> {
    elements(body)
        .find(|element| element.id == id)
        .map(|element| element.body)
}

/// The elements in an element, up to the pictures.
fn elements(mut rest: &[u8]) -> impl Iterator<Item = Element<'_>> {
    std::iter::from_fn(move || {
        let (id, behind) = variable(rest, 4)?;
        let id = u32::try_from(id).ok()?;
        let (length, behind_length) = variable(behind, 8)?;
        // Without its marker; all ones where a stream does not know its length.
        let bits = 7 * (behind.len() - behind_length.len());
        let mask = (1_u64 << bits) - 1;
        let length = Some(length & mask).filter(|length| *length != mask);
        let length = length.map_or(Some(usize::MAX), |length| usize::try_from(length).ok())?;
        let body = behind_length.get(..length).unwrap_or(behind_length);
        rest = behind_length.get(length..).unwrap_or_default();
        Some(Element { id, body })
    })
    .take_while(|element| element.id != CLUSTER)
}

/// A number that begins with as many zero bits as it has further bytes, at most `longest` bytes, with the bit that follows
/// them; and what is behind it.
fn variable(bytes: &[u8], longest: usize) -> Option<(u64, &[u8])> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    if length > longest {
        return None;
    }
    let (number, behind) = bytes.split_at_checked(length)?;
    Some((unsigned(number)?, behind))
}

fn unsigned(bytes: &[u8]) -> Option<u64> {
    let shifted = |number, byte: &u8| number << 8 | u64::from(*byte);
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, shifted))
}

fn float(bytes: &[u8]) -> Option<f64> {
    if let Ok(bytes) = bytes.try_into() {
        return Some(f64::from_be_bytes(bytes));
    }
    bytes
        .try_into()
        .ok()
        .map(|bytes| f32::from_be_bytes(bytes).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(id: u32, body: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        let start = id.iter().position(|byte| *byte != 0).unwrap();
        let length = u32::try_from(body.len()).unwrap() | 0x1000_0000;
        [&id[start..], &length.to_be_bytes(), body].concat()
    }

    fn master(id: u32, children: &[Vec<u8>]) -> Vec<u8> {
        element(id, &children.concat())
    }

    fn track(kind: u8, frame: u32) -> Vec<u8> {
        let video = master(
            VIDEO,
            &[
                element(PIXEL_WIDTH, &[2, 0x80]),
                element(PIXEL_HEIGHT, &[1, 0x68]),
            ],
        );
        let frame = element(DEFAULT_DURATION, &frame.to_be_bytes());
        master(TRACK_ENTRY, &[element(TRACK_TYPE, &[kind]), frame, video])
    }

    /// What describes a video of 640 by 360 pixels and five seconds with 24 frames a second, beside sound.
    fn description(duration: &[u8]) -> Vec<u8> {
        [
            master(INFO, &[element(DURATION, duration)]),
            master(TRACKS, &[track(2, 1), track(1, 41_666_667)]),
        ]
        .concat()
    }

    fn video(segment: &[u8]) -> Vec<u8> {
        let frames = element(CLUSTER, &[7; 1_000]);
        let header = element(HEADER, b"webm");
        [header, element(SEGMENT, &[segment, &frames].concat())].concat()
    }

    const SIZE: ImageSize = ImageSize {
        width: 640,
        height: 360,
        frames: 120,
        milliseconds: 5_000,
    };

    #[test]
    fn a_video_shows_its_size_and_its_frames() {
        let long = video(&description(&5_000_f64.to_be_bytes()));
        assert!(is_video(&long));
        assert_eq!(size(&long), Some(SIZE));
        assert_eq!(size(&long[..300]), Some(SIZE));
        assert_eq!(
            size(&video(&description(&5_000_f32.to_be_bytes()))),
            Some(SIZE)
        );
        // As streams are written: without the length of what is not known yet.
        let header = element(HEADER, b"webm");
        let unknown = [&SEGMENT.to_be_bytes()[..], &[0xff]].concat();
        let stream = [header, unknown, description(&5_000_f64.to_be_bytes())].concat();
        assert_eq!(size(&stream), Some(SIZE));
    }

    #[test]
    fn what_shows_no_frames_has_no_size() {
        for duration in [0_f64, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(size(&video(&description(&duration.to_be_bytes()))), None);
        }
        assert_eq!(size(&video(&description(&[]))), None);
        assert_eq!(size(&video(&[])), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            keep in 0..300_usize, flips in prop::collection::vec((0..300_usize, any::<u8>()), 0..8),
        ) {
            let mut bytes = video(&description(&5_000_f64.to_be_bytes()));
            bytes.truncate(keep);
            for (at, byte) in flips {
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            size(&bytes);
        }
    }
}
