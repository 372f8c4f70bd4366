mod properties;

use super::*;

/// A backend that is free in some seconds, with room for two.
fn backend(free_in: f64) -> BackendLoad {
    BackendLoad {
        free_in,
        room: 2,
        takes: true,
        model: None,
        turn: 0,
    }
}

fn runtime(warm: f64, cold: f64) -> Option<Runtime> {
    Some(Runtime { warm, cold })
}

/// A kind without a model that runs for these seconds on these backends.
fn kind(seconds: &[f64]) -> Kind {
    let runtimes = seconds.iter().map(|seconds| runtime(*seconds, *seconds));
    Kind {
        runtimes: runtimes.collect(),
        model: None,
    }
}

fn job(kind: usize, order: u64) -> WaitingJob {
    WaitingJob {
        kind,
        priority: 0,
        order,
        share: None,
    }
}

fn backends_of(planned: &[Option<Planned>]) -> Vec<Option<usize>> {
    let planned = planned.iter();
    planned.map(|job| job.map(|job| job.backend)).collect()
}

/// The ends of jobs, which all have a plan.
fn ends_of(planned: &[Option<Planned>]) -> Vec<f64> {
    let planned = planned.iter().flatten();
    planned.map(|job| job.ends_in).collect()
}

#[test]
fn a_job_runs_where_it_ends_first() {
    let backends = [backend(10.0), backend(3.0)];
    let planned = plan(
        &backends,
        &[kind(&[1.0, 4.0])],
        &[job(0, 0), job(0, 1)],
        None,
    );
    assert_eq!(backends_of(&planned), [Some(1), Some(0)]);
    assert_eq!(ends_of(&planned), [7.0, 11.0]);
    assert_eq!(planned[0].unwrap().starts_in, 3.0);
}

