use super::*;

/// A backend with room for all that is free in some seconds.
fn backend(free_in: f64) -> BackendLoad {
    BackendLoad {
        free_in,
        room: 100,
        takes: true,
        model: None,
        turn: 0,
    }
}

/// A kind that runs for these seconds on these backends, warm and cold.
fn kind(seconds: &[f64]) -> Kind {
    let runtime = |seconds: &f64| {
        Some(Runtime {
            warm: *seconds,
            cold: *seconds,
        })
    };
    Kind {
        runtimes: seconds.iter().map(runtime).collect(),
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
    planned
        .iter()
        .map(|job| job.map(|job| job.backend))
        .collect()
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
    let first = planned[0].unwrap();
    assert_eq!((first.starts_in, first.ends_in), (3.0, 7.0));
}
