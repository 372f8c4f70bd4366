//! [`Pipeline`]: the pipeline's table, as the catalogue of its database describes it.

use diesel::QueryableByName;
use diesel::sql_types::{Bool, Integer, Nullable, Text};
use uuid::Uuid;

use crate::store::names::Names;

/// The columns of the table `jobs` that an earlier release made for itself, in their order. It is no pipeline's.
const RELEASED_COLUMNS: [&str; 13] = [
    "id",
    "job_key",
    "prompt_id",
    "backend",
    "job_type",
    "status",
    "output_path",
    "error_message",
    "metadata",
    "created_at",
    "started_at",
    "completed_at",
    "relay_made",
];

/// A domain has the type below it, however many domains are between.
const POSTGRES_COLUMNS: &str = "WITH RECURSIVE target AS (SELECT to_regclass(CASE WHEN $1 IS NULL \
        THEN quote_ident($2) ELSE quote_ident($1) || '.' || quote_ident($2) END)::oid AS oid), \
    base AS (SELECT attnum, pg_type.oid AS type, typbasetype, typtype, \
            CASE WHEN typtype = 'd' THEN typtypmod ELSE atttypmod END AS typmod \
        FROM target JOIN pg_attribute ON attrelid = target.oid JOIN pg_type ON pg_type.oid = atttypid \
        WHERE attnum > 0 AND NOT attisdropped \
        UNION ALL SELECT attnum, pg_type.oid, pg_type.typbasetype, pg_type.typtype, \
            CASE WHEN pg_type.typtype = 'd' THEN pg_type.typtypmod ELSE base.typmod END \
        FROM base JOIN pg_type ON pg_type.oid = base.typbasetype WHERE base.typtype = 'd') \
    SELECT nspname::text AS schema, relname::text AS relation, attname::text AS name, \
        format('%I.%I', (SELECT n.nspname FROM pg_namespace n WHERE n.oid = declared.typnamespace), \
            declared.typname) AS declared, \
        kind.typname::text AS kind, \
        CASE WHEN kind.typname IN ('varchar', 'bpchar') AND typmod > 4 THEN typmod - 4 END AS length, \
        attnotnull AS is_required, row_security_active(target.oid) AS has_row_security \
    FROM target JOIN pg_class ON pg_class.oid = target.oid \
    JOIN pg_namespace ON pg_namespace.oid = relnamespace \
    JOIN pg_attribute ON attrelid = target.oid AND attnum > 0 AND NOT attisdropped \
    JOIN pg_type AS declared ON declared.oid = atttypid \
    JOIN base ON base.attnum = pg_attribute.attnum AND base.typtype <> 'd' \
    JOIN pg_type AS kind ON kind.oid = base.type ORDER BY pg_attribute.attnum";

const SQLITE_COLUMNS: &str = "SELECT COALESCE($1, 'main') AS schema, $2 AS relation, name, '' AS declared, \
    CASE WHEN type LIKE '%INT%' THEN 'int8' ELSE 'text' END AS kind, NULL AS length, \
    CAST(\"notnull\" AS BOOLEAN) AS is_required, false AS has_row_security \
    FROM pragma_table_info($2) ORDER BY cid";

/// A column of the pipeline's table.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct PipelineColumn {
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    relation: String,
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    /// Its type as it was declared, without a length: a value that is too long is refused, not cut.
    #[diesel(sql_type = Text)]
    declared: String,
    /// The name of the type below all domains.
    #[diesel(sql_type = Text)]
    kind: String,
    /// The most characters it takes.
    #[diesel(sql_type = Nullable<Integer>)]
    length: Option<i32>,
    #[diesel(sql_type = Bool)]
    pub(super) is_required: bool,
    #[diesel(sql_type = Bool)]
    has_row_security: bool,
}

/// How metadata is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetadataKind {
    /// The database merges objects itself.
    Jsonb,
    /// Text that holds JSON.
    Text,
}

/// The pipeline's table.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    /// Its quoted name, with its schema.
    pub(super) name: String,
    /// Whether policies hide or refuse rows.
    pub(super) has_row_security: bool,
    pub(super) id: PipelineColumn,
    columns: Vec<PipelineColumn>,
    is_postgres: bool,
}

