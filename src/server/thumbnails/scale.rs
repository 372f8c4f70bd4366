use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::cache::Thumbnail;

/// The most pixels of a picture that is scaled.
const MAX_PIXELS: u64 = 100_000_000;

/// The most memory for decoding one picture, in bytes.
const MAX_MEMORY: u64 = 512 << 20;

/// Of 100.
const JPEG_QUALITY: u8 = 82;

/// Why there is no thumbnail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum ThumbnailError {
    /// It is no picture of a kind that is read, or a broken one.
    #[error("there are thumbnails of PNG, JPEG, WebP and GIF pictures only")]
    Unreadable,
    /// It would take too much memory.
    #[error("the picture is too large for a thumbnail")]
    TooLarge,
}

/// A picture that is no wider than was asked for.
#[derive(Debug)]
pub(super) struct ScaledPicture {
    pub(super) thumbnail: Thumbnail,
    /// It was scaled, and is not the file itself.
    pub(super) is_smaller: bool,
}

/// A picture scaled to a width, or as it is if it is not wider. An opaque one is a JPEG, one with transparency a PNG.
/// Blocks.
pub(super) fn scale(file: &Bytes, width: u32) -> Result<ScaledPicture, ThumbnailError> {
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|_| ThumbnailError::Unreadable)?;
    let format = reader.format().ok_or(ThumbnailError::Unreadable)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(reason)?;
    let (wide, high) = decoder.dimensions();
    if u64::from(wide) * u64::from(high) > MAX_PIXELS || decoder.total_bytes() > MAX_MEMORY {
        return Err(ThumbnailError::TooLarge);
    }
    let orientation = decoder.orientation().map_err(reason)?;
    let is_turned = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    if (if is_turned { high } else { wide }) <= width {
        let thumbnail = Thumbnail {
            bytes: file.clone(),
            media_type: format.to_mime_type(),
        };
        return Ok(ScaledPicture {
            thumbnail,
            is_smaller: false,
        });
    }
    let mut picture = DynamicImage::from_decoder(decoder).map_err(reason)?;
    picture.apply_orientation(orientation);
    Ok(ScaledPicture {
        thumbnail: encode(&picture.thumbnail(width, u32::MAX)).map_err(reason)?,
        is_smaller: true,
    })
}

fn reason(error: ImageError) -> ThumbnailError {
    match error {
        ImageError::Limits(_) => ThumbnailError::TooLarge,
        _ => ThumbnailError::Unreadable,
    }
}

fn encode(picture: &DynamicImage) -> image::ImageResult<Thumbnail> {
    let mut bytes = Vec::new();
    let is_opaque = !picture.color().has_alpha()
        || picture
            .to_rgba8()
            .pixels()
            .all(|pixel| pixel.0[3] == u8::MAX);
    let media_type = if is_opaque {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        picture.to_rgb8().write_with_encoder(encoder)?;
        "image/jpeg"
    } else {
        let picture = picture.to_rgba8();
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
        "image/png"
    };
    Ok(Thumbnail {
        bytes: bytes.into(),
        media_type,
    })
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn png(picture: &DynamicImage) -> Bytes {
        let mut bytes = Vec::new();
        picture
            .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
            .unwrap();
        bytes.into()
    }

    fn size(thumbnail: &Thumbnail) -> (u32, u32) {
        let picture = image::load_from_memory(&thumbnail.bytes).unwrap();
        (picture.width(), picture.height())
    }

    #[test]
    fn a_picture_becomes_smaller_and_never_larger() {
        let opaque = png(&RgbImage::from_pixel(640, 360, Rgb([200, 10, 10])).into());
        let small = scale(&opaque, 320).unwrap().thumbnail;
        assert_eq!((size(&small), small.media_type), ((320, 180), "image/jpeg"));
        let same = scale(&opaque, 640).unwrap();
        assert!(!same.is_smaller);
        let same = same.thumbnail;
        assert_eq!((&same.bytes, same.media_type), (&opaque, "image/png"));
        let mut clear = RgbaImage::from_pixel(100, 3, Rgba([1, 2, 3, 255]));
        let narrow = scale(&png(&clear.clone().into()), 1).unwrap().thumbnail;
        assert_eq!((size(&narrow), narrow.media_type), ((1, 1), "image/jpeg"));
        clear.put_pixel(0, 0, Rgba([1, 2, 3, 0]));
        let small = scale(&png(&clear.into()), 50).unwrap().thumbnail;
        assert_eq!(small.media_type, "image/png");
    }

    #[test]
    fn what_is_no_picture_or_a_huge_one_is_refused() {
        for file in [&b""[..], b"text", b"\x89PNG\r\n\x1a\n broken"] {
            let refused = scale(&Bytes::from_static(file), 320);
            assert_eq!(refused.unwrap_err(), ThumbnailError::Unreadable);
        }
        // Only its head says how large it is.
        let mut huge = png(&RgbImage::new(1, 1).into()).to_vec();
        huge[16..20].copy_from_slice(&30_000_u32.to_be_bytes());
        huge[20..24].copy_from_slice(&30_000_u32.to_be_bytes());
        let sum = crc(&huge[12..29]);
        huge[29..33].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(
            scale(&huge.into(), 320).unwrap_err(),
            ThumbnailError::TooLarge
        );
    }

    /// The checksum of a PNG chunk.
    fn crc(chunk: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(chunk);
        crc.sum()
    }
}
