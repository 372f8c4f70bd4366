//! [`solid_png`]: a picture of a size, in few bytes.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// What a PNG file begins with.
const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// One bit a pixel, an index into a palette; neither other filters than the five of PNG nor interlacing.
const ONE_BIT_OF_A_PALETTE: [u8; 5] = [1, 3, 0, 0, 0];

/// The only colour: red, green and blue.
const COLOUR: [u8; 3] = [0x60, 0x90, 0xc0];

/// A PNG of one colour, with this width and height in pixels and so many frames, none of which may be 0. With more than
/// one frame it is an animated PNG.
pub(super) fn solid_png(width: u32, height: u32, frames: u32) -> io::Result<Bytes> {
    let mut header = Vec::from(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend(ONE_BIT_OF_A_PALETTE);
    let mut png = Vec::from(SIGNATURE);
    chunk(&mut png, *b"IHDR", &header);
    chunk(&mut png, *b"PLTE", &COLOUR);
    if frames > 1 {
        // It plays for ever: 0 is no limit.
        let animation = [frames.to_be_bytes(), [0; 4]].concat();
        chunk(&mut png, *b"acTL", &animation);
        chunk(&mut png, *b"fcTL", &frame_control(0, width, height));
    }
    chunk(&mut png, *b"IDAT", &pixels(width, height)?);
    // All further frames repeat one pixel of the first.
    let pixel = pixels(1, 1)?;
    for frame in 1..frames {
        let number = 2 * frame - 1;
        chunk(&mut png, *b"fcTL", &frame_control(number, 1, 1));
        let data = [&(number + 1).to_be_bytes(), pixel.as_slice()].concat();
        chunk(&mut png, *b"fdAT", &data);
    }
    chunk(&mut png, *b"IEND", &[]);
    Ok(png.into())
}

/// The compressed rows of a picture. A row is a byte that names its filter (0, none) and its pixels, all with the first
/// colour of the palette.
fn pixels(width: u32, height: u32) -> io::Result<Vec<u8>> {
    let row = vec![0; 1 + width.div_ceil(8) as usize];
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..height {
        rows.write_all(&row)?;
    }
    rows.finish()
}

/// What comes before each frame: its place in the sequence of these and of `fdAT`, its size, its offset from the top left
/// corner, how long it is shown (1/25 s), and that it stays and is drawn over the one before.
fn frame_control(number: u32, width: u32, height: u32) -> Vec<u8> {
    let numbers = [number, width, height, 0, 0].map(u32::to_be_bytes);
    [numbers.as_flattened(), &[0, 1, 0, 25, 0, 0]].concat()
}

/// Appends a chunk: its length, its kind, its data, and the checksum of kind and data.
fn chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    let mut checksum = Crc::new();
    checksum.update(&kind);
    checksum.update(data);
    png.extend((data.len() as u32).to_be_bytes());
    png.extend(kind);
    png.extend(data);
    png.extend(checksum.sum().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::ZlibDecoder;

    use super::*;

    /// The chunks of a file: their kinds, data and checksums.
    fn chunks(png: &[u8]) -> Vec<(&[u8], &[u8], &[u8])> {
        let mut rest = png.strip_prefix(&SIGNATURE).unwrap();
        let mut chunks = Vec::new();
        while let Some((length, more)) = rest.split_first_chunk() {
            let (data, more) = more.split_at(4 + u32::from_be_bytes(*length) as usize);
            let (checksum, more) = more.split_at(4);
            let (kind, data) = data.split_at(4);
            chunks.push((kind, data, checksum));
            rest = more;
        }
        chunks
    }

    #[test]
    fn a_picture_holds_a_bit_for_each_pixel() {
        for (width, height, row) in [(1, 1, 2), (8, 3, 2), (9, 3, 3), (3840, 2160, 481)] {
            let png = solid_png(width, height, 1).unwrap();
            let chunks = chunks(&png);
            let kinds: Vec<&[u8]> = chunks.iter().map(|(kind, ..)| *kind).collect();
            assert_eq!(kinds, [b"IHDR", b"PLTE", b"IDAT", b"IEND"]);
            let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
            assert_eq!(chunks[0].1[..8], size);
            assert_eq!(chunks[0].1[8..], [1, 3, 0, 0, 0]);
            let mut pixels = Vec::new();
            ZlibDecoder::new(chunks[2].1)
                .read_to_end(&mut pixels)
                .unwrap();
            assert_eq!(pixels, vec![0; row * height as usize]);
            // The checksum of an empty last chunk, as in every PNG.
            assert_eq!(chunks[3].2, [0xae, 0x42, 0x60, 0x82]);
        }
    }

    #[test]
    fn an_animation_numbers_its_frames() {
        let png = solid_png(16, 8, 3).unwrap();
        let chunks = chunks(&png);
        let kinds: Vec<&[u8]> = chunks.iter().map(|(kind, ..)| *kind).collect();
        let frame: [&[u8]; 2] = [b"fcTL", b"fdAT"];
        let start: [&[u8]; 5] = [b"IHDR", b"PLTE", b"acTL", b"fcTL", b"IDAT"];
        let end: [&[u8]; 1] = [b"IEND"];
        assert_eq!(kinds, [&start, &frame[..], &frame[..], &end].concat());
        assert_eq!(chunks[2].1, [0, 0, 0, 3, 0, 0, 0, 0]);
        let numbered = chunks.iter();
        let numbered = numbered.filter(|(kind, ..)| frame.contains(kind));
        let numbers: Vec<u8> = numbered.map(|(_, data, _)| data[3]).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert_eq!(chunks[3].1.len(), 26);
    }
}
