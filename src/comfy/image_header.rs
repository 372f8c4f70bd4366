//! The size of an image, from the first bytes of its file.

use crate::job::ImageSize;

/// The first bytes of a PNG file.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The frames that the head of a file shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frames {
    /// All that there are.
    All(u32),
    /// Those that begin in the head.
    Begun(u32),
}

/// The size of the image in a file that begins with `head` and has `whole` bytes; `None` if the head does not show
/// it, as for videos. It does not matter here whether a camera held the picture upright: its area is the same.
///
/// ComfyUI loads every frame of an animated image. If not all of them begin in `head`, the others are taken to be
/// as long; if it is not known how long the file is, there is one.
pub(super) fn read(head: &[u8], whole: Option<u64>) -> Option<ImageSize> {
    let size = imagesize::blob_size(head).ok()?;
    let side = |pixels: usize| u32::try_from(pixels).ok().filter(|pixels| *pixels > 0);
    let frames = match (frames(head), whole) {
        (Some(Frames::All(frames)), _) => frames,
        // Of the last one only a part is in the head.
        (Some(Frames::Begun(frames @ 2..)), Some(whole)) => {
            let frames = f64::from(frames) - 0.5;
            (frames * whole as f64 / head.len() as f64).round() as u32
        }
        _ => 1,
    };
    Some(ImageSize {
        width: side(size.width)?,
        height: side(size.height)?,
        frames: frames.max(1),
        milliseconds: 0,
    })
}

fn frames(head: &[u8]) -> Option<Frames> {
    match head {
        _ if head.starts_with(PNG) => png_frames(head).map(Frames::All),
        [b'G', b'I', b'F', b'8', ..] => Some(gif_frames(head)),
        _ if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") => webp_frames(head),
        _ => None,
    }
}

/// The number in the chunk `acTL`, which comes before the first image.
///
/// A chunk is its length, its type, its data, and four bytes of checksum.
fn png_frames(head: &[u8]) -> Option<u32> {
    let mut rest = head.get(PNG.len()..)?;
    loop {
        let length = number(rest, u32::from_be_bytes)?;
        match rest.get(4..8)? {
            b"acTL" => return number(rest.get(8..)?, u32::from_be_bytes),
            b"IDAT" => return None,
            _ => rest = rest.get(usize::try_from(length).ok()?.checked_add(12)?..)?,
        }
    }
}

/// The images up to the trailer, or to the end of the head.
fn gif_frames(head: &[u8]) -> Frames {
    const SCREEN: usize = 13;
    const DESCRIPTOR: usize = 10;
    let colours_at = |bytes: &[u8], at: usize| bytes.get(at).map_or(0, |flags| colours(*flags));
    let mut rest = head
        .get(SCREEN + colours_at(head, 10)..)
        .unwrap_or_default();
    let mut frames = 0;
    loop {
        let next = match rest {
            [0x3b, ..] => return Frames::All(frames),
            [0x21, _, blocks @ ..] => after_blocks(blocks),
            [0x2c, ..] => {
                frames += 1;
                // One byte before the blocks is the size of a code.
                let image = DESCRIPTOR + colours_at(rest, 9);
                rest.get(image + 1..).and_then(after_blocks)
            }
            _ => None,
        };
        match next {
            Some(next) => rest = next,
            None => return Frames::Begun(frames),
        }
    }
}

/// The bytes of a colour table, from the flags that announce it.
fn colours(flags: u8) -> usize {
    if flags & 0x80 == 0 {
        return 0;
    }
    3 << ((flags & 7) + 1)
}

/// What follows a GIF's list of blocks, each a length and so many bytes; the last one has the length 0.
fn after_blocks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, blocks) = rest.split_first()?;
        if *length == 0 {
            return Some(blocks);
        }
        rest = blocks.get(usize::from(*length)..)?;
    }
}

/// The chunks `ANMF` up to the end of the file, or of the head.
///
/// A chunk is its type, its length, and its data, padded to an even length.
fn webp_frames(head: &[u8]) -> Option<Frames> {
    let length = usize::try_from(number(head.get(4..)?, u32::from_le_bytes)?).ok()?;
    let end = length.checked_add(8)?;
    let mut rest = head.get(12..end.min(head.len()))?;
    let mut frames = 0;
    while let Some(kind) = rest.get(..4) {
        frames += u32::from(kind == b"ANMF");
        let length = rest
            .get(4..)
            .and_then(|rest| number(rest, u32::from_le_bytes));
        let padded =
            length.and_then(|length| usize::try_from(length).ok()?.checked_next_multiple_of(2));
        rest = padded
            .and_then(|padded| rest.get(padded.checked_add(8)?..))
            .unwrap_or_default();
    }
    if end <= head.len() {
        Some(Frames::All(frames))
    } else {
        Some(Frames::Begun(frames))
    }
}

