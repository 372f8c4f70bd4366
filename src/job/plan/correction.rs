//! What the images that a job has saved show of the sizes in its plan.

use std::collections::HashMap;
use std::sync::Arc;

use super::dimensions::Dimensions;
use super::image::{ImageFile, ImageSize};

/// Sides that differ by no more than this share count as equal: a graph does not show how sizes are rounded.
const ROUNDING: f64 = 0.02;

/// Nor do sides that differ by no more than this, in pixels: latents have multiples of 8 or 16.
const ROUNDING_PIXELS: f64 = 16.0;

/// Identifies a node by everything that the size of its images depends on: its class, its inputs, and the sizes
/// of the images that it takes. The same node in another graph has the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SizeKey(pub(super) u64);

/// What was observed of the images that leave a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ObservedSize {
    /// Their size, and in `frames` their number.
    Images(ImageSize),
    /// How many times as wide and as high as those that it takes they are.
    Factor(f64),
}

/// The sizes that were observed of nodes.
pub type ObservedSizes = HashMap<SizeKey, ObservedSize>;

/// The sizes that are known beside those in a graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageSizes {
    files: HashMap<ImageFile, ImageSize>,
    observed: Arc<ObservedSizes>,
}

/// What is wrong if images turn out to have another size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SizeCause {
    /// Nothing that can be corrected: the graph sets the size.
    Graph,
    /// The size of a file: it was written again.
    File,
    /// The images that leave a node.
    Node(SizeKey),
    /// How many times as wide and as high as these images a node makes them.
    Factor(SizeKey, Dimensions),
}

/// The images that a node saves, as planned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SavedImages {
    planned: Option<Dimensions>,
    cause: SizeCause,
}

/// What a file that a node has saved shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SizeFinding {
    /// Nothing new.
    AsPlanned,
    /// A file that the graph loads has another size than it had.
    FileChanged,
    /// The size of the images that leave a node.
    Observed(SizeKey, ObservedSize),
}

impl ImageSizes {
    /// The same, and what was observed of nodes.
    pub fn with_observed(self, observed: Arc<ObservedSizes>) -> Self {
        Self { observed, ..self }
    }

    /// The same without what was observed of nodes.
    pub(super) fn without_observed(&self) -> Self {
        Self {
            files: self.files.clone(),
            observed: Arc::default(),
        }
    }

    /// Whether the size of no file is known.
    pub fn has_no_files(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn of_file(&self, file: &ImageFile) -> Option<ImageSize> {
        self.files.get(file).copied()
    }

    pub(super) fn of_node(&self, key: SizeKey) -> Option<ObservedSize> {
        self.observed.get(&key).copied()
    }
}

impl FromIterator<(ImageFile, ImageSize)> for ImageSizes {
    fn from_iter<I: IntoIterator<Item = (ImageFile, ImageSize)>>(files: I) -> Self {
        Self {
            files: files.into_iter().collect(),
            observed: Arc::default(),
        }
    }
}

impl SavedImages {
    /// The images that enter a node that saves them; `None` if nothing can be learned from the files.
    pub(super) fn of(planned: Option<Dimensions>, cause: SizeCause) -> Option<Self> {
        (cause != SizeCause::Graph).then_some(Self { planned, cause })
    }

    /// The key of the node of which a file shows the size; `None` if it shows only whether a file has changed.
    pub fn key(&self) -> Option<SizeKey> {
        match self.cause {
            SizeCause::Node(key) | SizeCause::Factor(key, _) => Some(key),
            SizeCause::Graph | SizeCause::File => None,
        }
    }

    /// What it shows that the node has saved so many files, the first of this size.
    pub fn compare(&self, first: ImageSize, files: usize) -> SizeFinding {
        let (width, height) = (f64::from(first.width), f64::from(first.height));
        match self.cause {
            SizeCause::Graph => SizeFinding::AsPlanned,
            SizeCause::File => {
                let is_planned = self.planned.is_none_or(|planned| {
                    // A camera may have held the picture upright.
                    is_about(planned, width, height) || is_about(planned, height, width)
                });
                if is_planned {
                    SizeFinding::AsPlanned
                } else {
                    SizeFinding::FileChanged
                }
            }
            SizeCause::Node(key) => {
                let planned = self.planned.map(|planned| planned.images as u32);
                // The head of an animation need not show how many frames it has.
                let frames = match (files, first.frames, planned) {
                    (1, 1, Some(planned)) => planned,
                    (1, frames, _) => frames,
                    (files, ..) => u32::try_from(files).unwrap_or(u32::MAX),
                };
                let observed = ObservedSize::Images(ImageSize { frames, ..first });
                SizeFinding::Observed(key, observed)
            }
            SizeCause::Factor(key, incoming) => {
                let factor = width / incoming.width;
                if is_about(incoming.scaled(factor), width, height) {
                    SizeFinding::Observed(key, ObservedSize::Factor(factor))
                } else {
                    SizeFinding::AsPlanned
                }
            }
        }
    }
}

fn is_about(planned: Dimensions, width: f64, height: f64) -> bool {
    let is_about = |planned: f64, found: f64| {
        (planned - found).abs() <= (ROUNDING * planned).max(ROUNDING_PIXELS)
    };
    is_about(planned.width, width) && is_about(planned.height, height)
}

impl ObservedSize {
    /// The images that leave a node: `incoming` are those that it takes.
    pub(super) fn dimensions(self, incoming: Option<Dimensions>) -> Option<Dimensions> {
        match self {
            Self::Images(size) => Some(Dimensions {
                width: f64::from(size.width),
                height: f64::from(size.height),
                images: f64::from(size.frames),
            }),
            Self::Factor(factor) => Some(incoming?.scaled(factor).limited()),
        }
    }
}

#[cfg(test)]
mod tests;
