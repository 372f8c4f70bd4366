//! What ComfyUI sends, applied to a job: no order of messages makes its progress fall, or changes how it
//! ended.
//!
//! A case is a list of steps, one a line:
//!
//! | line | step |
//! |---|---|
//! | begins with a zero | a binary frame |
//! | `+250`, `+-9000` | milliseconds pass; negative if the clock is set back |
//! | `g{…}` | the job's graph becomes known |
//! | `h{…}` | the prompt's entry in the history is read |
//! | `q`, `q3` | the job is in the queue |
//! | `d`, `f` | it vanished: deleted, forgotten |
//! | `r0`, `r1` | ComfyUI is unreachable, or reachable again |
//! | anything else | a text frame |
#![no_main]

use bytes::Bytes;
use comfy_relay::comfy::{HistoryEntry, Message, PreviewImage};
use comfy_relay::estimate::{CostModel, Estimate};
use comfy_relay::job::{Event, ImageSizes, Job, JobId, Plan, Progress, Reason, Status};
use comfy_relay::workflow;
use comfy_relay_fuzz::STEP;
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;

const VIEW: &str = "http://c/view";

fuzz_target!(|data: &[u8]| {
    check_preview(data);
    let mut now = Timestamp::UNIX_EPOCH;
    let id = JobId::parse("j").unwrap();
    let mut job = Job::new(id, now).on_backend("b", "p");
    let mut model = CostModel::default();
    let mut before = publish(&mut job, &model, now);
    for step in data.split(|&byte| byte == STEP) {
        let Ok(step) = std::str::from_utf8(step) else {
            check_preview(step);
            continue;
        };
        if let Some(passed) = step.strip_prefix('+') {
            let passed = passed.parse::<i32>().unwrap_or_default();
            let passed = SignedDuration::from_millis(passed.into());
            now = now.checked_add(passed).unwrap_or(now);
        }
        for event in events(step) {
            job.apply(event, now);
            if job.status().is_final() && !before.status.is_final() {
                model.learn(&job);
            }
        }
        let after = publish(&mut job, &model, now);
        compare(&before, &after);
        before = after;
    }
});

/// A preview is the tail of its frame, and an image.
fn check_preview(frame: &[u8]) {
    if let Some(preview) = PreviewImage::parse(Bytes::copy_from_slice(frame)) {
        assert!(frame.ends_with(&preview.image));
        assert!(["image/png", "image/jpeg"].contains(&preview.mime));
    }
}

fn events(step: &str) -> Vec<Event> {
    let (kind, rest) = match step.chars().next() {
        Some(kind) => (kind, &step[kind.len_utf8()..]),
        None => return Vec::new(),
    };
    match kind {
        '\0' => check_preview(step.as_bytes()),
        'g' => {
            let graph = workflow::parse(rest.as_bytes()).ok();
            let plan = graph.map(|graph| Plan::from_graph(&graph, None));
            return plan.map(Event::Planned).into_iter().collect();
        }
        'h' => {
            let value = serde_json::from_str(rest).ok();
            let entry = value.and_then(|value| HistoryEntry::read(value, VIEW));
            return entry.map_or_else(Vec::new, |entry| {
                let plan = entry.graph.map(|graph| graph.plan(&ImageSizes::default()));
                let plan = plan.map(Event::Planned).into_iter();
                plan.chain([Event::History(entry.history)]).collect()
            });
        }
        'q' => {
            let ahead = rest.parse().ok();
            return vec![Event::Queued { ahead }];
        }
        'd' => return vec![Event::Vanished(Reason::Deleted)],
        'f' => return vec![Event::Vanished(Reason::Forgotten)],
        'r' => return vec![Event::Reachable(rest != "0")],
        _ => match Message::parse(step, VIEW) {
            Message::Prompt { event, .. } => return vec![event],
            Message::PromptEnded { .. } => return vec![Event::WorkDone],
            Message::Status { .. } | Message::Features | Message::Ignored | Message::Unknown => {}
        },
    }
    Vec::new()
}

fn publish(job: &mut Job, model: &CostModel, now: Timestamp) -> Progress {
    let estimate = Estimate::of(job, model, now);
    job.publish(estimate.fraction, estimate.remaining_time(), now)
}

fn compare(before: &Progress, after: &Progress) {
    assert!(after.progress >= before.progress, "progress falls");
    assert!(after.seq > before.seq);
    assert_eq!(after.progress == 100, after.status == Status::Completed);
    assert_ne!(
        (before.status, after.status),
        (Status::Processing, Status::Queued)
    );
    if before.status.is_final() {
        let same = Progress {
            seq: before.seq,
            timestamp: before.timestamp,
            ..after.clone()
        };
        assert_eq!(&same, before, "a final state changed");
    }
    let (low, high) = (after.estimated_low, after.estimated_high);
    let remaining = after.estimated_remaining;
    assert!(low.is_none_or(|low| remaining.is_some_and(|it| low <= it)));
    assert!(high.is_none_or(|high| remaining.is_some_and(|it| it <= high)));
    if let Some(nodes) = after.nodes {
        assert!(nodes.done + nodes.cached <= nodes.total, "{nodes:?}");
    }
    if let Some(node) = &after.node {
        assert!(node.step <= node.steps, "{node:?}");
    }
    assert!(after.elapsed.is_none_or(|it| it.is_finite() && it >= 0.0));
    assert!(!after.message.is_empty());
    assert!(!after.message.chars().any(char::is_control));
    serde_json::to_string(after).unwrap();
}
