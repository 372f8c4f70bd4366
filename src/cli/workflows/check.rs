//! `comfy-relay workflow check`: lists which ComfyUI servers can run a workflow, and why others cannot.

use std::process::ExitCode;

use console::Style;
use serde_json::{Value, json};

use crate::cli::api_client::{ApiClient, ApiRefusal, RelayOptions};
use crate::cli::exit_code::FAILED;
use crate::cli::output::print_line;
use crate::cli::submit::{SubmittedParameters, backend_field};
use crate::cli::table::{Cell, Table};
use crate::cli::workflow_file::{self, GivenWorkflow};
use crate::cli::workflow_parameters::{self, GivenParam, parse_param};
use crate::job::printable_json;
use crate::workflow::WorkflowError;

/// The path of the check.
const CHECK: &str = "api/anime/workflows/check";

/// List which ComfyUI servers can run a workflow, and what is wrong with it on the others
///
/// Nothing is submitted. Exits with 0 if at least one server can run it, else with 1. What is wrong with its header is listed first,
/// all of it; then no server is asked.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WorkflowCheckArgs {
    /// A file in API format, a PNG file that ComfyUI has saved, or the name of a workflow in the relay's folder
    #[arg(value_name = "FILE|NAME")]
    workflow: String,

    /// Set an input: NODE.INPUT=VALUE, where NODE is a node's id or title, or NAME=VALUE for a parameter of the workflow; can be
    /// repeated
    #[arg(long = "param", short = 'p', value_parser = parse_param, value_name = "NODE.INPUT=VALUE")]
    params: Vec<GivenParam>,

    /// Ask this ComfyUI server alone, or those with these labels, such as gpu=a100,room=2; can be repeated
    #[arg(long = "backend", value_name = "NAME|KEY=TEXT")]
    backends: Vec<String>,

    /// Print the relay's answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    relay: RelayOptions,
}

pub(super) async fn run(args: WorkflowCheckArgs) -> anyhow::Result<ExitCode> {
    let relay = args.relay.client()?;
    let checked = match GivenWorkflow::read(&args.workflow, "check").await {
        Ok(workflow) => ask(&args, &workflow, &relay).await,
        Err(error) => Err(error),
    };
    let answer = match checked {
        Ok(answer) => answer,
        Err(error) => {
            let Some(problems) = header_problems(&error) else {
                return Err(error);
            };
            for line in problems.lines() {
                print_line(line);
            }
            return Ok(ExitCode::from(FAILED));
        }
    };
    if args.json {
        print_line(printable_json(&answer.to_string()));
    } else {
        for line in table(&answer).lines() {
            print_line(line);
        }
    }
    if answer["can_run"] == true {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(FAILED))
}

/// What the relay has found.
async fn ask(
    args: &WorkflowCheckArgs,
    workflow: &GivenWorkflow,
    relay: &ApiClient,
) -> anyhow::Result<Value> {
    let given = workflow_parameters::read(args.params.clone(), workflow, relay).await;
    let parameters = match given {
        Ok(given) => SubmittedParameters { workflow, given },
        Err(error) => return Err(explain(&args.workflow, workflow, error)),
    };
    let mut asked = json!({
        "workflow": workflow.to_json(),
        "backend": backend_field(&args.backends),
    });
    for (field, value) in parameters.fields()? {
        asked[field] = value;
    }
    let checked = relay.post_json(CHECK, &asked).await;
    checked.map_err(|error| explain(&args.workflow, workflow, error))
}

/// Says of a name that the relay refuses that there is no such file, either.
fn explain(name: &str, workflow: &GivenWorkflow, error: anyhow::Error) -> anyhow::Error {
    let is_name = matches!(workflow, GivenWorkflow::Named(_));
    if !is_name || !workflow_file::may_be_file(name, &error) {
        return error;
    }
    error.context(format!(
        "there is no file {name:?}, and as a name it cannot be checked"
    ))
}

/// What is wrong with a header, of a file or of a workflow of the relay's.
fn header_problems(error: &anyhow::Error) -> Option<Table> {
    let mut table = Table::new(&["PLACE", "PROBLEM"]);
    if let Some(WorkflowError::Header { problems, .. }) = error.downcast_ref() {
        for problem in problems {
            table.add(
                [&problem.place, &problem.message]
                    .map(|it| Cell::new(it))
                    .into(),
            );
        }
        return Some(table);
    }
    let refusal: &ApiRefusal = error.downcast_ref()?;
    let problems = refusal.details["header"].as_array()?;
    for problem in problems {
        let word = |name: &str| Cell::new(problem[name].as_str().unwrap_or_default());
        table.add(vec![word("place"), word("message")]);
    }
    Some(table)
}

/// A row for each problem; one for a server that has none.
fn table(answer: &Value) -> Table {
    let mut table = Table::new(&["SERVER", "CAN RUN", "NODE", "INPUT", "PROBLEM"]);
    for backend in answer["backends"].as_array().into_iter().flatten() {
        let (verdict, style) = match backend["can_run"].as_bool() {
            Some(true) => ("yes", Style::new().green()),
            Some(false) => ("no", Style::new().red()),
            None => ("not known", Style::new().yellow()),
        };
        let problems = backend["problems"].as_array().into_iter().flatten();
        let mut rows: Vec<[String; 3]> = problems.map(problem).collect();
        if let Some(total) = backend["problems_total"].as_u64() {
            let more = total.saturating_sub(rows.len() as u64);
            rows.push([String::new(), String::new(), format!("and {more} more")]);
        }
        if let Some(message) = backend["message"].as_str() {
            rows.insert(0, [String::new(), String::new(), message.to_owned()]);
        }
        if rows.is_empty() {
            rows.push(Default::default());
        }
        let name = backend["name"].as_str().unwrap_or_default();
        let heads = [(name, verdict)].into_iter();
        let heads = heads.chain(std::iter::repeat(("", "")));
        for ((name, verdict), [node, input, problem]) in heads.zip(rows) {
            table.add(vec![
                Cell::new(name),
                Cell::new(verdict).styled(style.clone()),
                Cell::new(&node),
                Cell::new(&input),
                Cell::new(&problem),
            ]);
        }
    }
    table
}

/// The node, the input, and what is wrong.
fn problem(problem: &Value) -> [String; 3] {
    let word = |name: &str| problem[name].as_str().unwrap_or_default();
    let node = match (word("node"), word("class_type")) {
        ("", _) => String::new(),
        (node, class) => format!("{node} {class}"),
    };
    [node, word("input").to_owned(), word("message").to_owned()]
}
