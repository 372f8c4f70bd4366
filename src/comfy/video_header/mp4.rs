//! MP4 and QuickTime files (ISO/IEC 14496-12).

use super::video_head::VideoHead;
use crate::job::ImageSize;

/// A box: a length of four bytes, a type, and the rest.
#[derive(Clone, Copy)]
struct Atom<'a> {
    kind: [u8; 4],
    /// As far as it is there.
    body: &'a [u8],
    /// In bytes, with the length and the type.
    length: u64,
}

/// Whether a file that begins with `head` is one.
pub(super) fn is_video(head: &[u8]) -> bool {
    matches!(
        head.get(4..8),
        Some(b"ftyp" | b"moov" | b"mdat" | b"wide" | b"free")
    )
}

/// Reads a part of a file that begins with a box.
pub(super) fn read(part: &[u8]) -> VideoHead {
    let mut at = 0_u64;
    loop {
        let rest = usize::try_from(at).ok().and_then(|at| part.get(at..));
        let atom = match rest {
            Some(rest) if !rest.is_empty() => Atom::read(rest),
            _ => return VideoHead::Beyond(at),
        };
        match atom {
            Some(atom) if &atom.kind == b"moov" => {
                return size(atom.body).map_or(VideoHead::Unknown, VideoHead::Size);
            }
            Some(atom) => match at.checked_add(atom.length) {
                Some(next) => at = next,
                None => return VideoHead::Unknown,
            },
            None => return VideoHead::Unknown,
        }
    }
}

/// The size of the first video track.
fn size(moov: &[u8]) -> Option<ImageSize> {
    children(moov)
        .filter(|atom| &atom.kind == b"trak")
        .find_map(|track| track_size(track.body))
}

fn track_size(track: &[u8]) -> Option<ImageSize> {
    let media = child(track, b"mdia")?;
    if child(media, b"hdlr")?.get(8..12)? != b"vide" {
        return None;
    }
    // Times have four bytes in version 0, and eight in version 1.
    let header = child(track, b"tkhd")?;
    let sides = if header.first()? == &1 { 88 } else { 76 };
    // As fixed-point numbers with 16 bits behind the point.
    let (width, height) = (
        number(header, sides)? >> 16,
        number(header, sides + 4)? >> 16,
    );
    let times = child(media, b"mdhd")?;
    let (scale, duration) = if times.first()? == &1 {
        (
            number(times, 20)?,
            u64::from(number(times, 24)?) << 32 | u64::from(number(times, 28)?),
        )
    } else {
        (number(times, 12)?, u64::from(number(times, 16)?))
    };
    let samples = child(child(media, b"minf")?, b"stbl")?;
    let frames = frames(samples).filter(|frames| *frames > 0)?;
    let milliseconds = duration.saturating_mul(1_000).checked_div(u64::from(scale));
    (width > 0 && height > 0).then_some(ImageSize {
        width,
        height,
        frames,
        milliseconds: milliseconds.map_or(0, |time| u32::try_from(time).unwrap_or(0)),
    })
}

/// How many samples a track has: by the table of their times, which comes first, else by that of their sizes.
fn frames(samples: &[u8]) -> Option<u32> {
    let by_time = || {
        let table = child(samples, b"stts")?;
        let entries = usize::try_from(number(table, 4)?).ok()?;
        let entries = table
            .get(8..)?
            .get(..entries.checked_mul(8)?)?
            .chunks_exact(8);
        let counts = entries.filter_map(|entry| number(entry, 0));
        Some(counts.fold(0, u32::saturating_add))
    };
    by_time().or_else(|| number(child(samples, b"stsz")?, 8))
}

/// The body of the first box of a type.
fn child<'a>(body: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    children(body)
        .find(|atom| &atom.kind == kind)
        .map(|atom| atom.body)
}

/// The boxes in a box, as far as they are there.
fn children(mut rest: &[u8]) -> impl Iterator<Item = Atom<'_>> {
    std::iter::from_fn(move || {
        let atom = Atom::read(rest)?;
        let length = usize::try_from(atom.length).unwrap_or(usize::MAX);
        rest = rest.get(length..).unwrap_or_default();
        Some(atom)
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_be_bytes)
}

impl<'a> Atom<'a> {
    /// The box at the start of `bytes`; `None` if its length is impossible, or reaches to the end of the file.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let kind = *bytes.get(4..)?.first_chunk()?;
        let (header, length) = match number(bytes, 0)? {
            // A longer length follows the type.
            1 => (
                16,
                u64::from(number(bytes, 8)?) << 32 | u64::from(number(bytes, 12)?),
            ),
            length => (8, u64::from(length)),
        };
        if length < header {
            return None;
        }
        let end = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let body = bytes.get(usize::try_from(header).ok()?..end)?;
        Some(Self { kind, body, length })
    }
}

#[cfg(test)]
pub(in crate::comfy) mod tests;
