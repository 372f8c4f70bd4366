//! Conditions on what clients say of jobs, as diesel cannot say them for both databases.

use std::collections::BTreeMap;

use diesel::dsl::sql;
use diesel::expression::{AsExpression, SqlLiteral, UncheckedBind};
use diesel::sql_types::{Bool, Text};

use super::names::Names;
use super::rows::labels_text;

type BoundText = <String as AsExpression<Text>>::Expression;

/// A condition with one parameter.
pub(super) type TagFilter = SqlLiteral<Bool, UncheckedBind<SqlLiteral<Bool>, BoundText>>;

/// The jobs that have all these labels; `None` for all jobs.
pub(super) fn has_labels(names: &Names, labels: &BTreeMap<String, String>) -> Option<TagFilter> {
    let (begin, end) = match names {
        // As the index `jobs_labels` has it.
        Names::Postgres(_) => ("(CAST(labels AS jsonb) @> CAST(", " AS jsonb))"),
        // The keys hold no quotation marks.
        Names::Sqlite => (
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
