//! The socket is closed at every boundary between two frames.

use futures_util::StreamExt;

use super::play::play;
use crate::support::chaos_proxy::fault::Fault;
use crate::support::recordings::{TXT2IMG, recording};

/// Short recordings of all kinds: prompts that complete, fail and are interrupted, of new servers and of
/// old ones.
const RECORDINGS: [&str; 8] = [
    TXT2IMG,
    "0.8.0/07b-error-partial-outputs",
    "0.8.0/09b-interrupt-silent-node",
    "0.8.0/18b-async-error",
    "0.8.0/24d-error-first-node",
    "0.3.40/12-animated-video",
    "0.0.8/07-error-mid-run",
    "2023-08-14/05-cached-rerun",
];

/// How many recordings are played at the same time.
const CONCURRENCY: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_at_any_frame_changes_no_outcome() {
    let mut plays = Vec::new();
    for name in RECORDINGS {
        let recording = recording(name).await;
        let whole = play(recording.clone(), Vec::new()).await;
        assert!(whole.problems.is_empty(), "{name}: {:?}", whole.problems);
        assert!(
            whole.observed.frames > 5,
            "{name}: {} frames",
            whole.observed.frames
        );
        for frame in 0..=whole.observed.frames {
            plays.push((name, frame, recording.clone()));
        }
    }
    let count = plays.len();
    let played = plays
        .into_iter()
        .map(|(name, frame, recording)| async move {
            let played = play(recording, vec![Fault::Disconnect { frame }]).await;
            let problems = played.problems.into_iter();
            problems
                .map(|problem| format!("{name} disconnected at {frame}: {problem}"))
                .collect::<Vec<_>>()
        });
    let problems: Vec<Vec<String>> = futures_util::stream::iter(played)
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let problems = problems.concat();
    let text = problems.join("\n");
    assert!(problems.is_empty(), "of {count}:\n{text}");
}
