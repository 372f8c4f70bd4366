//! The socket is cut, at every boundary between two frames.

use futures_util::StreamExt;

use super::play::play;
use crate::support::chaos_proxy::fault::Fault;
use crate::support::recordings::recording;

/// Short recordings of all kinds: prompts that complete, fail and are interrupted, of new servers and of
/// old ones.
const RECORDINGS: [&str; 8] = [
    "0.8.0/01-txt2img-basic",
    "0.8.0/07b-error-partial-outputs",
    "0.8.0/09b-interrupt-silent-node",
    "0.8.0/18b-async-error",
    "0.8.0/24d-error-first-node",
    "0.3.40/12-animated-video",
    "0.0.8/07-error-mid-run",
    "2023-08-14/05-cached-rerun",
];

/// How many plays there are at a time.
const AT_A_TIME: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_cut_at_every_frame() {
    let mut plays = Vec::new();
    for name in RECORDINGS {
        let recording = recording(name).await;
        let whole = play(recording.clone(), Vec::new()).await;
        assert!(whole.wrong.is_empty(), "{name}: {:?}", whole.wrong);
        assert!(
            whole.told.frames > 5,
            "{name}: {} frames",
            whole.told.frames
        );
        for frame in 0..=whole.told.frames {
            plays.push((name, frame, recording.clone()));
        }
    }
    let count = plays.len();
    let played = plays
        .into_iter()
        .map(|(name, frame, recording)| async move {
            let played = play(recording, vec![Fault::Cut { frame }]).await;
            let wrong = played.wrong.into_iter();
            wrong
                .map(|wrong| format!("{name} cut at {frame}: {wrong}"))
                .collect::<Vec<_>>()
        });
    let wrong: Vec<Vec<String>> = futures_util::stream::iter(played)
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    let wrong = wrong.concat();
    assert!(wrong.is_empty(), "of {count}:\n{}", wrong.join("\n"));
}
