//! Every recording that comes with the program can be read and written.

mod damage;

use std::path::{Path, PathBuf};

use super::{Exchange, RecordedFrame, Recording, RecordingError};
pub(crate) use damage::for_damaged;

/// The folder of the recordings that come with the program.
pub(crate) const FIXTURES: &str = "fixtures";

/// The folders of all recordings.
pub(crate) fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for version in Path::new(FIXTURES).read_dir().unwrap().flatten() {
        if version.path().is_dir() {
            folders.extend(
                version
                    .path()
                    .read_dir()
                    .unwrap()
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir()),
            );
        }
    }
    folders.sort();
    assert!(
        folders.len() >= 100,
        "only {} recordings in {FIXTURES}",
        folders.len()
    );
    folders
}

#[test]
fn every_recording_is_written_as_it_was_read() {
    for folder in folders() {
        let recording = Recording::read(&folder).unwrap();
        for frame in &recording.frames {
            let line = serde_json::to_string(frame).unwrap();
            assert_eq!(
                serde_json::from_str::<RecordedFrame>(&line).unwrap(),
                *frame,
                "{}",
                folder.display()
            );
        }
        for exchange in &recording.exchanges {
            let line = serde_json::to_string(exchange).unwrap();
            assert_eq!(
                serde_json::from_str::<Exchange>(&line).unwrap(),
                *exchange,
                "{}",
                folder.display()
            );
        }
    }
}

#[test]
fn a_recording_is_written_once() {
    let recording = Recording::read(&Path::new(FIXTURES).join("0.8.0/09-interrupt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    recording.write(folder.path()).unwrap();
    assert_eq!(Recording::read(folder.path()).unwrap(), recording);
    assert!(folder.path().join("prompt-2.json").exists());
    let again = recording.write(folder.path());
    assert!(matches!(again, Err(RecordingError::Occupied { .. })));
}

#[test]
fn an_error_names_file_and_line() {
    let meta = r#"{"comfyui_version": "0.8.0", "scenario": "x"}"#;
    let error = Recording::parse(meta, "\n{\"t\": 1, \"socket\": \"main\"}\n", "").unwrap_err();
    assert!(
        matches!(error, RecordingError::Parse { line: 2, ref file, .. } if file == "ws.jsonl"),
        "{error}"
    );
}

#[test]
fn a_folder_is_checked_before_anything_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    Recording::prepare(&folder.path().join("new/one")).unwrap();
    Recording::prepare(&folder.path().join("new/one")).unwrap();
    let occupied = Recording::prepare(&folder.path().join("new")).unwrap_err();
    assert!(matches!(occupied, RecordingError::Occupied { .. }));
    std::fs::write(folder.path().join("file"), "").unwrap();
    let below_a_file = Recording::prepare(&folder.path().join("file/one")).unwrap_err();
    assert!(matches!(below_a_file, RecordingError::Target { .. }));
}
