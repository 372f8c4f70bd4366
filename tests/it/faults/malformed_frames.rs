//! Frames that ComfyUI did not send.

use std::time::Duration;

use super::play::{PlayReport, Surroundings, play_with, settings};
use crate::support::chaos_proxy::fault::{Fault, MalformedFrame, WRONG_TYPES};
use crate::support::recordings::{TXT2IMG, recording};

/// In the middle of the recording.
const FRAME: usize = 20;

async fn play_with_frame(malformed: MalformedFrame) -> PlayReport {
    let fault = Fault::Insert {
        frame: FRAME,
        malformed,
    };
    let mut settings = settings();
    // Nothing else is received during a long frame, which must not count as a stale socket.
    settings.comfy.max_silence = Duration::from_secs(30);
    // On a busy machine, the history knows of the end before the events behind such a frame are read.
    settings.comfy.event_grace = Duration::from_secs(5);
    let recording = recording(TXT2IMG).await;
    let surroundings = Surroundings::default();
    let played = play_with(settings, recording, vec![fault], surroundings).await;
    assert!(
        played.problems.is_empty(),
        "{malformed:?}: {:?}",
        played.problems
    );
    assert_eq!(played.jobs, 1);
    played
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_invalid_events_are_ignored() {
    let mut harmless = vec![
        MalformedFrame::Text,
        MalformedFrame::Large,
        MalformedFrame::Huge,
        MalformedFrame::Deep,
        MalformedFrame::UnknownType,
    ];
    harmless.extend((0..8).map(MalformedFrame::Binary));
    harmless.extend((0..WRONG_TYPES.len()).map(MalformedFrame::WrongTypes));
    for malformed in harmless {
        assert_eq!(
            play_with_frame(malformed).await.observed.sockets,
            1,
            "{malformed:?}"
        );
    }
}

/// After these, a socket cannot be read further.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_websocket_protocol_make_the_relay_reconnect() {
    for malformed in [
        MalformedFrame::NotUtf8,
        MalformedFrame::TooLong,
        MalformedFrame::ReservedOpcode,
    ] {
        let sockets = play_with_frame(malformed).await.observed.sockets;
        // On a busy machine the first attempt can take too long.
        assert!((2..=3).contains(&sockets), "{malformed:?}: {sockets}");
    }
}
