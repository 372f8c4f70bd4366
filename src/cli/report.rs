mod baseline;
mod picture;
mod score;
mod tape;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::recording::Recording;
use score::Table;
use trial::{LeftOut, Trial};

/// Measure progress and remaining time on recordings
///
/// Replays recordings in the order in which they were made, learning as it goes, or with
/// --leave-one-out each by what all the others tell: no job is estimated from itself. Prints how far
/// each algorithm was off: ours, and those that other clients of ComfyUI use. Only jobs that completed,
/// and whose start and end were both heard, are scored. A workflow is known where what was learned has
/// one with the same nodes, completed on the same version of ComfyUI.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folders with recordings; also folders of such folders
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,

    /// Score each recording, or each job, by what was learned from all the others
    ///
    /// Nothing of it is learned itself. The later ones are learned first, then the earlier ones: so what is
    /// believed of the machine's speed is what was so just before.
    #[arg(
        long,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "recording"
    )]
    leave_one_out: Option<LeftOut>,

    /// Draw predicted against true remaining time into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Print a line for each job, too
    #[arg(long)]
    jobs: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let recordings = read(&args.dirs)?;
    let trial = match args.leave_one_out {
        Some(what) => Trial::leave_one_out(what, &recordings),
        None => Trial::in_order(&recordings),
    };
    if args.jobs {
        for job in &trial.jobs {
            println!("{job}");
        }
        println!();
    }
    for (title, is_known) in [("known workflows", true), ("first-time workflows", false)] {
        let jobs: Vec<_> = trial
            .jobs
            .iter()
            .filter(|job| job.is_known == is_known)
            .collect();
        println!("{title}: {} jobs", jobs.len());
        println!("{}", Table::of(&jobs));
    }
    println!("{}", score::LEGEND);
    if let Some(file) = &args.svg {
        std::fs::write(file, picture::draw(&trial.jobs))
            .with_context(|| format!("cannot write {} (--svg)", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The recordings in and below the folders, the oldest first.
fn read(dirs: &[PathBuf]) -> anyhow::Result<Vec<Recording>> {
    let mut found = Vec::new();
    for dir in dirs {
        let before = found.len();
        find(dir, &mut found).with_context(|| format!("cannot list {}", dir.display()))?;
        anyhow::ensure!(
            found.len() > before,
            "{} holds no recording: a recording is a folder with meta.json, ws.jsonl and http.jsonl",
            dir.display()
        );
    }
    found.sort();
    found.dedup();
    let recordings = found.iter().map(|dir| Recording::read(dir));
    let mut recordings = recordings.collect::<Result<Vec<_>, _>>()?;
    recordings.sort_by(|a, b| {
        let key = |recording: &Recording| {
            let meta = &recording.meta;
            let at: Option<jiff::Timestamp> = meta.recorded_at.parse().ok();
            (at, meta.scenario.clone())
        };
        key(a).cmp(&key(b))
    });
    Ok(recordings)
}

fn find(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if dir.join("meta.json").is_file() {
        found.push(dir.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
