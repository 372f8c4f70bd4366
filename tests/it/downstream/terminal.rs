//! What `watch` draws in a terminal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use comfy_relay::replay::PlaybackSpeed;
use console::{measure_text_width, strip_ansi_codes};
use serde_json::json;

use crate::support::terminal::Terminal;
use crate::support::test_relay::{Settings, TestRelay};

/// As long as a UUID: the ids that the relay makes.
const JOB: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

const ERROR: &str =
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320), as of node 20";

/// Watches a job that fails in a terminal of a width. Returns everything that was drawn.
async fn watch(columns: u16, job: &str, variables: &[(&str, &str)]) -> String {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let running = json!({"progress": 48, "status": "processing", "message": "KSampler: step 12 of 20",
        "estimated_remaining": 3_599});
    relay.report(job, &running).await;
    let mut terminal =
        Terminal::start(columns, &["watch", job, "--relay", &relay.url()], variables);
    terminal.draws("48 %").await;
    let failed = json!({"progress": 48, "status": "failed", "error": ERROR});
    relay.report(job, &failed).await;
    let (code, drawn) = terminal.end().await;
    assert_eq!(code, Some(1), "{drawn:?}");
    drawn
}

/// The lines that were drawn, without colours and movements of the cursor.
fn lines(drawn: &str) -> Vec<String> {
    let plain = strip_ansi_codes(drawn).into_owned();
    let lines = plain.split(['\r', '\n']);
    lines
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bar_fits_the_width_and_the_error_stands_in_full() {
    let error = format!("{JOB}  {ERROR}");
    for (columns, has_bar) in [(120, true), (80, false), (56, false)] {
        let drawn = watch(columns, JOB, &[]).await;
        let columns = usize::from(columns);
        let mut bars = Vec::new();
        let mut errors = 0;
        for line in lines(&drawn) {
            // The error fills whole rows, so that the bar begins in the first column.
            let bar = if line.starts_with(&error) {
                errors += 1;
                let rows = error.len().div_ceil(columns);
                line.chars().skip(rows * columns).collect()
            } else {
                line
            };
            let width = measure_text_width(&bar);
            assert!(width <= columns, "{width} of {columns} columns: {bar:?}");
            bars.push(bar);
        }
        assert_eq!(errors, 1, "{drawn:?}");
        bars.retain(|bar| !bar.is_empty());
        let cut = bars.iter().find(|bar| !bar.contains(JOB));
        assert_eq!(cut, None, "the id is whole in every line");
        let running = bars.iter().find(|line| line.contains("48 %")).unwrap();
        assert_eq!(running.contains("=>"), has_bar, "{running:?}");
        let last = bars.last().unwrap();
        assert!(last.trim_end().ends_with("48 %  Failed"), "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_is_too_narrow_shows_the_end_in_full() {
    let drawn = watch(46, JOB, &[]).await;
    let plain = strip_ansi_codes(&drawn);
    for text in [format!("{JOB}   48 %  Failed"), format!("{JOB}  {ERROR}")] {
        assert!(plain.contains(&text), "{text:?}: {drawn:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_name_leaves_room_for_the_bar() {
    let drawn = watch(80, "shot-12", &[]).await;
    let lines = lines(&drawn);
    let running = lines.iter().find(|line| line.contains("48 %")).unwrap();
    for text in [
        "shot-12   48 %  59 min 5",
        " s left  KSampler: step 12 of 20",
        "=>",
    ] {
        assert!(running.contains(text), "{text:?}: {running:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_those_that_the_environment_asks_for() {
    let red = "\u{1b}[31m";
    for (variables, is_coloured) in [
        (&[][..], true),
        (&[("NO_COLOR", "1")], false),
        (&[("CLICOLOR", "0")], false),
        (&[("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")], true),
    ] {
        let drawn = watch(80, "shot-12", variables).await;
        assert_eq!(drawn.contains(red), is_coloured, "{variables:?}: {drawn:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_why_a_job_cannot_be_watched() {
    let mut terminal = Terminal::start(80, &["watch", "job", "--relay", "http://127.0.0.1:1"], &[]);
    terminal
        .draws("error: the relay at http://127.0.0.1:1/ cannot be reached")
        .await;
    let (code, drawn) = terminal.end().await;
    assert_eq!(code, Some(3), "{drawn:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_jobs_is_drawn_again_when_a_state_comes() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    let running = |progress: u64| json!({"progress": progress, "status": "processing", "labels": {"take": "1"}});
    relay.report("a", &running(48)).await;
    relay
        .report("other", &json!({"progress": 9, "status": "processing"}))
        .await;
    let arguments = [
        "jobs",
        "--watch",
        "--label",
        "take=1",
        "--relay",
        &relay.url(),
    ];
    let mut terminal = Terminal::start(100, &arguments, &[]);
    terminal.draws("48 %").await;
    relay.report("a", &running(61)).await;
    terminal.draws("61 %").await;
    relay.report("new", &running(7)).await;
    terminal.draws("new").await;
    relay
        .report("new", &json!({"progress": 7, "status": "failed"}))
        .await;
    terminal.draws("failed").await;
    assert!(!terminal.drawn().contains("other"), "{}", terminal.drawn());
}

/// Its sampler sends previews.
const PREVIEWS: &str = "0.8.0/02-previews-metadata";

/// Everything that `watch` draws of a job with previews in a terminal with these variables.
async fn watch_previews(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let relay = TestRelay::replaying_with(PREVIEWS, PlaybackSpeed::Real(4.0)).await;
    let url = relay.url();
    let arguments = [&["watch", "shot", "--relay", &url], arguments].concat();
    // A terminal of the person who runs the tests is none of theirs.
    let none = ["KITTY_WINDOW_ID", "LC_TERMINAL", "TERM_PROGRAM", "TMUX"].map(|name| (name, ""));
    let mut terminal = Terminal::start(100, &arguments, &[&none, variables].concat());
    terminal.draws("waiting").await;
    relay.submit("shot", PREVIEWS).await;
    let (code, drawn) = terminal.end().await;
    assert_eq!(code, Some(0), "{drawn:?}");
    drawn
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_are_drawn_as_the_terminal_takes_them() {
    let kitty = watch_previews(&[], &[("TERM", "xterm-kitty")]).await;
    let (_, picture) = kitty
        .split_once("\u{1b}_Ga=T,f=100,")
        .expect("no picture is drawn");
    let (picture, _) = picture.split_once("\u{1b}\\").unwrap();
    let (head, start) = picture.split_once(';').unwrap();
    assert!(head.contains("q=2,C=1,"), "{head}");
    let start = STANDARD.decode(&start[..start.len() / 4 * 4]).unwrap();
    assert!(start.starts_with(b"\x89PNG"), "{start:?}");

    let iterm = watch_previews(&[], &[("TERM_PROGRAM", "iTerm.app")]).await;
    assert!(
        iterm.contains("\u{1b}]1337;File=inline=1;size="),
        "{iterm:?}"
    );

    let foot = watch_previews(&[], &[("TERM", "foot")]).await;
    assert!(foot.contains("\u{1b}P0;1q\"1;1;"), "{foot:?}");
    // The bar of the job is there as well.
    assert!(foot.contains("100 %  Completed"), "{foot:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_are_drawn_only_where_they_can_be_shown_or_are_asked_for() {
    let is_drawn = |drawn: &str| {
        ["\u{1b}_G", "\u{1b}]1337", "\u{1b}P"]
            .iter()
            .any(|start| drawn.contains(start))
    };
    let plain = ("TERM", "xterm-256color");
    assert!(!is_drawn(&watch_previews(&[], &[plain]).await));
    let kitty = ("TERM", "xterm-kitty");
    assert!(!is_drawn(
        &watch_previews(&["--previews", "off"], &[kitty]).await
    ));
    assert!(is_drawn(
        &watch_previews(&["--previews", "on"], &[plain]).await
    ));
}
