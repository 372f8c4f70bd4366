use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::output::print_line;
use crate::evaluation::{
    Evaluation, KindTable, LEGEND, LeftOut, NestedScore, ScoreTable, draw, read_recordings,
};

/// Measure progress and remaining time on recordings
///
/// Replays recordings in the order in which they were made and learns from each job for the next; with
/// --leave-out each is estimated from all the others, so that no job is estimated from itself.
/// Prints the errors of the relay's estimates and of the methods that other ComfyUI clients use. Only
/// jobs that completed, with their start and their end in the recording, are scored. A workflow is
/// known if one with the same nodes was learned before on the same version of ComfyUI.
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Folders with recordings; also folders of such folders
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,

    /// Estimate each recording, job, or family of recordings from all the others
    ///
    /// The later ones are learned first, then the earlier ones, so that the newest evidence of the
    /// machine's speed is from just before the job.
    #[arg(
        long,
        alias = "leave-one-out",
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "recording"
    )]
    leave_out: Option<LeftOut>,

    /// Plot predicted against true remaining time into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Ignore the sizes of images that graphs load
    ///
    /// As if the relay could not read the files from ComfyUI.
    #[arg(long)]
    no_image_sizes: bool,

    /// Try so many settings of the weights of the machine's speed, by nested cross-validation over families
    ///
    /// Each family of recordings is estimated with the weights that are best for all others.
    #[arg(long, value_name = "SETTINGS", hide = true, conflicts_with_all = ["leave_out", "svg", "jobs"])]
    nested: Option<usize>,

    /// Also print a line for each job
    #[arg(long)]
    jobs: bool,
}

pub(super) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let mut recordings = read_recordings(&args.dirs)?;
    if args.no_image_sizes {
        recordings
            .iter_mut()
            .for_each(|recording| recording.inputs.clear());
    }
    if let Some(settings) = args.nested {
        print_line(NestedScore::of(&recordings, settings));
        return Ok(ExitCode::SUCCESS);
    }
    let evaluation = match args.leave_out {
        Some(what) => Evaluation::leave_out(what, &recordings),
        None => Evaluation::in_order(&recordings),
    };
    if args.jobs {
        for job in &evaluation.jobs {
            print_line(job);
        }
        print_line("");
    }
    for (title, is_known) in [("known workflows", true), ("first-time workflows", false)] {
        let jobs: Vec<_> = evaluation
            .jobs
            .iter()
            .filter(|job| job.is_known == is_known)
            .collect();
        print_line(format_args!("{title}: {} jobs", jobs.len()));
        print_line(ScoreTable::of(&jobs));
    }
    print_line(KindTable::of(&evaluation.jobs));
    print_line(LEGEND);
    if let Some(file) = &args.svg {
        std::fs::write(file, draw(&evaluation.jobs))
            .with_context(|| format!("cannot write {} (--svg)", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
