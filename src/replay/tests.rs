//! What holds for the timeline of every recording.

use std::path::Path;

use super::compiler::compile;
use super::timeline::Step;
use crate::recording::tests::{FIXTURES, folders, for_damaged};
use crate::recording::{RecordedOutcome, Recording};

#[test]
fn every_accepted_prompt_starts_and_ends() {
    let mut wrong = Vec::new();
    for folder in folders() {
        let recording = Recording::read(&folder).unwrap();
        let timeline = compile(&recording);
        let killed = timeline.steps.iter().any(|(_, step)| *step == Step::Kill);
        for (k, prompt) in timeline.prompts.iter().enumerate() {
            let Some(id) = &prompt.id else { continue };
            let position =
                |wanted: Step| timeline.steps.iter().position(|(_, step)| *step == wanted);
            let (post, start, end, removed) = (
                position(Step::Post(k)),
                position(Step::Start(k)),
                position(Step::End(k)),
                position(Step::Removed(k)),
            );
            let is_right = match recording.outcome(id).unwrap() {
                RecordedOutcome::Lost => killed && end.is_none() && removed.is_none(),
                RecordedOutcome::Cancelled if removed.is_some() => {
                    start.is_none() && end.is_none() && post < removed
                }
                _ => removed.is_none() && post < start && start < end && prompt.history.is_some(),
            };
            if !is_right {
                wrong.push(format!(
                    "{} #{k}: post {post:?} start {start:?} end {end:?} removed {removed:?}",
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

/// The steps of a timeline, without the frames.
fn steps_without_frames(name: &str) -> Vec<Step> {
    let timeline = compile(&Recording::read(&Path::new(FIXTURES).join(name)).unwrap());
    let steps = timeline.steps.into_iter().map(|(_, step)| step);
    steps
        .filter(|step| !matches!(step, Step::Frame(_)))
        .collect()
}

#[test]
fn what_the_recorded_client_did_becomes_steps() {
    let open = |socket, node: Option<&str>, awaited| Step::Open {
        socket,
        node: node.map(str::to_owned),
        awaited,
    };
    assert_eq!(
        steps_without_frames("0.8.0/14-displaced-socket"),
        [
            open(0, None, false),
            Step::Post(0),
            Step::Start(0),
            open(1, Some("3"), true),
            Step::Close {
                socket: 0,
                abrupt: false
            },
            open(2, Some("3"), true),
            Step::EndAnnounced(0),
            Step::End(0),
        ]
    );
    assert_eq!(
        steps_without_frames("0.8.0/10d-queue-delete-last"),
        [
            open(0, None, false),
            Step::Post(0),
            Step::Post(1),
            Step::Start(0),
            Step::Removed(1),
            Step::EndAnnounced(0),
            Step::End(0),
            Step::HistoryRead(0),
            Step::HistoryDeleted(0),
        ]
    );
    assert_eq!(
        steps_without_frames("0.8.0/16b-server-stopped"),
        [
            open(0, None, false),
            Step::Post(0),
            Step::Start(0),
            Step::Kill,
            Step::Restart
        ]
    );
}

#[test]
fn damaged_recordings_have_timelines() {
    for_damaged(300, |recording| {
        let timeline = compile(&recording);
        assert!(
            timeline.steps.len() <= 4 * (recording.frames.len() + 2 * recording.exchanges.len())
        );
    });
}
