//! What must hold of every recording.

use std::path::{Path, PathBuf};

use super::compiler::compile;
use super::timeline::Step;
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
        let timeline = compile(&recording);
        let killed = timeline.steps.iter().any(|(_, step)| *step == Step::Kill);
        for (k, prompt) in timeline.prompts.iter().enumerate() {
            let Some(id) = &prompt.id else { continue };
            let place = |wanted: Step| timeline.steps.iter().position(|(_, step)| *step == wanted);
            let (post, start, end, gone) = (
                place(Step::Post(k)),
                place(Step::Start(k)),
                place(Step::End(k)),
                place(Step::Gone(k)),
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
        let mut sorted = timeline.steps.clone();
        sorted.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        if sorted != timeline.steps {
            wrong.push(format!("{}: steps are out of order", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The lines of a timeline, without the frames.
fn deeds(name: &str) -> Vec<Step> {
    let timeline = compile(&Recording::read(&Path::new(FIXTURES).join(name)).unwrap());
    let steps = timeline.steps.into_iter().map(|(_, step)| step);
    steps
        .filter(|step| !matches!(step, Step::Frame(_)))
        .collect()
}

#[test]
fn deeds_of_the_recorded_client_are_beats() {
    let open = |label, node: Option<&str>, awaited| Step::Open {
        label,
        node: node.map(str::to_owned),
        awaited,
    };
    assert_eq!(
        deeds("0.8.0/14-displaced-socket"),
        [
            open(0, None, false),
            Step::Post(0),
            Step::Start(0),
            open(1, Some("3"), true),
            Step::Close {
                label: 0,
                abrupt: false
            },
            open(2, Some("3"), true),
            Step::Ending(0),
            Step::End(0),
        ]
    );
    assert_eq!(
        deeds("0.8.0/10d-queue-delete-last"),
        [
            open(0, None, false),
            Step::Post(0),
            Step::Post(1),
            Step::Start(0),
            Step::Gone(1),
            Step::Ending(0),
            Step::End(0),
            Step::Learned(0),
            Step::HistoryDeleted(0),
        ]
    );
    assert_eq!(
        deeds("0.8.0/16b-server-stopped"),
        [
            open(0, None, false),
            Step::Post(0),
            Step::Start(0),
            Step::Kill,
            Step::Restart
        ]
    );
}
