use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::recording::Recording;

/// Reads the recordings in the folders and their subfolders, sorted by the time of recording.
///
/// # Errors
///
/// If a folder cannot be listed or holds no recording, or if a recording cannot be read.
pub fn read_recordings(dirs: &[PathBuf]) -> anyhow::Result<Vec<Recording>> {
    let mut found = Vec::new();
    for dir in dirs {
        let before = found.len();
        find(dir, &mut found).with_context(|| format!("cannot list {}", dir.display()))?;
        anyhow::ensure!(
            found.len() > before,
            "{} holds no recording: a recording is a folder with meta.json, ws.jsonl and http.jsonl",
            dir.display()
        );
    }
    found.sort();
    found.dedup();
    let recordings = found.iter().map(|dir| Recording::read(dir));
    let mut recordings = recordings.collect::<Result<Vec<_>, _>>()?;
    recordings.sort_by(|a, b| {
        let key = |recording: &Recording| {
            let meta = &recording.meta;
            let at: Option<jiff::Timestamp> = meta.recorded_at.parse().ok();
            (at, meta.scenario.clone())
        };
        key(a).cmp(&key(b))
    });
    Ok(recordings)
}

fn find(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if dir.join("meta.json").is_file() {
        found.push(dir.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        }
    }
    Ok(())
}
