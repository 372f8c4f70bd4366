mod attempts;
mod events;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::estimate::{CostModel, Estimate};
use events::event;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn job() -> Job {
    Job::new(JobId::parse("j").unwrap(), NOW)
}

fn publish(job: &mut Job) -> Progress {
    let estimate = Estimate::of(job, &CostModel::default(), NOW);
    job.publish(estimate.fraction, estimate.remaining_time(), NOW)
}

fn sampler() -> Plan {
    let text = r#"{
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {}, "_meta": {"title": "Load Checkpoint"}},
        "3": {"class_type": "KSampler", "inputs": {"steps": 20, "model": ["4", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}
    }"#;
    Plan::from_graph(&serde_json::from_str(text).unwrap(), None)
}

/// A loop that makes copies of its body.
fn looped() -> Plan {
    let text = r#"{
        "5": {"class_type": "StartLoop", "inputs": {"mode": "List", "mode.list": ["4", 0]}},
        "3": {"class_type": "KSampler", "inputs": {"steps": 20, "latent": ["5", 3]}},
        "6": {"class_type": "EndLoop", "inputs": {"output_value": ["3", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["6", 0]}}
    }"#;
    Plan::from_graph(&serde_json::from_str(text).unwrap(), None)
}

fn started(node: &str) -> Event {
    Event::NodeStarted {
        node: node.to_owned(),
        display: None,
    }
}

fn file(name: &str, folder: &str) -> Output {
    Output {
        node: "9".into(),
        kind: "images".into(),
        filename: name.into(),
        subfolder: String::new(),
        r#type: folder.into(),
        url: String::new(),
        text: None,
        truncated: false,
    }
}

#[test]
fn each_phase_of_a_job_has_a_sentence() {
    let mut job = job();
    let mut messages = Vec::new();
    let bar = |value| Event::Bar {
        node: Some("3".into()),
        value,
        max: 20.0,
    };
    for event in [
        Event::Planned(sampler()),
        Event::Queued { ahead: Some(3) },
        Event::Started,
        started("4"),
        started("3"),
        bar(12.0),
        started("9"),
        Event::Ended(Outcome::Completed),
        Event::History(History {
            produced: true,
            ..History::default()
        }),
    ] {
        job.apply(event, NOW);
        let progress = publish(&mut job);
        messages.push((progress.progress, progress.message));
    }
    let messages: Vec<(u8, &str)> = messages.iter().map(|(p, m)| (*p, m.as_str())).collect();
    // No time passes here, and progress is the share of time.
    assert_eq!(
        messages,
        [
            (0, "Queued"),
            (0, "Queued, 3 ahead"),
            (0, "Starting"),
            (0, "Loading checkpoint"),
            (0, "Preparing to sample"),
            (0, "KSampler: step 12 of 20"),
            (0, "Saving image"),
            (99, "Finishing"),
            (100, "Completed"),
        ]
    );
}

#[test]
fn history_messages_outweigh_the_socket_and_a_stale_status() {
    let mut job = job();
    job.apply(Event::Ended(Outcome::Completed), NOW);
    job.apply(
        Event::History(History {
            messages: Some(Outcome::Cancelled),
            word: Some(Outcome::Completed),
            ..History::default()
        }),
        NOW,
    );
    assert_eq!(job.status(), Status::Cancelled);
    assert_eq!(job.end_source(), Some(EndSource::History));
}

#[test]
fn an_entry_without_status_or_outputs_is_a_failure() {
    let mut job = job();
    job.apply(Event::History(History::default()), NOW);
    assert_eq!(job.status(), Status::Failed);
}

#[test]
fn a_vanished_prompt_ends_as_the_socket_reported() {
    for (outcome, reason, status) in [
        (
            Some(Outcome::Completed),
            Reason::Forgotten,
            Status::Completed,
        ),
        (None, Reason::Forgotten, Status::Failed),
        (None, Reason::LostTwice, Status::Failed),
        (None, Reason::Deleted, Status::Cancelled),
    ] {
        let mut job = job();
        if let Some(outcome) = outcome {
            job.apply(Event::Ended(outcome), NOW);
        }
        job.apply(Event::Vanished(reason), NOW);
        assert_eq!(job.status(), status);
    }
}

#[test]
fn previews_are_not_results() {
    let mut job = job();
    job.apply(
        Event::Outputs(vec![file("p.png", "temp"), file("r.png", "output")]),
        NOW,
    );
    let progress = publish(&mut job);
    assert_eq!(progress.output_path.as_deref(), Some("r.png"));
    assert_eq!(progress.outputs.len(), 2);
}

