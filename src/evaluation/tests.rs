mod training_farm;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::recording::tests::for_damaged;

/// Each recording is estimated from those before it.
#[test]
fn estimates_hold_in_the_order_of_the_recordings() {
    let evaluation = Evaluation::in_order(&recordings());
    assert_within(&evaluation, true, KNOWN);
    assert_within(&evaluation, false, FIRST);
}

/// Each recording is estimated from all the others.
#[test]
fn estimates_hold_with_each_recording_left_out() {
    let evaluation = Evaluation::leave_out(LeftOut::Recording, &recordings());
    assert_within(&evaluation, true, KNOWN);
    assert_within(&evaluation, false, FIRST_LEFT_OUT);
}

/// First-time workflows without every recording of their scenario.
#[test]
fn estimates_hold_with_families_left_out() {
    let evaluation = Evaluation::leave_out(LeftOut::Family, &recordings());
    assert_within(&evaluation, false, FIRST_WITHOUT_FAMILY);
}

/// As in a relay that cannot read the files of its ComfyUI.
#[test]
fn estimates_hold_without_the_sizes_of_images() {
    let mut recordings = recordings();
    recordings.iter_mut().for_each(|one| one.inputs.clear());
    let evaluation = Evaluation::in_order(&recordings);
    assert_within(&evaluation, true, KNOWN_WITHOUT_SIZES);
    assert_within(&evaluation, false, FIRST_WITHOUT_SIZES);
}

