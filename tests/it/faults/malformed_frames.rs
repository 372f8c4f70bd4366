//! Frames that are none of ComfyUI's.

use std::time::Duration;

use super::play::{Played, play_with, settings};
use crate::support::chaos_proxy::fault::{Fault, Junk, WRONG_TYPES};
use crate::support::recordings::{TXT2IMG, recording};

/// In the middle of the recording.
const FRAME: usize = 20;

async fn with(junk: Junk) -> Played {
    let fault = Fault::Insert { frame: FRAME, junk };
    let mut settings = settings();
    // A long frame is silence while it comes, and must not be taken for a dead socket here.
    settings.comfy.max_silence = Duration::from_secs(30);
    let played = play_with(settings, recording(TXT2IMG).await, vec![fault]).await;
    assert!(played.wrong.is_empty(), "{junk:?}: {:?}", played.wrong);
    assert_eq!(played.jobs, 1);
    played
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_mean_nothing_are_passed_over() {
    let mut harmless = vec![
        Junk::Text,
        Junk::Large,
        Junk::Huge,
        Junk::Deep,
        Junk::UnknownType,
    ];
    harmless.extend((0..8).map(Junk::Binary));
    harmless.extend((0..WRONG_TYPES.len()).map(Junk::WrongTypes));
    for junk in harmless {
        assert_eq!(with(junk).await.told.sockets, 1, "{junk:?}");
    }
}

/// A socket that has brought them cannot be read on: a new one can.
#[tokio::test(flavor = "multi_thread")]
async fn after_frames_that_are_none_a_new_socket_is_dialled() {
    for junk in [Junk::NotUtf8, Junk::TooLong, Junk::NoFrame] {
        assert_eq!(with(junk).await.told.sockets, 2, "{junk:?}");
    }
}
