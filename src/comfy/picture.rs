//! Pictures that ComfyUI loads, by their first bytes.

use imagesize::ImageType;

/// A picture that ComfyUI loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// How the name of such a file ends, without a dot.
    pub extension: &'static str,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
}

impl Picture {
    /// The picture in a file; `None` if it is none that every ComfyUI loads.
    pub fn of(file: &[u8]) -> Option<Self> {
        let extension = match imagesize::image_type(file).ok()? {
            ImageType::Bmp => "bmp",
            ImageType::Gif => "gif",
            ImageType::Jpeg => "jpg",
            ImageType::Png => "png",
            ImageType::Tiff => "tiff",
            ImageType::Webp => "webp",
            _ => return None,
        };
        let size = imagesize::blob_size(file).ok()?;
        (size.width > 0 && size.height > 0).then_some(Self {
            extension,
            width: size.width,
            height: size.height,
        })
    }
}
