use super::*;
use baseline::Algorithm;
use score::Row;

/// What the estimates must hold on the recordings. None of them is estimated from itself.
#[test]
fn estimates_hold_on_the_recordings() {
    let recordings = read(&[PathBuf::from("fixtures")]).unwrap();
    let trial = Trial::in_order(&recordings);
    let table = |is_known| {
        let jobs = trial.jobs.iter().filter(|job| job.is_known == is_known);
        Table::of(&jobs.collect::<Vec<_>>())
    };
    for (is_known, limits) in [(true, KNOWN), (false, FIRST)] {
        let table = table(is_known);
        let (ours, others) = table.rows.split_first().unwrap();
        assert_eq!(ours.algorithm, Algorithm::Ours);
        let best = others
            .iter()
            .map(|row| row.error)
            .fold(f64::INFINITY, f64::min);
        let text = format!("{is_known}\n{table}");
        assert!(ours.error <= limits.error, "{text}");
        assert!(ours.error <= limits.of_best * best, "{text}");
        assert!(ours.progress_error <= limits.progress_error, "{text}");
        assert_eq!(ours.backward_moves, 0, "{text}");
        assert!(is_within(ours, limits), "{text}");
    }
}

/// Shares of 1.
struct Limits {
    error: f64,
    of_best: f64,
    progress_error: f64,
    inside: (f64, f64),
}

/// The goal for the error is 0.08. What is missing is load on the machine that recorded, which nothing
/// tells at the start of a job, and the pause of up to half a second that many a first job of a server
/// makes at its end, now in one node and now after the last.
const KNOWN: Limits = Limits {
    error: 0.083,
    of_best: 0.5,
    progress_error: 0.05,
    inside: (0.75, 0.90),
};

const FIRST: Limits = Limits {
    error: 0.14,
    of_best: 1.0,
    progress_error: 0.08,
    inside: (0.75, 0.90),
};

fn is_within(row: &Row, limits: Limits) -> bool {
    let inside = row.inside.unwrap_or_default();
    (limits.inside.0..=limits.inside.1).contains(&inside)
}

/// Two prompts were queued under one id: the first samples 8 steps, the second 5 on cached models.
#[test]
fn prompts_with_one_id_have_their_own_graphs_and_ends() {
    let folder = "fixtures/0.8.0/25b-same-prompt-id-queued-twice";
    let trial = Trial::in_order(&read(&[PathBuf::from(folder)]).unwrap());
    let durations: Vec<f64> = trial.jobs.iter().map(|job| job.duration).collect();
    assert_eq!(durations, [4.099879 - 0.050458, 4.838799 - 4.106546]);
    let is_known: Vec<bool> = trial.jobs.iter().map(|job| job.is_known).collect();
    assert_eq!(is_known, [false, false], "the graphs differ in their steps");
}
