//! Conditions of lists, as diesel cannot say them for both databases.

use std::collections::BTreeMap;

use diesel::dsl::sql;
use diesel::expression::{AsExpression, SqlLiteral, UncheckedBind};
use diesel::sql_types::{Bool, Text};

use super::names::Names;
use super::rows::labels_text;
use crate::job::Status;

type BoundText = <String as AsExpression<Text>>::Expression;

/// A condition with one parameter.
pub(super) type TagFilter = SqlLiteral<Bool, UncheckedBind<SqlLiteral<Bool>, BoundText>>;

/// Whether PostgreSQL may find labels by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelIndex {
    Used,
    Unused,
}

/// The jobs that have a value in a column. Unless it `leads`, SQLite does not use an index that begins with this column.
pub(super) fn has_value(names: &Names, column: &str, value: &str, leads: bool) -> TagFilter {
    let sign = if leads { "" } else { without_index(names) };
    let begin = format!("({sign}{column} = ");
    let has_value = sql::<Bool>(&begin).bind::<Text, _>(value.to_owned());
    has_value.sql(")")
}

/// The jobs in one of the relay's statuses.
pub(super) fn is_known(names: &Names) -> SqlLiteral<Bool> {
    let words = Status::ALL.map(Status::as_str).join("', '");
    sql(&format!("({}status IN ('{words}'))", without_index(names)))
}

/// The sign before a column that SQLite finds by no index.
fn without_index(names: &Names) -> &'static str {
    match names {
        Names::Postgres(_) => "",
        Names::Sqlite => "+",
    }
}

/// The jobs that have all these labels; `None` for all jobs.
pub(super) fn has_labels(
    names: &Names,
    labels: &BTreeMap<String, String>,
    index: LabelIndex,
) -> Option<TagFilter> {
    let (begin, end) = match (names, index) {
        // As the index `jobs_labels` has it.
        (Names::Postgres(_), LabelIndex::Used) => {
            ("(CAST(labels AS jsonb) @> CAST(", " AS jsonb))")
        }
        (Names::Postgres(_), LabelIndex::Unused) => {
            ("((CAST(labels AS jsonb) @> CAST(", " AS jsonb)) IS TRUE)")
        }
        // The keys hold no quotation marks.
        (Names::Sqlite, _) => (
            "(labels IS NOT NULL AND NOT EXISTS (SELECT 1 FROM json_each(",
            ") AS wanted WHERE json_extract(labels, '$.\"' || wanted.key || '\"') IS NOT wanted.value))",
        ),
    };
    let labels = labels_text(labels)?;
    Some(sql::<Bool>(begin).bind::<Text, _>(labels).sql(end))
}

/// The jobs in whose id, labels, group or workflow a text occurs, in upper or lower case.
pub(super) fn has_text(text: &str) -> TagFilter {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    let texts = "(lower(job_key || ' ' || COALESCE(labels, '') || ' ' || COALESCE(job_group, '') || ' ' \
                 || COALESCE(workflow, '')) LIKE ";
    sql::<Bool>(texts)
        .bind::<Text, _>(pattern)
        .sql(" ESCAPE '!')")
}