/// What other workflows teach makes known ones better on the average, and spoils few of them: the speed
/// of the machine that they show may be that of another time.
#[test]
fn other_workflows_teach_more_than_they_spoil() {
    let recordings = recordings();
    let [alone, after] = [PriorTraining::Nothing, PriorTraining::OtherWorkflows]
        .map(|prior_training| Evaluation::of_known(&recordings, prior_training).jobs);
    assert_eq!(alone.len(), after.len());
    assert!(alone.len() > 100, "{}", alone.len());
    let mut errors: BTreeMap<(&str, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for (alone, after) in alone.iter().zip(&after) {
        let pair = (alone.mean_error(0), after.mean_error(0));
        let recording = (alone.version.as_str(), alone.scenario.as_str());
        assert_eq!(recording, (after.version.as_str(), after.scenario.as_str()));
        errors.entry(recording).or_default().push(pair);
    }
    let means = errors.iter().map(|(recording, pairs)| {
        let mean = |sum: f64| sum / pairs.len() as f64;
        let alone = mean(pairs.iter().map(|(alone, _)| alone).sum());
        let after = mean(pairs.iter().map(|(_, after)| after).sum());
        (recording, alone, after)
    });
    let means: Vec<_> = means.collect();
    let sum = |of: fn(&(f64, f64)) -> f64| errors.values().flatten().map(of).sum::<f64>();
    let (alone, after) = (sum(|pair| pair.0), sum(|pair| pair.1));
    assert!(after < 0.75 * alone, "{alone} {after}");
    let spoiled = means
        .iter()
        .filter(|(_, alone, after)| *after > alone + 0.02);
    let spoiled: Vec<_> = spoiled.collect();
    assert!(spoiled.len() * 9 < means.len() * 2, "{spoiled:#?}");
}

/// The three jobs of this recording ran the same workflow.
#[test]
fn a_left_out_job_teaches_nothing() {
    let alone = read_recordings(&[PathBuf::from("fixtures/0.8.0/25-own-prompt-id")]).unwrap();
    let known = |evaluation: Evaluation| {
        evaluation
            .jobs
            .iter()
            .map(|job| job.is_known)
            .collect::<Vec<_>>()
    };
    let left_out = |what, recordings: &[_]| known(Evaluation::leave_out(what, recordings));
    assert_eq!(known(Evaluation::in_order(&alone)), [false, true, true]);
    assert_eq!(left_out(LeftOut::Recording, &alone), [false; 3]);
    assert_eq!(left_out(LeftOut::Job, &alone), [true; 3]);
    let twice = [alone.clone(), alone].concat();
    assert_eq!(left_out(LeftOut::Recording, &twice), [true; 6]);
    assert_eq!(left_out(LeftOut::Job, &twice), [true; 6]);
}

fn recordings() -> Vec<Recording> {
    read_recordings(&[PathBuf::from("fixtures")]).unwrap()
}

fn assert_within(evaluation: &Evaluation, is_known: bool, limits: Limits) {
    let jobs = evaluation
        .jobs
        .iter()
        .filter(|job| job.is_known == is_known);
    let table = ScoreTable::of(&jobs.collect::<Vec<_>>());
    let (ours, others): (Vec<&ScoreRow>, Vec<&ScoreRow>) =
        table.rows.iter().partition(|row| row.algorithm.is_ours());
    let ours = ours[0];
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
    let inside = ours.inside.unwrap_or_default();
    assert!((limits.inside..=0.90).contains(&inside), "{text}");
}

/// The largest errors, as in [`ScoreRow`]; `of_best` is the share of the best other algorithm's error.
struct Limits {
    error: f64,
    of_best: f64,
    progress_error: f64,
    /// The smallest share of the true ends inside the interval.
    inside: f64,
}

const KNOWN: Limits = Limits {
    error: 0.08,
    of_best: 0.5,
    progress_error: 0.05,
    inside: 0.75,
};

const FIRST: Limits = Limits {
    error: 0.12,
    of_best: 1.0,
    progress_error: 0.08,
    inside: 0.75,
};

const FIRST_LEFT_OUT: Limits = Limits {
    error: 0.105,
    ..FIRST
};

const FIRST_WITHOUT_FAMILY: Limits = Limits {
    error: 0.12,
    inside: 0.74,
    ..FIRST
};

const KNOWN_WITHOUT_SIZES: Limits = Limits {
    error: 0.09,
    ..KNOWN
};

const FIRST_WITHOUT_SIZES: Limits = Limits {
    error: 0.13,
    ..FIRST
};

/// A start and an end as far from each other as numbers can be.
#[test]
fn a_job_of_infinite_length_is_not_scored() {
    let mut recording = recordings().swap_remove(0);
    let last = recording.frames.len() - 1;
    for (at, frame) in recording.frames.iter_mut().enumerate() {
        frame.t = if at < last / 2 { -1e308 } else { 1e308 };
    }
    assert!(Evaluation::in_order(&[recording]).jobs.is_empty());
}

#[test]
fn damaged_recordings_are_scored() {
    for_damaged(40, |recording| {
        let evaluation = Evaluation::in_order(&[recording]);
        let jobs: Vec<_> = evaluation.jobs.iter().collect();
        let text = format!(
            "{}{}",
            ScoreTable::of(&jobs),
            KindTable::of(&evaluation.jobs)
        );
        assert!(!text.contains("NaN") || jobs.is_empty(), "{text}");
        draw(&evaluation.jobs);
    });
}

/// Two prompts were queued with the same id: the first samples 8 steps, the second 5 on cached models.
#[test]
fn prompts_with_the_same_id_have_their_own_graphs_and_ends() {
    let folder = "fixtures/0.8.0/25b-same-prompt-id-queued-twice";
    let evaluation = Evaluation::in_order(&read_recordings(&[PathBuf::from(folder)]).unwrap());
    let durations: Vec<f64> = evaluation.jobs.iter().map(|job| job.duration).collect();
    assert_eq!(durations, [4.099879 - 0.050458, 4.838799 - 4.106546]);
    let is_known: Vec<bool> = evaluation.jobs.iter().map(|job| job.is_known).collect();
    assert_eq!(is_known, [false, false], "the graphs differ in their steps");
}

/// The second prompt starts before the first one has ended.
#[test]
fn overlapping_prompts_are_both_estimated_until_their_ends() {
    let meta = r#"{"comfyui_version": "0.8.0", "scenario": "overlap"}"#;
    let messages = [
        (0.0, "execution_start", "a"),
        (1.0, "execution_start", "b"),
        (4.0, "execution_success", "a"),
        (5.0, "execution_success", "b"),
    ];
    let frames = messages.map(|(t, kind, id)| {
        let text = json!({"type": kind, "data": {"prompt_id": id}}).to_string();
        json!({"t": t, "socket": "main", "text": text}).to_string()
    });
    let prompts = ["a", "b"].map(|id| {
        let graph = json!({"9": {"class_type": "SaveImage", "inputs": {"images": id}}});
        json!({
            "t": 0.0, "t_end": 0.0, "method": "POST", "path": "/prompt", "status": 200,
            "request_body": {"prompt": graph}, "response": {"prompt_id": id},
        })
        .to_string()
    });
    let recording = Recording::parse(meta, &frames.join("\n"), &prompts.join("\n")).unwrap();
    let evaluation = Evaluation::in_order(&[recording]);
    let durations: Vec<f64> = evaluation.jobs.iter().map(|job| job.duration).collect();
    assert_eq!(durations, [4.0, 4.0]);
    for job in &evaluation.jobs {
        assert_eq!(job.answers.len(), MOMENTS);
    }
    ScoreTable::of(&evaluation.jobs.iter().collect::<Vec<_>>());
}
