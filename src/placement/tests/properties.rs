//! Random backends and jobs, held to the rules.

use proptest::prelude::*;

use super::*;

fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.5..60.0, 1 => Just(f64::NAN), 1 => Just(0.0)]
}

fn backends() -> impl Strategy<Value = Vec<BackendLoad>> {
    let backend = (
        seconds(),
        0usize..4,
        prop::bool::weighted(0.8),
        0u64..4,
        0u64..5,
    );
    let backend = backend.prop_map(|(free_in, room, takes, model, turn)| BackendLoad {
        free_in,
        room,
        takes,
        model: (model > 0).then_some(model),
        turn,
    });
    prop::collection::vec(backend, 1..6)
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let runtime = prop::option::weighted(
        0.8,
        (seconds(), seconds()).prop_map(|(warm, load)| Runtime {
            warm,
            cold: warm + load,
        }),
    );
    let kind = (prop::collection::vec(runtime, 1..6), 0u64..4);
    let kind = kind.prop_map(|(runtimes, model)| Kind {
        runtimes,
        model: (model > 0).then_some(model),
    });
    prop::collection::vec(kind, 1..5)
}

fn waiting() -> impl Strategy<Value = Vec<WaitingJob>> {
    let job = (0usize..5, -1i64..2, any::<u64>(), prop::option::of(0u32..3));
    let job = job.prop_map(|(kind, priority, order, share)| WaitingJob {
        kind,
        priority,
        order,
        share,
    });
    prop::collection::vec(job, 0..40)
}

/// The indices of jobs in their order without fair share.
fn in_order(waiting: &[WaitingJob]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..waiting.len()).collect();
    order.sort_by_key(|index| {
        (
            std::cmp::Reverse(waiting[*index].priority),
            waiting[*index].order,
        )
    });
    order
}

/// Equal, or both not known.
fn is_same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

fn assert_same(a: &[Option<Planned>], b: &[Option<Planned>]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        match (a, b) {
            (Some(a), Some(b)) => {
                assert_eq!((a.backend, a.now), (b.backend, b.now));
                assert!(is_same(a.starts_in, b.starts_in) && is_same(a.ends_in, b.ends_in));
            }
            (a, b) => assert_eq!(a, b),
        }
    }
}