/// The number at the start of `bytes`.
fn number(bytes: &[u8], read: fn([u8; 4]) -> u32) -> Option<u32> {
    bytes.first_chunk().copied().map(read)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &[u8]) -> Option<ImageSize> {
        super::read(head, None)
    }

    fn size(width: u32, height: u32, frames: u32) -> Option<ImageSize> {
        Some(ImageSize {
            width,
            height,
            frames,
            milliseconds: 0,
        })
    }

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length, &kind[..], data, &[0; 4]].concat()
    }

    fn png(after_header: &[u8]) -> Vec<u8> {
        let header = chunk(b"IHDR", &[0, 0, 2, 128, 0, 0, 1, 144, 8, 2, 0, 0, 0]);
        [PNG, &header, after_header].concat()
    }

    /// A GIF of 3 by 2 pixels, with as many images, and a colour table of two colours.
    fn gif(frames: usize) -> Vec<u8> {
        let screen = b"GIF89a\x03\0\x02\0\x80\0\0\0\0\0\xff\xff\xff";
        let repeats = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0";
        let image = b"\x2c\0\0\0\0\x03\0\x02\0\0\x02\x03\x44\x02\x05\0";
        [&screen[..], repeats, &image.repeat(frames), b"\x3b"].concat()
    }

    /// An animated WebP of 256 by 512 pixels.
    fn webp(frames: usize) -> Vec<u8> {
        let canvas = b"VP8X\x0a\0\0\0\x02\0\0\0\xff\0\0\xff\x01\0";
        let body = [&canvas[..], &b"ANMF\x03\0\0\0abc\0".repeat(frames)].concat();
        let length = u32::try_from(body.len() + 4).unwrap().to_le_bytes();
        [b"RIFF", &length[..], b"WEBP", &body].concat()
    }

    #[test]
    fn the_size_of_an_image_is_in_its_head() {
        assert_eq!(read(&png(&chunk(b"IDAT", &[]))), size(640, 400, 1));
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08\x01\x90\x02\x80\x03\x01\x22\0";
        assert_eq!(read(jpeg), size(640, 400, 1));
    }

    #[test]
    fn the_frames_of_an_animation_count_if_the_head_shows_them() {
        let control = chunk(b"acTL", &[0, 0, 0, 5, 0, 0, 0, 0]);
        assert_eq!(read(&png(&control)), size(640, 400, 5));
        assert_eq!(read(&gif(4)), size(3, 2, 4));
        assert_eq!(read(&webp(3)), size(256, 512, 3));
    }

    #[test]
    fn the_frames_behind_the_head_are_taken_to_be_as_long() {
        for (file, size) in [(gif(40), size(3, 2, 40)), (webp(40), size(256, 512, 40))] {
            let head = &file[..file.len() / 3];
            let whole = Some(file.len() as u64);
            let (found, size) = (super::read(head, whole).unwrap(), size.unwrap());
            assert!((34..=46).contains(&found.frames), "{found:?}");
            assert_eq!((found.width, found.height), (size.width, size.height));
            assert_eq!(
                read(head).unwrap().frames,
                1,
                "it is not known how long the file is"
            );
        }
    }

    #[test]
    fn a_file_without_a_size_has_none() {
        let video = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x08free\0\0\0\x10mdat12345678";
        for head in [
            &b""[..],
            b"GIF8",
            b"<html><body>not found</body></html>",
            video,
        ] {
            assert_eq!(read(head), None);
        }
        assert_eq!(read(b"GIF89a\0\0\0\0\0\0\0\x3b"), None, "an empty image");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            start in prop::sample::select(vec![png(&[]), gif(2), webp(2), b"\xff\xd8\xff".to_vec(),
                b"II*\0".to_vec(), b"MM\0*".to_vec(), b"\0\0\0\x10ftypheic".to_vec(), Vec::new()]),
            keep in 0..60_usize,
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let kept = start.len().min(keep.max(12));
            let _ = super::read(&[&start[..kept], &bytes].concat(), Some(1 << 40));
        }
    }
}
