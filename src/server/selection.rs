//! The parameters by which callers select jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::contract::parameter::Parameter;
use super::error::ApiError;
use super::request::{Query, bad_query, parse_status};
use super::state::ServerState;
use crate::auth::Permissions;
use crate::job::{Selection, Status};
use crate::relay::JobFeed;

/// The parameters of the list of jobs.
pub(super) const LIST_PARAMETERS: [&str; 10] = [
    "status", "backend", "label", "group", "workflow", "q", "since", "until", "limit", "cursor",
];

/// The parameters of the stream of jobs.
pub(super) const FEED_PARAMETERS: [&str; 8] = [
    "status", "backend", "label", "group", "workflow", "q", "previews", INTERVAL,
];

/// The parameter that says how often a stream of jobs sends, in milliseconds.
pub(super) const INTERVAL: &str = "interval_ms";

/// The longest interval, in milliseconds: ends wait for it as well.
const MAX_INTERVAL: usize = 10_000;

/// The parameters that lists and streams have in common, as documents describe them.
pub(super) fn parameters() -> Vec<Parameter> {
    let statuses = json!({
        "type": "array",
        "items": {"type": "string", "enum": Status::ALL.map(Status::as_str)},
    });
    let labels = json!({
        "type": "array",
        "items": {"type": "string", "pattern": r#"^[^="\\]+=.*$"#},
    });
    vec![
        Parameter::query("status", "Jobs with one of these statuses.", statuses).with_commas(),
        Parameter::text("backend", "Jobs of the ComfyUI server with this name."),
        Parameter::query(
            "label",
            "Jobs that have all of these labels, each as `key=text`.",
            labels,
        ),
        Parameter::text("group", "Jobs of this group."),
        Parameter::text("workflow", "Jobs of the workflow with this name."),
        Parameter::text(
            "q",
            "A part of the job id, of a label, the group or the workflow.",
        ),
    ]
}

/// How often a stream of jobs sends, as documents describe it.
pub(super) fn interval() -> Parameter {
    let description = "At most one state and one preview of each job in so many milliseconds.";
    Parameter::number(INTERVAL, description, 0, MAX_INTERVAL)
}

/// The jobs that the parameters select among those that the caller may see.
pub(super) fn parse(query: &Query, permissions: &Permissions) -> Result<Selection, ApiError> {
    Ok(Selection {
        statuses: parse_statuses(query)?,
        backend: query.value("backend").map(str::to_owned),
        labels: parse_labels(query)?,
        group: query.value("group").map(str::to_owned),
        workflow: query.value("workflow").map(str::to_owned),
        text: query.value("q").map(str::to_owned),
        only: permissions.restricted_to(),
    })
}

/// A feed of the jobs that the parameters select.
pub(super) fn feed(
    state: &ServerState,
    query: &Query,
    permissions: &Permissions,
) -> Result<JobFeed, ApiError> {
    let selection = parse(query, permissions)?;
    let interval = query.value(INTERVAL).map_or(Ok(0), parse_interval)?;
    let feed = state.relay.feed(selection, query.flag("previews")?);
    Ok(feed.every(Duration::from_millis(interval)))
}

fn parse_interval(text: &str) -> Result<u64, ApiError> {
    let interval = text.parse().ok();
    interval
        .filter(|&it| it <= MAX_INTERVAL as u64)
        .ok_or_else(|| {
            bad_query(format!(
                "{INTERVAL} is a number of milliseconds from 0 to {MAX_INTERVAL}"
            ))
        })
}

/// Each label is `key=text`; a job has to have all of them.
fn parse_labels(query: &Query) -> Result<BTreeMap<String, String>, ApiError> {
    let mut labels = BTreeMap::new();
    for label in query.values("label") {
        let (key, text) = label
            .split_once('=')
            .filter(|(key, text)| is_label(key, text))
            .ok_or_else(|| bad_query("a label is key=text, such as label=episode=3"))?;
        labels.insert(key.to_owned(), text.to_owned());
    }
    Ok(labels)
}

/// Whether jobs can be looked for by a label: the database takes no quotation mark or backslash in its key, and no NUL.
pub(super) fn is_label(key: &str, text: &str) -> bool {
    !key.is_empty() && !key.contains(['"', '\\', '\0']) && !text.contains('\0')
}

/// Several statuses have commas between them, or the parameter is repeated. None of them means all.
fn parse_statuses(query: &Query) -> Result<Vec<Status>, ApiError> {
    let lists = query.values("status");
    let words = lists.flat_map(|list| list.split(',')).map(str::trim);
    let words = words.filter(|word| !word.is_empty());
    words.map(parse_status).collect()
}
