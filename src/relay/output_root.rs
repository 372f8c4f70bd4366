//! Where the files that ComfyUI makes are for the pipeline.

use std::path::{Component, Path, PathBuf};

use crate::job::{Job, Progress};

/// ComfyUI's output folder as the pipeline sees it; `None` if that is not known.
#[derive(Debug)]
pub(super) struct OutputRoot(Option<PathBuf>);

impl OutputRoot {
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Self(root)
    }

    /// Makes the output path of a job on ComfyUI one that can be opened. A producer's own paths stay.
    pub(super) fn place(&self, job: &Job, progress: &mut Progress) {
        if let (Some(root), Some(path), Some(_)) = (&self.0, &progress.output_path, job.prompt_id())
            && let Some(placed) = below(root, path)
        {
            progress.output_path = Some(placed);
        }
    }
}

/// A path below a folder; `None` if it would lead out of it.
fn below(root: &Path, path: &str) -> Option<String> {
    // ComfyUI on Windows separates folders with backslashes.
    let path = path.replace('\\', "/");
    let mut components = Path::new(&path).components();
    let stays = components.all(|it| matches!(it, Component::Normal(_) | Component::CurDir));
    stays.then(|| root.join(&path).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_root() {
        for (path, placed) in [
            ("x.png", Some("/mnt/output/x.png")),
            ("shot/x.png", Some("/mnt/output/shot/x.png")),
            ("shot\\take\\x.png", Some("/mnt/output/shot/take/x.png")),
            ("../x.png", None),
            ("shot/../../x.png", None),
            ("/etc/passwd", None),
        ] {
            let found = below(Path::new("/mnt/output"), path);
            assert_eq!(found.as_deref(), placed, "{path}");
        }
    }
}
