//! The statements that write a state into the pipeline's table.
//!
//! They are SQL text, made from the catalogue: only the database knows the pipeline's columns.

use super::mirror_refusal::MirrorRefusal;
use super::pipeline::{MetadataKind, Pipeline, PipelineColumn};
use super::session::Values;
use super::state::MirroredState;
use crate::store::rows::timestamp;

/// Why metadata of another shape is left as it is.
const NOT_AN_OBJECT: &str = "it is not a JSON object and is left as it is";

/// A column, and the text that becomes its value.
pub(super) struct Assignment<'a> {
    pub(super) column: &'a PipelineColumn,
    value: Option<String>,
}

/// Reads a row's metadata, and locks the row as an update does: rows that refer to it can be written all the same.
pub(super) fn lock(pipeline: &Pipeline) -> String {
    let metadata = match pipeline.metadata() {
        Some(MetadataKind::Jsonb) => "jsonb_typeof(\"metadata\")",
        Some(MetadataKind::Text) if pipeline.is_postgres() => "CAST(\"metadata\" AS text)",
        Some(MetadataKind::Text) => "CAST(\"metadata\" AS TEXT)",
        None => "NULL",
    };
    let lock = if pipeline.is_postgres() {
        " FOR NO KEY UPDATE"
    } else {
        ""
    };
    format!(
        "SELECT {metadata} AS v FROM {} WHERE \"id\" = {}{lock}",
        pipeline.name,
        pipeline.cast(1, &pipeline.id)
    )
}

/// The id of any row.
pub(super) fn any_id(pipeline: &Pipeline) -> String {
    format!(
        "SELECT CAST(\"id\" AS text) AS v FROM {} LIMIT 1",
        pipeline.name
    )
}

/// Whether a text is a value of a column's type: a status of its enum.
pub(super) fn check(pipeline: &Pipeline, column: &PipelineColumn) -> String {
    format!(
        "SELECT 'x' AS v WHERE {} IS NOT NULL",
        pipeline.cast(1, column)
    )
}

/// What is written of a state, the status last: a check may ask for the other columns of an ended job. `metadata` is
/// what [`lock`] read.
pub(super) fn assignments<'a>(
    pipeline: &'a Pipeline,
    state: &MirroredState,
    metadata: Option<&str>,
    refused: &mut Vec<MirrorRefusal>,
) -> Vec<Assignment<'a>> {
    let mut found = Vec::new();
    let mut assign = |name: &str, value: Option<String>| {
        if let Some(column) = pipeline.column(name)
            && (value.is_some() || !column.is_required)
        {
            found.push(Assignment { column, value });
        }
    };
    let cut = |name: &str, text: &Option<String>| {
        let column = pipeline.column(name)?;
        text.as_deref().map(|text| column.cut(text))
    };
    if state.output_path.is_some() {
        assign("output_path", cut("output_path", &state.output_path));
    }
    assign("error_message", cut("error_message", &state.error_message));
    assign("completed_at", state.completed_at.map(timestamp));
    let merged = match pipeline.metadata() {
        Some(MetadataKind::Jsonb) if matches!(metadata, None | Some("object" | "null")) => {
            state.metadata.json().ok()
        }
        Some(MetadataKind::Text) => state.metadata.merged_into(metadata),
        _ => None,
    };
    match merged {
        Some(merged) => assign("metadata", Some(merged)),
        None if pipeline.column("metadata").is_some() => refused.push(MirrorRefusal {
            column: "metadata".to_owned(),
            reason: NOT_AN_OBJECT.to_owned(),
        }),
        None => {}
    }
    assign("status", Some(state.status.as_str().to_owned()));
    found
}

/// Updates columns of the row with an id.
pub(super) fn update(
    pipeline: &Pipeline,
    assignments: &[Assignment<'_>],
    id: &str,
) -> (String, Values) {
    let sets = assignments.iter().zip(1..).map(|(assignment, number)| {
        let column = assignment.column.quoted();
        let value = pipeline.cast(number, assignment.column);
        let is_metadata = assignment.column.name == "metadata";
        if is_metadata && pipeline.metadata() == Some(MetadataKind::Jsonb) {
            format!(
                "{column} = COALESCE(NULLIF({column}, 'null'::jsonb), '{{}}'::jsonb) || {value}::jsonb"
            )
        } else {
            format!("{column} = {value}")
        }
    });
    let sets: Vec<String> = sets.collect();
    let sql = format!(
        "UPDATE {} SET {} WHERE \"id\" = {}",
        pipeline.name,
        sets.join(", "),
        pipeline.cast(assignments.len() + 1, &pipeline.id)
    );
    let values = assignments
        .iter()
        .map(|assignment| assignment.value.clone());
    (sql, values.chain([Some(id.to_owned())]).collect())
}

/// Inserts a row, and returns its id: `id`, or the one that the database generates.
pub(super) fn insert(
    pipeline: &Pipeline,
    state: &MirroredState,
    id: Option<&str>,
) -> (String, Values) {
    let mut refused = Vec::new();
    let mut columns = assignments(pipeline, state, None, &mut refused);
    let mut add = |name: &str, value: Option<String>| {
        if let (Some(column), Some(_)) = (pipeline.column(name), &value) {
            columns.push(Assignment { column, value });
        }
    };
    add("id", id.map(str::to_owned));
    add("job_type", Some("comfyui".to_owned()));
    add("created_at", Some(timestamp(state.created_at)));
    let names: Vec<String> = columns.iter().map(|one| one.column.quoted()).collect();
    let values = columns.iter().zip(1..);
    let values: Vec<String> = values
        .map(|(one, number)| pipeline.cast(number, one.column))
        .collect();
    let sql = format!(
        "INSERT INTO {} ({}) VALUES ({}) RETURNING CAST(\"id\" AS text) AS v",
        pipeline.name,
        names.join(", "),
        values.join(", ")
    );
    (sql, columns.into_iter().map(|one| one.value).collect())
}