#[test]
fn a_job_waits_for_a_fast_backend_and_later_ones_go_to_the_slow_one() {
    let backends = [
        BackendLoad {
            room: 0,
            ..backend(5.0)
        },
        backend(0.0),
    ];
    let kinds = [kind(&[2.0, 20.0]), kind(&[3.0, 4.0])];
    let planned = plan(&backends, &kinds, &[job(0, 0), job(1, 1)], None);
    assert_eq!(backends_of(&planned), [Some(0), Some(1)]);
    let now = planned.iter().flatten().map(|job| job.now);
    assert_eq!(now.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_job_waits_for_its_model_only_where_that_ends_sooner() {
    let kind = |cold| Kind {
        runtimes: vec![runtime(10.0, cold), runtime(10.0, cold)],
        model: Some(1),
    };
    let backends = |free_in| {
        let loaded = Some(1);
        [
            BackendLoad {
                model: loaded,
                ..backend(free_in)
            },
            backend(0.0),
        ]
    };
    // Loading takes 8 s, and counts twice: the next job there has to wait for it as well.
    for (free_in, expected) in [(7.0, 0), (15.0, 0), (17.0, 1)] {
        let planned = plan(&backends(free_in), &[kind(18.0)], &[job(0, 0)], None);
        assert_eq!(backends_of(&planned), [Some(expected)], "{free_in}");
    }
}

#[test]
fn a_job_replaces_the_model_that_is_loaded_sooner() {
    let with_model = |model, load| Kind {
        runtimes: vec![runtime(10.0, 10.0 + load); 2],
        model: Some(model),
    };
    let kinds = [with_model(1, 30.0), with_model(2, 5.0), with_model(3, 1.0)];
    let loaded = |model| BackendLoad {
        model: Some(model),
        ..backend(0.0)
    };
    let planned = plan(&[loaded(1), loaded(2)], &kinds, &[job(2, 0)], None);
    assert_eq!(backends_of(&planned), [Some(1)]);
}

#[test]
fn the_model_of_a_job_is_loaded_for_the_next_one() {
    let kinds = [Kind {
        runtimes: vec![runtime(4.0, 9.0)],
        model: Some(1),
    }];
    let planned = plan(&[backend(0.0)], &kinds, &[job(0, 0), job(0, 1)], None);
    assert_eq!(ends_of(&planned), [9.0, 13.0]);
}

#[test]
fn idle_backends_with_equal_ends_take_turns() {
    let mut backends = [backend(0.0), backend(0.0), backend(0.0)];
    let kinds = [kind(&[5.0, 5.0, 5.01])];
    let mut taken = Vec::new();
    for turn in 1..=6 {
        let planned = plan(&backends, &kinds, &[job(0, 0)], None);
        let chosen = planned[0].unwrap().backend;
        backends[chosen].turn = turn;
        taken.push(chosen);
    }
    assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
    let at_once: Vec<WaitingJob> = (0..3).map(|order| job(0, order)).collect();
    let planned = plan(&backends, &kinds, &at_once, None);
    assert_eq!(backends_of(&planned), [Some(0), Some(1), Some(2)]);
}

#[test]
fn a_backend_that_takes_nothing_gets_nothing_and_no_end_is_promised_there() {
    let backends = [
        BackendLoad {
            takes: false,
            ..backend(0.0)
        },
        backend(100.0),
    ];
    let only_there = Kind {
        runtimes: vec![runtime(1.0, 1.0), None],
        model: None,
    };
    let nowhere = Kind {
        runtimes: vec![None, None],
        model: None,
    };
    let kinds = [kind(&[1.0, 1.0]), only_there, nowhere];
    let planned = plan(&backends, &kinds, &[job(0, 0), job(1, 1), job(2, 2)], None);
    assert_eq!(backends_of(&planned), [Some(1), Some(0), None]);
    let waits = planned[1].unwrap();
    assert!(!waits.now && waits.starts_in.is_nan() && waits.ends_in.is_nan());
}

#[test]
fn priorities_go_first_and_then_what_came_first() {
    let with_priority = |priority, order| WaitingJob {
        priority,
        ..job(0, order)
    };
    let waiting = [
        with_priority(0, 1),
        with_priority(5, 3),
        with_priority(0, 0),
        with_priority(5, 2),
    ];
    let planned = plan(&[backend(0.0)], &[kind(&[1.0])], &waiting, None);
    assert_eq!(ends_of(&planned), [4.0, 2.0, 3.0, 1.0]);
    let now = planned.iter().flatten().map(|job| job.now);
    assert_eq!(now.collect::<Vec<_>>(), [false, true, false, true]);
}

#[test]
fn jobs_of_which_nothing_is_known_are_spread_evenly_and_have_no_end() {
    let kinds = [Kind {
        runtimes: vec![Some(Runtime::unknown()); 3],
        model: None,
    }];
    let waiting: Vec<WaitingJob> = (0..9).map(|order| job(0, order)).collect();
    let planned = plan(&[backend(0.0); 3], &kinds, &waiting, None);
    for backend in 0..3 {
        let there = planned.iter().flatten();
        assert_eq!(there.filter(|job| job.backend == backend).count(), 3);
    }
    let ends = planned.iter().flatten();
    assert!(ends.clone().all(|job| job.ends_in.is_nan()));
    assert_eq!(ends.filter(|job| job.starts_in == 0.0).count(), 3);
}

#[test]
fn jobs_of_which_nothing_is_known_follow_the_known_speeds() {
    let unknown = Kind {
        runtimes: vec![Some(Runtime::unknown()); 2],
        model: None,
    };
    let kinds = [kind(&[30.0, 10.0]), unknown];
    let waiting: Vec<WaitingJob> = (0..40).map(|order| job(1, order)).collect();
    let planned = plan(&[backend(0.0); 2], &kinds, &waiting, None);
    let slow = planned.iter().flatten().filter(|job| job.backend == 0);
    assert_eq!(slow.count(), 10);
}

#[test]
fn no_end_is_known_behind_a_job_of_unknown_length() {
    let unknown = Kind {
        runtimes: vec![Some(Runtime::unknown())],
        model: None,
    };
    let kinds = [unknown, kind(&[2.0])];
    let planned = plan(&[backend(1.0)], &kinds, &[job(0, 0), job(1, 1)], None);
    assert_eq!(planned[0].unwrap().starts_in, 1.0);
    assert!(planned[1].unwrap().starts_in.is_nan());
    let planned = plan(&[backend(f64::NAN)], &kinds, &[job(1, 0)], None);
    assert!(planned[0].unwrap().starts_in.is_nan() && planned[0].unwrap().now);
}

#[test]
fn a_runtime_follows_from_other_backends_and_other_kinds() {
    // The second backend takes a third of the time of the first, by the first kind.
    let here_only = Kind {
        runtimes: vec![runtime(30.0, 42.0), Some(Runtime::unknown())],
        model: Some(1),
    };
    let kinds = [kind(&[6.0, 2.0]), here_only];
    let planned = plan(&[backend(0.0), backend(0.0)], &kinds, &[job(1, 0)], None);
    let planned = planned[0].unwrap();
    assert_eq!(planned.backend, 1);
    assert!((planned.ends_in - 14.0).abs() < 1e-6, "{planned:?}");
}

#[test]
fn shares_get_equal_seconds_not_equal_counts() {
    let kinds = [kind(&[1.0]), kind(&[10.0])];
    let of_share = |share: u32, order| WaitingJob {
        share: Some(share),
        ..job(share as usize, order)
    };
    // 20 long jobs came before 200 short ones.
    let long = (0..20).map(|order| of_share(1, order));
    let waiting: Vec<WaitingJob> = long
        .chain((20..220).map(|order| of_share(0, order)))
        .collect();
    let mut fair = FairShare::default();
    fair.update(&waiting);
    let planned = plan(&[backend(0.0)], &kinds, &waiting, Some(&fair));
    for until in [50.0, 100.0, 300.0] {
        let seconds = |share: u32| -> f64 {
            let jobs = planned.iter().flatten().zip(&waiting);
            let jobs = jobs.filter(|(job, one)| one.share == Some(share) && job.ends_in <= until);
            jobs.map(|(job, _)| job.ends_in - job.starts_in).sum()
        };
        assert!((seconds(0) - seconds(1)).abs() <= 10.0, "until {until} s");
    }
}

#[test]
fn a_share_pays_back_between_passes_and_saves_nothing_up() {
    let of_share = |share, order| WaitingJob {
        share: Some(share),
        ..job(0, order)
    };
    let first = |fair: &mut FairShare, waiting: &[WaitingJob]| {
        fair.update(waiting);
        let planned = plan(&[backend(0.0)], &[kind(&[1.0])], waiting, Some(fair));
        planned.iter().position(|job| job.unwrap().starts_in == 0.0)
    };
    let mut fair = FairShare::default();
    let both = [of_share(1, 0), of_share(2, 1)];
    assert_eq!(first(&mut fair, &both), Some(0));
    fair.record_start(Some(1), 30.0);
    assert_eq!(first(&mut fair, &both), Some(1));
    fair.record_start(Some(2), 29.0);
    assert_eq!(first(&mut fair, &both), Some(1));
    // The second share waits for nothing while the first one gets much; then it is level with it, not ahead for hours.
    fair.update(&both[..1]);
    fair.record_start(Some(1), 1000.0);
    fair.update(&both[..1]);
    assert_eq!(first(&mut fair, &both), Some(0));
    fair.record_start(Some(1), 1.0);
    assert_eq!(first(&mut fair, &both), Some(1));
}

#[test]
fn what_cannot_be_is_not_planned_and_nothing_panics() {
    assert_eq!(plan(&[], &[], &[job(0, 0)], None), [None]);
    assert_eq!(
        plan(&[backend(0.0)], &[kind(&[])], &[job(0, 0)], None),
        [None]
    );
    assert_eq!(
        plan(&[], &[kind(&[1.0])], &[job(0, 0), job(7, 1)], None),
        [None; 2]
    );
    let odd = [kind(&[f64::INFINITY, -3.0, 0.0])];
    let backends = [backend(f64::INFINITY), backend(-5.0), backend(f64::NAN)];
    let planned = plan(&backends, &odd, &[job(0, 0)], None);
    assert_eq!(planned[0].unwrap().ends_in, 0.0);
}