proptest! {
    #[test]
    fn every_job_is_planned_where_it_can_run_and_no_backend_gets_more_than_its_room(
        backends in backends(), kinds in kinds(), waiting in waiting(), is_fair in any::<bool>(),
    ) {
        let mut fair = FairShare::default();
        fair.update(&waiting);
        let planned = plan(&backends, &kinds, &waiting, is_fair.then_some(&fair));
        prop_assert_eq!(planned.len(), waiting.len());
        let mut given = vec![0; backends.len()];
        for (job, planned) in waiting.iter().zip(&planned) {
            let can_run = |backend: usize| {
                let kind = kinds.get(job.kind);
                kind.is_some_and(|kind| kind.runtimes.get(backend).is_some_and(Option::is_some))
            };
            let Some(planned) = planned else {
                prop_assert!(!(0..backends.len()).any(can_run));
                continue;
            };
            prop_assert!(can_run(planned.backend));
            given[planned.backend] += usize::from(planned.now);
            if !backends[planned.backend].takes {
                prop_assert!(!planned.now && planned.starts_in.is_nan());
                let mut all = 0..backends.len();
                prop_assert!(!all.any(|backend| backends[backend].takes && can_run(backend)));
            }
        }
        for (backend, given) in backends.iter().zip(given) {
            let room = if backend.takes { backend.room } else { 0 };
            prop_assert!(given <= room);
        }
    }

    #[test]
    fn the_jobs_of_a_backend_follow_one_another_in_their_order(
        backends in backends(), kinds in kinds(), waiting in waiting(),
    ) {
        let planned = plan(&backends, &kinds, &waiting, None);
        for (index, backend) in backends.iter().enumerate() {
            let order = in_order(&waiting);
            let jobs = order.iter().filter_map(|job| planned[*job]);
            let jobs: Vec<Planned> = jobs.filter(|job| job.backend == index).collect();
            let mut free_in = if backend.takes { backend.free_in.max(0.0) } else { f64::NAN };
            if backend.free_in.is_nan() {
                free_in = f64::NAN;
            }
            for (place, job) in jobs.iter().enumerate() {
                prop_assert!(is_same(job.starts_in, free_in), "{job:?} after {free_in}");
                prop_assert!(job.ends_in.is_nan() || job.ends_in >= job.starts_in);
                prop_assert_eq!(job.now, backend.takes && place < backend.room);
                free_in = job.ends_in;
            }
        }
    }

    #[test]
    fn a_later_job_changes_nothing_for_those_before_it(
        backends in backends(), kinds in kinds(), waiting in waiting(), share in 0.0..1.0,
    ) {
        let order = in_order(&waiting);
        let kept = &order[..(order.len() as f64 * share) as usize];
        let earlier: Vec<WaitingJob> = kept.iter().map(|index| waiting[*index]).collect();
        let alone = plan(&backends, &kinds, &earlier, None);
        let all = plan(&backends, &kinds, &waiting, None);
        let among: Vec<Option<Planned>> = kept.iter().map(|index| all[*index]).collect();
        assert_same(&alone, &among);
    }

    #[test]
    fn the_same_input_gives_the_same_plan_in_any_order_of_the_list(
        backends in backends(), kinds in kinds(), waiting in waiting(),
    ) {
        let mut fair = FairShare::default();
        fair.update(&waiting);
        // Of jobs with the same priority and order, the first in the list goes first.
        let mut orders: Vec<u64> = waiting.iter().map(|job| job.order).collect();
        orders.sort_unstable();
        orders.dedup();
        prop_assume!(orders.len() == waiting.len());
        let reversed: Vec<WaitingJob> = waiting.iter().rev().copied().collect();
        for fair in [None, Some(&fair)] {
            let mut planned = plan(&backends, &kinds, &reversed, fair);
            planned.reverse();
            assert_same(&plan(&backends, &kinds, &waiting, fair), &planned);
        }
    }

    #[test]
    fn without_models_a_job_ends_nowhere_sooner(
        free in prop::collection::vec(0.0..60.0, 3), seconds in prop::collection::vec(1.0..60.0, 9),
        jobs in prop::collection::vec(0usize..3, 1..40),
    ) {
        let backends: Vec<BackendLoad> = free.iter().map(|free| backend(*free)).collect();
        let kinds: Vec<Kind> = seconds.chunks(3).map(kind).collect();
        let waiting: Vec<WaitingJob> = (0..).zip(&jobs).map(|(order, kind)| job(*kind, order)).collect();
        let planned = plan(&backends, &kinds, &waiting, None);
        let mut free = free;
        let mut work = 0.0;
        for (job, planned) in waiting.iter().zip(&planned) {
            let planned = planned.unwrap();
            let seconds = |backend: usize| kinds[job.kind].runtimes[backend].unwrap().warm;
            let ends = (0..3).map(|backend| free[backend] + seconds(backend));
            let first = ends.fold(f64::INFINITY, f64::min);
            // Ends within 1 % of the job's own time are equal.
            prop_assert!(planned.ends_in <= first + 0.01 * 60.0 + 1e-9);
            free[planned.backend] = planned.ends_in;
            work += seconds(planned.backend);
        }
        let planned_work: f64 = planned.iter().flatten().map(|job| job.ends_in - job.starts_in).sum();
        prop_assert!((planned_work - work).abs() < 1e-6);
    }

    #[test]
    fn a_lower_priority_changes_nothing_with_fair_share(
        backends in backends(), kinds in kinds(), waiting in waiting(),
    ) {
        let mut fair = FairShare::default();
        fair.update(&waiting);
        let high = waiting.iter().map(|job| job.priority).max();
        let first: Vec<WaitingJob> = waiting.iter().filter(|job| Some(job.priority) == high).copied().collect();
        let all = plan(&backends, &kinds, &waiting, Some(&fair));
        let among = all.into_iter().zip(&waiting).filter(|(_, job)| Some(job.priority) == high);
        let among: Vec<Option<Planned>> = among.map(|(planned, _)| planned).collect();
        assert_same(&plan(&backends, &kinds, &first, Some(&fair)), &among);
    }
}
