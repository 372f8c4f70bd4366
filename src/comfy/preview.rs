//! Preview images in binary frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;

/// A preview image as ComfyUI made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewImage {
    /// The prompt; `None` in frames without metadata (binary type 1).
    pub prompt_id: Option<String>,
    /// The display node that made it; `None` in frames without metadata.
    pub node: Option<String>,
    /// `image/jpeg` or `image/png`.
    pub mime: &'static str,
    /// The image's bytes.
    pub image: Bytes,
}

/// The JSON in front of the image in a frame of type 4.
#[derive(Deserialize)]
struct PreviewMetadata {
    prompt_id: Option<String>,
    node_id: Option<String>,
    display_node_id: Option<String>,
    #[serde(default)]
    image_type: String,
}

const PREVIEW_IMAGE: u32 = 1;
const PREVIEW_IMAGE_WITH_METADATA: u32 = 4;
const FORMAT_JPEG: u32 = 1;
const FORMAT_PNG: u32 = 2;

impl PreviewImage {
    /// Reads a binary frame: a big-endian type of 4 bytes, then the data of that type.
    ///
    /// Returns `None` for a frame without an image, and for one that is cut short.
    pub fn parse(mut frame: Bytes) -> Option<Self> {
        match frame.try_get_u32().ok()? {
            PREVIEW_IMAGE => {
                let mime = match frame.try_get_u32().ok()? {
                    FORMAT_PNG => "image/png",
                    _ => "image/jpeg",
                };
                Some(Self {
                    prompt_id: None,
                    node: None,
                    mime,
                    image: frame,
                })
            }
            PREVIEW_IMAGE_WITH_METADATA => {
                let length = usize::try_from(frame.try_get_u32().ok()?).ok()?;
                if frame.len() < length {
                    return None;
                }
                let metadata: PreviewMetadata =
                    serde_json::from_slice(&frame.split_to(length)).ok()?;
                Some(Self {
                    prompt_id: metadata.prompt_id,
                    node: metadata.display_node_id.or(metadata.node_id),
                    mime: match metadata.image_type.as_str() {
                        "image/png" => "image/png",
                        _ => "image/jpeg",
                    },
                    image: frame,
                })
            }
            _ => None,
        }
    }
}

/// A preview for a client that does not read metadata: the same image in a frame of type 1. Any other frame stays as it is.
pub fn plain_preview(frame: Bytes) -> Bytes {
    let kind = PREVIEW_IMAGE_WITH_METADATA.to_be_bytes();
    let rich = frame.starts_with(&kind).then(|| frame.clone());
    let Some(preview) = rich.and_then(PreviewImage::parse) else {
        return frame;
    };
    let format = match preview.mime {
        "image/png" => FORMAT_PNG,
        _ => FORMAT_JPEG,
    };
    let mut plain = BytesMut::with_capacity(2 * size_of::<u32>() + preview.image.len());
    plain.put_u32(PREVIEW_IMAGE);
    plain.put_u32(format);
    plain.put_slice(&preview.image);
    plain.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_kinds_of_image_are_read() {
        let plain = PreviewImage::parse(Bytes::from_static(b"\0\0\0\x01\0\0\0\x02png")).unwrap();
        assert_eq!((plain.mime, &plain.image[..]), ("image/png", &b"png"[..]));
        let json = br#"{"prompt_id":"p","node_id":"3","image_type":"image/jpeg"}"#;
        let mut frame = vec![0, 0, 0, 4, 0, 0, 0, json.len() as u8];
        frame.extend_from_slice(json);
        frame.extend_from_slice(b"jpg");
        let rich = PreviewImage::parse(frame.into()).unwrap();
        assert_eq!(rich.prompt_id.as_deref(), Some("p"));
        assert_eq!(rich.node.as_deref(), Some("3"));
        assert_eq!(&rich.image[..], b"jpg");
    }

    #[test]
    fn a_preview_without_metadata_has_the_same_image() {
        let json = br#"{"image_type":"image/png"}"#;
        let mut rich = vec![0, 0, 0, 4, 0, 0, 0, json.len() as u8];
        rich.extend_from_slice(json);
        rich.extend_from_slice(b"png");
        let plain = plain_preview(rich.into());
        assert_eq!(&plain[..], b"\0\0\0\x01\0\0\0\x02png");
        assert_eq!(plain_preview(plain.clone()), plain);
        let text = Bytes::from_static(b"\0\0\0\x03\0\0\0\x01atext");
        assert_eq!(plain_preview(text.clone()), text);
    }

    #[test]
    fn a_frame_that_is_cut_short_has_no_image() {
        assert_eq!(
            PreviewImage::parse(Bytes::from_static(b"\0\0\0\x04\0\0\xff\xff{}")),
            None
        );
        assert_eq!(PreviewImage::parse(Bytes::from_static(b"\0\0\0\x01")), None);
        assert_eq!(
            PreviewImage::parse(Bytes::from_static(b"\0\0\0\x03\0\0\0\x01atext")),
            None
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
            let mut frame = vec![0, 0, 0, kind];
            frame.extend(bytes);
            PreviewImage::parse(frame.into());
        }
    }
}
