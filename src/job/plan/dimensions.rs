use super::graph::MAX_FEATURE;

/// The size and number of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dimensions {
    /// In pixels.
    pub(super) width: f64,
    /// In pixels.
    pub(super) height: f64,
    pub(super) images: f64,
}

impl Dimensions {
    /// The pixels of all images.
    pub(super) fn pixels(self) -> f64 {
        (self.area() * self.images).min(MAX_FEATURE)
    }

    /// The pixels of one image.
    pub(super) fn area(self) -> f64 {
        self.width * self.height
    }

    /// Of the same number of images, `by` times as wide and as high.
    pub(super) fn scaled(self, by: f64) -> Self {
        Self {
            width: self.width * by,
            height: self.height * by,
            ..self
        }
    }

    /// With sides and a number that sums can be made of.
    pub(super) fn limited(self) -> Self {
        let side = MAX_FEATURE.sqrt();
        Self {
            width: self.width.min(side),
            height: self.height.min(side),
            images: self.images.min(MAX_FEATURE),
        }
    }
}
