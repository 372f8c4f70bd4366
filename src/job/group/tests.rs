use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn id(number: usize) -> JobId {
    JobId::parse(&format!("shot-{number}")).unwrap()
}

fn member(status: Status, progress: u8) -> GroupMember {
    GroupMember {
        status,
        progress,
        estimated_remaining: None,
        estimated_low: None,
        estimated_high: None,
        elapsed: None,
        error: None,
        timestamp: at(0),
    }
}

fn running(progress: u8, elapsed: f64, remaining: u64) -> GroupMember {
    GroupMember {
        elapsed: Some(elapsed),
        estimated_remaining: Some(remaining),
        estimated_low: Some(remaining / 2),
        estimated_high: Some(remaining * 2),
        ..member(Status::Processing, progress)
    }
}

fn ended(status: Status, elapsed: f64) -> GroupMember {
    GroupMember {
        elapsed: Some(elapsed),
        error: (status == Status::Failed).then(|| "KSampler: no memory".to_owned()),
        ..member(status, 99)
    }
}

fn group(members: &[GroupMember]) -> JobGroup {
    let mut group = JobGroup::new("ep3").unwrap();
    for (number, member) in members.iter().enumerate() {
        group.set(&id(number), member.clone());
    }
    group
}

#[test]
fn its_progress_is_the_share_of_time_and_its_end_that_of_the_last_job() {
    let mut group = group(&[
        ended(Status::Completed, 30.0),
        running(50, 5.0, 5),
        running(10, 2.0, 18),
        member(Status::Queued, 0),
    ]);
    // 30 + 5 + 2 of 30 + 10 + 20 + 20 seconds.
    let state = group.publish(at(0));
    assert_eq!((state.status, state.progress), (Status::Processing, 46));
    assert_eq!(state.estimated_remaining, None, "one is not known");
    assert_eq!(state.message, "1 of 4 shots, 2 running");
    let waits = GroupMember {
        estimated_remaining: Some(60),
        ..member(Status::Queued, 0)
    };
    group.set(&id(3), waits);
    let state = group.publish(at(10));
    assert_eq!(state.estimated_remaining, Some(50));
    assert_eq!(state.job_id.as_str(), "group:ep3");
    assert_eq!(state.elapsed, Some(40.0));
}

#[test]
fn it_ends_with_its_last_job() {
    let mut one = group(&[ended(Status::Completed, 1.0)]);
    let state = one.publish(at(5));
    assert_eq!((state.status, state.progress), (Status::Completed, 100));
    assert_eq!(state.message, "1 of 1 shot");
    assert_eq!(state.seq, at(0).as_millisecond() as u64);
    let mut failed = group(&[
        ended(Status::Completed, 1.0),
        ended(Status::Failed, 1.0),
        ended(Status::Cancelled, 1.0),
    ]);
    let state = failed.publish(at(5));
    assert_eq!((state.status, state.progress), (Status::Failed, 99));
    assert_eq!(state.message, "1 of 3 shots, 1 failed, 1 cancelled");
    let error = "1 failed; shot-1: KSampler: no memory";
    assert_eq!(state.error.as_deref(), Some(error));
    let cancelled = group(&[ended(Status::Cancelled, 0.0)]);
    assert_eq!(cancelled.outcome(), Some(Outcome::Cancelled));
    let waiting = group(&[member(Status::Queued, 0)]);
    assert_eq!(waiting.outcome(), None);
}

#[test]
fn what_is_known_of_a_job_comes_from_its_message() {
    let text = br#"{"type": "progress", "job_id": "a", "status": "processing", "progress": 40,
        "estimated_remaining": 5, "timestamp": "2023-11-14T22:13:20Z", "seq": 1, "elapsed": 2.5, "new": 1}"#;
    let member = GroupMember::parse(text).unwrap();
    assert_eq!(
        member.started_at().unwrap().as_millisecond(),
        1_699_999_997_500
    );
    assert_eq!(member.seconds(), Some(7.5));
    assert!(GroupMember::parse(b"{}").is_err());
}

fn any_member() -> impl Strategy<Value = GroupMember> {
    let seconds = || proptest::option::of(0_u64..10_000);
    let elapsed = proptest::option::of(prop_oneof![Just(0.0), Just(f64::NAN), 0.0..1e6]);
    let status = proptest::sample::select(Status::ALL.to_vec());
    (
        status,
        0_u8..=100,
        seconds(),
        seconds(),
        seconds(),
        elapsed,
        0_i64..100,
    )
        .prop_map(
            |(status, progress, remaining, low, high, elapsed, then)| GroupMember {
                estimated_remaining: remaining,
                estimated_low: low,
                estimated_high: high,
                elapsed,
                timestamp: at(then),
                ..member(status, progress)
            },
        )
}

proptest! {
    /// Whatever its jobs do, in whatever order, and however many are added.
    #[test]
    fn it_never_falls_and_ends_once(changes in proptest::collection::vec((0_usize..6, any_member()), 1..60)) {
        let mut group = JobGroup::new("ep3").unwrap();
        let mut before: Option<Progress> = None;
        for (step, (job, member)) in changes.into_iter().enumerate() {
            if group.has_ended() {
                break;
            }
            group.set(&id(job), member);
            let state = group.publish(at(step as i64));
            prop_assert_eq!(state.status.is_final(), group.has_ended());
            prop_assert_eq!(state.status.is_final(), group.outcome().is_some());
            let all_completed = group.members.values().all(|it| it.status == Status::Completed);
            prop_assert_eq!(state.progress == 100, all_completed);
            prop_assert_eq!(state.error.is_some(), state.status == Status::Failed);
            if let (Some(low), Some(high)) = (state.estimated_low, state.estimated_high) {
                let remaining = state.estimated_remaining.unwrap();
                prop_assert!(low <= remaining && remaining <= high);
            }
            if let Some(before) = before {
                prop_assert!(before.progress <= state.progress);
                prop_assert!(before.seq < state.seq);
            }
            before = Some(state);
        }
    }

    /// The same jobs make the same state, in whatever order they were seen.
    #[test]
    fn the_order_of_its_jobs_does_not_matter(members in proptest::collection::vec(any_member(), 1..8)) {
        let mut forward = group(&members);
        let mut backward = JobGroup::new("ep3").unwrap();
        for (number, member) in members.iter().enumerate().rev() {
            backward.set(&id(number), member.clone());
        }
        prop_assert_eq!(forward.publish(at(100)), backward.publish(at(100)));
    }
}
