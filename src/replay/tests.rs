//! What must hold of every recording.

use std::path::{Path, PathBuf};

use super::timeline::{Beat, Timeline};
use crate::recording::{Exchange, RecordedFrame, RecordedOutcome, Recording, RecordingError};

/// Where the recordings are.
const FIXTURES: &str = "fixtures";

fn folders() -> Vec<PathBuf> {
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
fn every_accepted_prompt_starts_and_ends() {
    let mut wrong = Vec::new();
    for folder in folders() {
        let recording = Recording::read(&folder).unwrap();
        let timeline = Timeline::of(&recording);
        let killed = timeline.beats.iter().any(|(_, beat)| *beat == Beat::Kill);
        for (k, prompt) in timeline.prompts.iter().enumerate() {
            let Some(id) = &prompt.id else { continue };
            let place = |wanted: Beat| timeline.beats.iter().position(|(_, beat)| *beat == wanted);
            let (post, start, end, gone) = (
                place(Beat::Post(k)),
                place(Beat::Start(k)),
                place(Beat::End(k)),
                place(Beat::Gone(k)),
            );
            let fits = match recording.meta.outcome[id] {
                RecordedOutcome::Lost => killed && end.is_none() && gone.is_none(),
                RecordedOutcome::Cancelled if gone.is_some() => {
                    start.is_none() && end.is_none() && post < gone
                }
                _ => gone.is_none() && post < start && start < end && prompt.history.is_some(),
            };
            if !fits {
                wrong.push(format!(
                    "{} #{k}: post {post:?} start {start:?} end {end:?} gone {gone:?}",
                    folder.display()
                ));
            }
        }
        let mut sorted = timeline.beats.clone();
        sorted.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        if sorted != timeline.beats {
            wrong.push(format!("{}: beats are out of order", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The lines of a timeline, without the frames.
fn deeds(name: &str) -> Vec<Beat> {
    let timeline = Timeline::of(&Recording::read(&Path::new(FIXTURES).join(name)).unwrap());
    let beats = timeline.beats.into_iter().map(|(_, beat)| beat);
    beats
        .filter(|beat| !matches!(beat, Beat::Heard(_)))
        .collect()
}

#[test]
fn deeds_of_the_recorded_client_are_beats() {
    let open = |label, node: Option<&str>, awaited| Beat::Open {
        label,
        node: node.map(str::to_owned),
        awaited,
    };
    assert_eq!(
        deeds("0.8.0/14-displaced-socket"),
        [
            open(0, None, false),
            Beat::Post(0),
            Beat::Start(0),
            open(1, Some("3"), true),
            Beat::Close {
                label: 0,
                abrupt: false
            },
            open(2, Some("3"), true),
            Beat::Ending(0),
            Beat::End(0),
        ]
    );
    assert_eq!(
        deeds("0.8.0/10d-queue-delete-last"),
        [
            open(0, None, false),
            Beat::Post(0),
            Beat::Post(1),
            Beat::Start(0),
            Beat::Gone(1),
            Beat::Ending(0),
            Beat::End(0),
            Beat::Learned(0),
            Beat::HistoryDeleted(0),
        ]
    );
    assert_eq!(
        deeds("0.8.0/16b-server-stopped"),
        [
            open(0, None, false),
            Beat::Post(0),
            Beat::Start(0),
            Beat::Kill,
            Beat::Restart
        ]
    );
}