#[test]
fn a_final_state_holds_all_outputs_and_a_running_one_the_newest() {
    let mut job = job();
    job.apply(Event::Started, NOW);
    for number in 0..1_440 {
        let name = format!("frame-{number:05}.png");
        // The history repeats what the socket has shown.
        for _ in 0..2 {
            job.apply(Event::Outputs(vec![file(&name, "output")]), NOW);
        }
    }
    let running = publish(&mut job);
    assert_eq!(
        (running.outputs.len(), running.outputs_total),
        (20, Some(1_440))
    );
    assert_eq!(running.outputs[19].filename, "frame-01439.png");
    assert_eq!(running.output_path.as_deref(), Some("frame-00000.png"));
    let history = History {
        messages: Some(Outcome::Completed),
        ..History::default()
    };
    job.apply(Event::History(history), NOW);
    let ended = publish(&mut job);
    assert_eq!(
        (ended.outputs.len(), ended.outputs_total),
        (1_440, Some(1_440))
    );
}

#[test]
fn a_job_that_is_asked_to_stop_says_so_while_its_server_is_silent() {
    let mut job = job();
    for event in [
        Event::Planned(sampler()),
        Event::Started,
        Event::Silence(Some(NOW)),
    ] {
        job.apply(event, NOW);
    }
    assert!(publish(&mut job).message.starts_with("No sign of life"));
    job.apply(Event::CancelRequested, NOW);
    assert_eq!(publish(&mut job).message, "Cancelling");
}

#[test]
fn an_unreachable_backend_ends_nothing() {
    let mut job = job();
    job.apply(Event::Started, NOW);
    assert!(job.apply(Event::Reachable(false), NOW));
    let progress = publish(&mut job);
    assert_eq!(progress.status, Status::Processing);
    let since = NOW.strftime("%H:%M:%S");
    let message = format!("Waiting for ComfyUI to answer, since {since} UTC");
    assert_eq!(progress.message, message);
    assert!(!job.apply(Event::Reachable(false), NOW + SignedDuration::from_secs(9)));
    assert_eq!(
        publish(&mut job).message,
        message,
        "since the first failure"
    );
}

proptest! {
    /// For every sequence of events: no panic, progress never falls and is 100 only when completed, a job that was asked
    /// to stop says so until its end, and a final state never changes.
    #[test]
    fn progress_never_falls_and_final_states_stay(events in prop::collection::vec(event(), 0..60)) {
        let mut job = job();
        let mut before = publish(&mut job);
        let mut is_asked = false;
        for event in events {
            is_asked |= event == Event::CancelRequested;
            job.apply(event, NOW);
            let after = publish(&mut job);
            let is_cancelling = is_asked && !after.status.is_final();
            prop_assert_eq!(after.cancelling, is_cancelling.then_some(true));
            prop_assert!(after.progress >= before.progress);
            prop_assert!(after.seq > before.seq);
            prop_assert_eq!(after.progress == 100, after.status == Status::Completed);
            if before.status.is_final() {
                let unnumbered = Progress { seq: before.seq, ..after.clone() };
                prop_assert_eq!(&unnumbered, &before);
            }
            before = after;
        }
    }

    /// The list of cached nodes is a hint: any of them may run after all. Then it is counted again, and no progress is lost.
    #[test]
    fn a_node_that_was_listed_as_cached_may_run(
        listed in prop::collection::vec(prop::sample::select(vec!["4", "3", "9"]), 0..4),
        ran in prop::collection::vec(prop::sample::select(vec!["4", "3", "9"]), 0..6),
    ) {
        let mut job = job();
        job.apply(Event::Planned(sampler()), NOW);
        let nodes = listed.iter().map(|id| (*id).to_owned()).collect();
        job.apply(Event::Cached { nodes }, NOW);
        let mut before = publish(&mut job);
        let model = CostModel::default();
        for (second, id) in ran.iter().enumerate() {
            let now = NOW + SignedDuration::from_secs(second as i64 + 1);
            for state in [NodeState::Running, NodeState::Finished] {
                let report = NodeReport {
                    node: (*id).to_owned(),
                    display: None,
                    value: 0.0,
                    max: 1.0,
                    state,
                    loading: false,
                };
                job.apply(Event::Nodes(vec![report]), now);
                prop_assert!(!job.nodes().is_cached(id));
                let estimate = Estimate::of(&job, &model, now);
                let after = job.publish(estimate.fraction, estimate.remaining_time(), now);
                prop_assert!(after.progress >= before.progress);
                before = after;
            }
        }
        let has_run = |id: &&str| ran.contains(id);
        let all = ["4", "3", "9"];
        let counts = job.nodes().counts(job.plan());
        let cached = all.iter().filter(|id| listed.contains(id) && !has_run(id));
        prop_assert_eq!(counts.done, all.iter().filter(|id| has_run(id)).count());
        prop_assert_eq!(counts.cached, cached.count());
        prop_assert_eq!(counts.total, 3);
    }

    /// A repeated event changes nothing.
    #[test]
    fn repeated_events_count_once(events in prop::collection::vec(event(), 1..30)) {
        let mut once = job();
        let mut twice = job();
        for event in events {
            once.apply(event.clone(), NOW);
            twice.apply(event.clone(), NOW);
            twice.apply(event, NOW);
        }
        prop_assert_eq!(publish(&mut once), publish(&mut twice));
    }
}

