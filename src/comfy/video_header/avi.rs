//! AVI files (Microsoft's "AVI RIFF File Reference", and OpenDML for long ones).

use crate::job::ImageSize;

/// The length of a chunk's head: its type, and the length of its body.
const HEAD: usize = 8;

/// A chunk, as far as it is there.
struct Chunk<'a> {
    kind: [u8; 4],
    body: &'a [u8],
}

/// Whether a file that begins with `head` is one.
pub(super) fn is_video(head: &[u8]) -> bool {
    head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ")
}

/// The size of the video, from the head of its file.
pub(super) fn size(head: &[u8]) -> Option<ImageSize> {
    let lists = || chunks(head.get(12..).unwrap_or_default());
    let description = lists().find_map(|chunk| chunk.list(b"hdrl"))?;
    let main = chunks(description).find(|chunk| &chunk.kind == b"avih")?;
    // The main header counts the frames in the first gigabyte only.
    let whole = chunks(description)
        .find_map(|chunk| chunk.list(b"odml"))
        .and_then(|list| chunks(list).find(|chunk| &chunk.kind == b"dmlh"))
        .and_then(|chunk| number(chunk.body, 0));
    let microseconds = u64::from(number(main.body, 0)?);
    let frames = whole
        .filter(|frames| *frames > 0)
        .or_else(|| number(main.body, 16))?;
    let (width, height) = (number(main.body, 32)?, number(main.body, 36)?);
    let milliseconds = u64::from(frames).saturating_mul(microseconds) / 1_000;
    (width > 0 && height > 0 && frames > 0).then_some(ImageSize {
        width,
        height,
        frames,
        milliseconds: u32::try_from(milliseconds).unwrap_or(0),
    })
}

fn chunks(mut rest: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || {
        let kind = *rest.first_chunk()?;
        let length = usize::try_from(number(rest, 4)?).ok()?;
        let behind = rest.get(HEAD..)?;
        let body = behind.get(..length).unwrap_or(behind);
        // Chunks begin at even offsets.
        let next = length.checked_add(length % 2)?;
        rest = behind.get(next..).unwrap_or_default();
        Some(Chunk { kind, body })
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

impl<'a> Chunk<'a> {
    /// The chunks in it, if it is a list of this type.
    fn list(&self, kind: &[u8; 4]) -> Option<&'a [u8]> {
        (&self.kind == b"LIST" && self.body.starts_with(kind)).then(|| &self.body[4..])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        let pad = &[0_u8][..body.len() % 2];
        [&kind[..], &length, body, pad].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn list(kind: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
        chunk(b"LIST", &[kind.to_vec(), chunks.concat()].concat())
    }

    /// A video of 640 by 360 pixels, 120 frames in its first gigabyte.
    fn video(further: &[Vec<u8>]) -> Vec<u8> {
        let main = words(&[41_667, 0, 0, 0, 120, 0, 1, 0, 640, 360, 0, 0, 0, 0]);
        let mut description = vec![chunk(b"avih", &main), list(b"strl", &[])];
        description.extend_from_slice(further);
        let body = [
            b"AVI ".to_vec(),
            chunk(b"JUNK", b"odd"),
            list(b"hdrl", &description),
            list(b"movi", &[vec![7; 1_000]]),
        ];
        chunk(b"RIFF", &body.concat())
    }

    #[test]
    fn a_video_shows_its_size_and_its_frames() {
        let size_of = |frames, milliseconds| ImageSize {
            width: 640,
            height: 360,
            frames,
            milliseconds,
        };
        let short = video(&[]);
        assert!(is_video(&short));
        assert_eq!(size(&short), Some(size_of(120, 5_000)));
        assert_eq!(size(&short[..200]), Some(size_of(120, 5_000)));
        let long = video(&[list(b"odml", &[chunk(b"dmlh", &words(&[24_000]))])]);
        assert_eq!(size(&long), Some(size_of(24_000, 1_000_008)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            keep in 0..200_usize, flips in prop::collection::vec((0..200_usize, any::<u8>()), 0..8),
        ) {
            let mut bytes = video(&[]);
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