impl Pipeline {
    /// The query for the columns of a table, which takes the table's schema and name.
    pub(super) fn columns(names: &Names) -> &'static str {
        match names {
            Names::Postgres(_) => POSTGRES_COLUMNS,
            Names::Sqlite => SQLITE_COLUMNS,
        }
    }

    /// The table with these columns; `None` if it has none, or no `id`, or is the relay's own.
    pub(super) fn of(columns: Vec<PipelineColumn>, names: &Names) -> Option<Self> {
        let id = columns.iter().find(|column| column.name == "id")?.clone();
        let is_released = columns
            .iter()
            .map(|column| &*column.name)
            .eq(RELEASED_COLUMNS);
        let is_own = matches!(names, Names::Postgres(schema) if *schema == id.schema);
        if is_released || is_own {
            return None;
        }
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        Some(Self {
            name: format!("{}.{}", quoted(&id.schema), quoted(&id.relation)),
            has_row_security: id.has_row_security,
            is_postgres: matches!(names, Names::Postgres(_)),
            id,
            columns,
        })
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.is_postgres
    }

    pub(super) fn column(&self, name: &str) -> Option<&PipelineColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// How metadata is merged; `None` without such a column, or if it is of a type that holds no object.
    pub(super) fn metadata(&self) -> Option<MetadataKind> {
        match &*self.column("metadata")?.kind {
            "jsonb" => Some(MetadataKind::Jsonb),
            "json" | "text" | "varchar" | "bpchar" | "citext" => Some(MetadataKind::Text),
            _ => None,
        }
    }

    /// Whether a job's id can be that of a row.
    pub(super) fn can_name_a_row(&self, job_key: &str) -> bool {
        // Not `02`, which is another job than `2`.
        let digits = job_key.strip_prefix('-').unwrap_or(job_key);
        let is_canonical = (digits == "0" && job_key == "0")
            || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
        match &*self.id.kind {
            "int2" => is_canonical && job_key.parse::<i16>().is_ok(),
            "int4" => is_canonical && job_key.parse::<i32>().is_ok(),
            "int8" => is_canonical && job_key.parse::<i64>().is_ok(),
            "numeric" => is_canonical && !digits.is_empty(),
            "uuid" => job_key.len() == 36 && Uuid::try_parse(job_key).is_ok(),
            "text" | "varchar" | "bpchar" | "citext" => true,
            _ => false,
        }
    }

    /// A parameter of the type text as a value of a column.
    pub(super) fn cast(&self, parameter: usize, column: &PipelineColumn) -> String {
        if self.is_postgres {
            format!("CAST(CAST(${parameter} AS text) AS {})", column.declared)
        } else {
            format!("${parameter}")
        }
    }
}

impl PipelineColumn {
    pub(super) fn quoted(&self) -> String {
        format!("\"{}\"", self.name)
    }

    /// A text of at most as many characters as the column takes.
    pub(super) fn cut(&self, text: &str) -> String {
        let length = self.length.and_then(|length| usize::try_from(length).ok());
        text.chars().take(length.unwrap_or(usize::MAX)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(kind: &str) -> Pipeline {
        let id = PipelineColumn {
            schema: "public".into(),
            relation: "jobs".into(),
            name: "id".into(),
            declared: String::new(),
            kind: kind.into(),
            length: None,
            is_required: true,
            has_row_security: false,
        };
        Pipeline::of(vec![id], &Names::Sqlite).unwrap()
    }

    #[test]
    fn ids_of_jobs_name_rows_of_their_type() {
        for (kind, id, can) in [
            ("int2", "32767", true),
            ("int2", "32768", false),
            ("int4", "2147483648", false),
            ("int8", "9223372036854775807", true),
            ("int8", "9223372036854775808", false),
            ("int8", "02", false),
            ("int8", "0", true),
            ("int8", "-0", false),
            ("int8", "-7", true),
            ("int8", "1e3", false),
            ("numeric", "92233720368547758080", true),
            ("numeric", "x", false),
            ("numeric", "-", false),
            ("uuid", "6F9619FF-8b86-4d01-b42d-00cf4fc964f1", true),
            ("uuid", "6f9619ff8b864d01b42d00cf4fc964f1", false),
            ("text", "scene-1", true),
            ("bytea", "1", false),
        ] {
            assert_eq!(pipeline(kind).can_name_a_row(id), can, "{kind} {id}");
        }
    }
}