#[test]
fn the_moment_of_completion_is_exact_until_the_job_ends() {
    let at = |ms| Timestamp::from_millisecond(ms).unwrap();
    let seconds = |seconds| {
        Some(Remaining {
            seconds,
            interval: None,
            starts_in: Some(1.0),
        })
    };
    let mut job = job();
    let waiting = job.publish(0.0, seconds(2.4), at(500));
    assert_eq!(waiting.estimated_start, Some(at(1_500)));
    job.apply(started("3"), at(0));
    let state = job.publish(0.1, seconds(2.4), at(1_600));
    assert_eq!(state.estimated_start, None);
    assert_eq!(state.estimated_remaining, Some(2));
    let text = serde_json::to_value(&state).unwrap();
    assert_eq!(text["estimated_completion"], "1970-01-01T00:00:04.000Z");
    for (left, completion) in [
        (None, None),
        (seconds(-3.0), Some(at(1_600))),
        (seconds(f64::MAX), None),
        (seconds(f64::NAN), Some(at(1_600))),
    ] {
        let state = job.publish(0.1, left, at(1_600));
        assert_eq!(state.estimated_completion, completion, "{left:?}");
    }
    job.apply(Event::Vanished(Reason::Forgotten), at(1_700));
    let state = job.publish(0.1, seconds(0.0), at(1_700));
    assert_eq!(state.estimated_remaining, Some(0));
    let text = serde_json::to_value(&state).unwrap();
    assert_eq!(text.get("estimated_completion"), None);
}

#[test]
fn an_output_that_was_reported_stays() {
    let mut job = job();
    let report = |output_path: Option<&str>| Report {
        status: Status::Processing,
        progress: 50,
        estimated_remaining: None,
        message: None,
        output_path: output_path.map(str::to_owned),
        error: None,
    };
    job.apply(Event::Reported(report(Some("a.png"))), NOW);
    job.apply(Event::Reported(report(None)), NOW);
    let state = publish(&mut job);
    assert_eq!(state.output_path.as_deref(), Some("a.png"));
}

#[test]
fn a_cancellation_interrupts_the_running_nodes() {
    let mut job = job();
    job.apply(started("3"), NOW);
    job.apply(Event::Ended(Outcome::Cancelled), NOW);
    job.apply(Event::Vanished(Reason::Forgotten), NOW);
    assert_eq!(job.nodes().timeline()[0].state, NodeState::Interrupted);
}

/// The seconds of each run of a job whose nodes began at these seconds, one after the other. The last
/// one ends at second 4, the prompt at 5.
fn run_seconds(began: &[(&str, i64)]) -> Vec<f64> {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut job = job();
    job.apply(Event::Planned(sampler()), at(0));
    for (node, second) in began {
        job.apply(started(node), at(*second));
    }
    let (node, _) = began.last().unwrap();
    let report = NodeReport {
        node: (*node).to_owned(),
        display: None,
        value: 1.0,
        max: 1.0,
        state: NodeState::Finished,
        loading: false,
    };
    job.apply(Event::Nodes(vec![report]), at(4));
    job.apply(Event::Ended(Outcome::Completed), at(5));
    job.apply(Event::History(History::default()), at(9));
    job.runs().iter().map(|run| run.seconds(at(9))).collect()
}

#[test]
fn the_last_node_takes_until_the_prompt_ends() {
    let seconds = run_seconds(&[("4", 0), ("3", 1), ("9", 3)]);
    assert_eq!(seconds, [1.0, 2.0, 2.0]);
}

#[test]
fn a_missing_node_does_not_lengthen_the_last_seen_one() {
    let seconds = run_seconds(&[("4", 0), ("3", 1)]);
    assert_eq!(seconds, [1.0, 3.0]);
}
