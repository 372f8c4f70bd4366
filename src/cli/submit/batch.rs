//! Submits many jobs of one workflow at once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use super::parameters::SubmittedParameters;
use crate::cli::api_client::ApiClient;
use crate::cli::output::{print_line, print_note, printable_line};
use crate::cli::preview::PreviewMode;
use crate::cli::watch::watch;
use crate::job::JobId;

/// The path of batches.
const BATCHES: &str = "api/anime/batches";

/// What stands for standard input.
const STDIN: &str = "-";

/// How many jobs a submission makes.
#[derive(Debug, clap::Args)]
pub(super) struct BatchArgs {
    /// Submit so many jobs, with seeds that grow by one from job to job: all of them, or none
    #[arg(
        long,
        value_name = "JOBS",
        value_parser = clap::value_parser!(u32).range(1..=1_000),
        conflicts_with_all = ["params_file", "job_id"]
    )]
    count: Option<u32>,

    /// With --count, the seed of the first job; by default those of the workflow. Without, the parameter of this name
    #[arg(long, value_name = "NUMBER", conflicts_with = "params_file")]
    seed: Option<u64>,

    /// Submit a job for each object of parameters in a JSON file, a list or one object a line ("-": standard input). Where both
    /// set an input, the file counts and not --param
    #[arg(long, value_name = "FILE", conflicts_with = "job_id")]
    params_file: Option<PathBuf>,
}

impl BatchArgs {
    /// Whether there is to be more than a single job.
    pub(super) fn is_given(&self) -> bool {
        self.count.is_some() || self.params_file.is_some()
    }

    /// The seed of a single job.
    pub(super) fn lone_seed(&self) -> Option<u64> {
        self.seed.filter(|_| self.count.is_none())
    }

    /// Submits a single job's body as a batch, and shows it or its progress.
    pub(super) async fn submit(
        &self,
        relay: &ApiClient,
        mut job: Value,
        parameters: &SubmittedParameters<'_>,
        watches: bool,
    ) -> anyhow::Result<ExitCode> {
        if let Some(fields) = job.as_object_mut() {
            fields.remove("job_id");
        }
        if let Some(file) = &self.params_file {
            job["params"] = Value::Array(read_params(file, parameters).await?);
            if let Some(named) = parameters.named() {
                job["parameters"] = named;
            }
        } else {
            for (field, value) in parameters.fields()? {
                job[field] = value;
            }
            job["count"] = self.count.into();
            if let Some(seed) = self.seed {
                job["seed"] = seed.into();
            }
        }
        let batch = relay.post_json(BATCHES, &job).await?;
        let text = |value: &Value| printable_line(value.as_str().unwrap_or_default());
        let group = batch["group"].as_str().unwrap_or_default();
        if watches {
            let group = JobId::parse(&format!("group:{group}"));
            let group = group.context("the relay's answer has no group")?;
            return Ok(watch(relay, &[group], false, PreviewMode::Off).await);
        }
        let jobs = batch["jobs"].as_array().map(Vec::as_slice);
        let jobs = jobs.unwrap_or_default();
        for job in jobs {
            print_line(text(&job["job_id"]));
        }
        let count = match jobs.len() {
            1 => "1 job".to_owned(),
            count => format!("{count} jobs"),
        };
        print_note(format_args!(
            "{count} in the group {}: comfy-relay watch group:{0}",
            text(&batch["group"]),
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// The parameters of each job: those of the file before those of all.
async fn read_params(
    file: &Path,
    parameters: &SubmittedParameters<'_>,
) -> anyhow::Result<Vec<Value>> {
    let name = file.display();
    let text = if file == Path::new(STDIN) {
        std::io::read_to_string(std::io::stdin())
    } else {
        tokio::fs::read_to_string(file).await
    };
    let text = text.with_context(|| format!("cannot read {name}"))?;
    let mut all = Vec::new();
    for (number, params) in parse(&text, &name.to_string())?.into_iter().enumerate() {
        let Value::Object(own) = params else {
            bail!(
                "the parameters of job {} in {name} are not an object, such as {{\"3.seed\": 7}}",
                number + 1
            );
        };
        all.push(parameters.of_job(own)?);
    }
    if all.is_empty() {
        bail!("{name} has no parameters: expected a list of objects, or one object a line");
    }
    Ok(all)
}

/// The values of a JSON list, or one a line.
fn parse(text: &str, name: &str) -> anyhow::Result<Vec<Value>> {
    // Some editors put it before the text.
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).with_context(|| format!("{name} is not a list in JSON"));
    }
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let values = lines.map(|(number, line)| {
        serde_json::from_str(line).map_err(|_| {
            let line = number + 1;
            anyhow!(
                "line {line} of {name} is not JSON: expected a list of objects, or one object a line"
            )
        })
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_a_list_or_one_object_a_line() {
        let wanted = [json!({"3.seed": 1}), json!({"3.seed": 2})];
        for text in [
            "\u{feff}[{\"3.seed\": 1}, {\"3.seed\": 2}]",
            " [{\"3.seed\": 1},\n {\"3.seed\": 2}]\n",
            "{\"3.seed\": 1}\r\n\n{\"3.seed\": 2}",
        ] {
            assert_eq!(parse(text, "p").unwrap(), wanted);
        }
        let error = parse("{\"3.seed\": 1}\n{", "p").unwrap_err();
        assert!(error.to_string().starts_with("line 2 of p is not JSON: "));
        assert!(parse("[{]", "p").is_err());
    }
}
