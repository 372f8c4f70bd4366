//! Jobs that wait in the relay's own queue, and those that are handed in again.

use jiff::{SignedDuration, Timestamp};

use crate::job::{Event, Job, JobId, Outcome, Output, QueueWait, Status};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn waiting() -> Job {
    let id = JobId::parse("job").unwrap();
    Job::new(id, at(0)).waiting("first")
}

fn wait(ahead: usize) -> Event {
    Event::Waits(QueueWait {
        ahead: Some(ahead),
        backend: Some("gpu2:8188".into()),
        reason: None,
    })
}

/// A job that has begun on a backend, and has shown 40 %.
fn begun() -> Job {
    let mut job = waiting();
    job.hand_over("gpu1:8188", "first");
    job.apply(Event::Started, at(10));
    let bar = Event::Bar {
        node: Some("3".to_owned()),
        value: 8.0,
        max: 20.0,
    };
    job.apply(bar, at(12));
    job.publish(0.4, None, at(12));
    job
}

#[test]
fn a_job_that_waits_says_where_it_is_planned() {
    let mut job = waiting();
    assert!(job.apply(wait(3), at(1)));
    assert!(!job.apply(wait(3), at(2)), "nothing new");
    let state = job.publish(0.0, None, at(2));
    assert_eq!(state.status, Status::Queued);
    assert_eq!(state.waiting_for, Some("server"));
    assert_eq!(state.message, "Queued, 3 ahead");
    assert_eq!(state.queue_position, Some(3));
    assert_eq!(state.backend.as_deref(), Some("gpu2:8188"));
    assert_eq!(job.backend(), None, "no backend has it");
    let reason = QueueWait {
        reason: Some("gpu1:8188 does not answer".into()),
        ..QueueWait::default()
    };
    job.apply(Event::Waits(reason), at(3));
    let state = job.publish(0.0, None, at(3));
    assert_eq!(state.message, "Waiting: gpu1:8188 does not answer");
    assert_eq!(state.queue_position, None);
    job.hand_over("gpu1:8188", "first");
    assert!(!job.apply(wait(1), at(4)), "it waits there no longer");
    let state = job.publish(0.0, None, at(4));
    assert_eq!(
        (state.waiting_for, state.message.as_str()),
        (None, "Queued")
    );
}

#[test]
fn a_job_that_runs_again_does_not_go_back() {
    let mut job = begun();
    job.take_back("second");
    let state = job.publish(0.0, None, at(20));
    assert_eq!(state.status, Status::Processing, "not queued again");
    assert_eq!(state.progress, 40);
    assert_eq!(state.attempt, Some(2));
    assert_eq!(state.waiting_for, Some("server"));
    assert_eq!(state.prompt_id.as_deref(), Some("second"));
    assert_eq!(state.elapsed, Some(10.0));
    job.apply(wait(2), at(21));
    let state = job.publish(0.0, None, at(21));
    assert_eq!(
        state.message,
        "Lost with its server, to be restarted, 2 ahead"
    );
    job.hand_over("gpu2:8188", "second");
    let state = job.publish(0.0, None, at(22));
    assert_eq!(state.message, "Restarted on gpu2:8188");
    job.apply(Event::Started, at(30));
    let state = job.publish(0.05, None, at(31));
    assert_eq!((state.progress, state.elapsed), (40, Some(21.0)));
    assert_eq!(state.message, "Restarted on gpu2:8188");
    assert_eq!(job.started_at(), Some(at(30)), "of this attempt");
}

#[test]
fn an_attempt_that_had_not_begun_counts_as_none() {
    let mut job = waiting();
    job.hand_over("gpu1:8188", "first");
    job.take_back("second");
    let state = job.publish(0.0, None, at(5));
    assert_eq!((state.status, state.attempt), (Status::Queued, None));
    assert_eq!(job.attempt(), 1);
}

#[test]
fn a_bar_of_the_attempt_before_moves_nothing() {
    let mut job = begun();
    job.take_back("second");
    assert_eq!(job.nodes().begun(), 0);
    assert!(job.runs().is_empty());
}

fn output(backend: &str, filename: &str) -> Output {
    Output {
        node: "9".to_owned(),
        kind: "images".to_owned(),
        filename: filename.to_owned(),
        subfolder: String::new(),
        r#type: "output".to_owned(),
        url: format!("http://{backend}/view?filename={filename}"),
        text: None,
        truncated: false,
    }
}

#[test]
fn the_files_of_a_lost_attempt_are_not_those_of_the_job() {
    let mut job = begun();
    let lost = vec![
        output("gpu1:8188", "a_1.png"),
        output("gpu1:8188", "a_2.png"),
    ];
    job.apply(Event::Outputs(lost), at(13));
    job.take_back("second");
    assert_eq!(job.publish(0.0, None, at(20)).output_path, None);
    job.hand_over("gpu2:8188", "second");
    job.apply(Event::Outputs(vec![output("gpu2:8188", "a_2.png")]), at(30));
    job.apply(Event::Closed(Outcome::Completed), at(31));
    let state = job.publish(1.0, None, at(31));
    assert_eq!(state.outputs_total, Some(1));
    assert_eq!(state.output_path.as_deref(), Some("a_2.png"));
    let stored = job.stored_outputs();
    assert_eq!(stored, [output("gpu2:8188", "a_2.png")]);
}
