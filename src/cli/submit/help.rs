//! The help of `submit` for one workflow, with a flag for each of its parameters.

use clap::{Arg, ArgAction, Command};
use serde_json::{Map, Value};

use crate::cli::output::printable_line;
use crate::cli::parameter_schema::{limits, type_of, value_name};
use crate::cli::workflow_parameters::SEED;

/// The help of `submit` with the flags of a workflow.
pub(super) fn text(program: Command, workflow: &str, description: &Value) -> String {
    let mut program = program.mut_subcommand("submit", |submit| {
        with_parameters(submit, workflow, description)
    });
    program.build();
    let submit = program.find_subcommand_mut("submit");
    submit
        .map(|submit| submit.render_long_help().to_string())
        .unwrap_or_default()
}

/// `submit` with the flags of a workflow, as the relay describes it.
fn with_parameters(submit: Command, workflow: &str, description: &Value) -> Command {
    let none = Map::new();
    let schemas = description["schema"]["properties"]
        .as_object()
        .unwrap_or(&none);
    let required = description["schema"]["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|it| it == name));
    let title = description["title"].as_str().unwrap_or(workflow);
    let text = description["description"].as_str().unwrap_or_default();
    let about = printable_line(&format!("{title}. {text}"));
    let mut submit = submit.about(about.clone()).long_about(about);
    let mut by_name = Vec::new();
    let heading = format!("Parameters of {}", printable_line(workflow));
    for (name, schema) in schemas {
        let help = help_of(name, schema, is_required(name));
        let flag = name.replace('_', "-");
        if name == SEED {
            submit = submit.mut_arg(SEED, |arg| arg.help(help).help_heading(heading.clone()));
        } else if submit
            .get_arguments()
            .any(|arg| arg.get_long() == Some(&flag))
        {
            by_name.push(format!("-p {name}={}", value_name(schema)));
        } else {
            let arg = Arg::new(format!("workflow {name}")).long(flag);
            let arg = arg.value_name(value_name(schema)).action(ArgAction::Set);
            submit = submit.arg(arg.help(help).help_heading(heading.clone()));
        }
    }
    if !by_name.is_empty() {
        let flags = by_name.join(", ");
        submit = submit.after_help(format!(
            "{heading} whose flags have another meaning: {flags}"
        ));
    }
    if schemas.is_empty() {
        submit = submit.after_help("The workflow has no parameters of its own: set inputs with -p");
    }
    submit
}

fn help_of(name: &str, schema: &Value, is_required: bool) -> String {
    let mut parts = vec![
        schema["description"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    ];
    parts.extend(limits(schema));
    if type_of(schema) == "image" {
        parts.push(format!(
            "the name of a file that the server has; --input {name}=FILE sends one"
        ));
    }
    if is_required {
        parts.push("required".to_owned());
    }
    if let Some(default) = schema.get("default") {
        let default = default
            .as_str()
            .map_or_else(|| default.to_string(), |it| format!("{it:?}"));
        parts.push(format!("[default: {default}]"));
    }
    parts.retain(|part| !part.is_empty());
    printable_line(&parts.join("; "))
}
