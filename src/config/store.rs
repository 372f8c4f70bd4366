//! [`StoreConfig`]: where jobs are stored.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::duration::parse_days;
use super::postgres::PostgresConfig;
use super::postgres_url;
use super::tables::{PipelineTable, SchemaName};

/// Where jobs are stored.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct StoreConfig {
    /// The database.
    #[arg(skip = Database::in_memory())]
    pub database: Database,

    /// The largest number of connections to the database.
    #[arg(skip = StoreConfig::default().connections)]
    pub connections: u32,

    /// The PostgreSQL schema of the relay's own tables; SQLite has no schemas, and its tables start with comfy_relay_
    #[arg(
        long = "db-schema",
        env = "DB_SCHEMA",
        default_value_t,
        value_name = "NAME"
    )]
    pub schema: SchemaName,

    /// The pipeline's table of jobs, where the state of each job is written whose id is that of a row: TABLE (found by
    /// the search path), SCHEMA.TABLE or off
    #[arg(
        long = "pipeline-table",
        env = "PIPELINE_TABLE",
        default_value_t,
        value_name = "TABLE"
    )]
    pub pipeline_table: PipelineTable,

    /// Whether jobs whose id is not that of a row are inserted into the pipeline's table
    #[arg(
        long = "pipeline-insert",
        env = "PIPELINE_INSERT",
        default_value = "off",
        value_parser = parse_switch,
        action = clap::ArgAction::Set,
        value_name = "on|off"
    )]
    pub pipeline_insert: bool,

    /// How many days finished jobs and node runs are kept in the relay's tables; for ever by default
    #[arg(
        long = "retention-days",
        env = "RETENTION_DAYS",
        value_parser = parse_days,
        value_name = "DAYS"
    )]
    pub retention: Option<Duration>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            database: Database::in_memory(),
            connections: 4,
            schema: SchemaName::default(),
            pipeline_table: PipelineTable::default(),
            pipeline_insert: false,
            retention: None,
        }
    }
}

/// Reads a switch. Files of settings have `true` and `false` for it.
pub(crate) fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("expected on or off"),
    }
}

/// A database, by its kind and address.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// `postgres://USER:PASSWORD@HOST:PORT/NAME`.
    Postgres(Box<PostgresConfig>),
    /// A file; `:memory:` for a database that ends with the program.
    Sqlite(PathBuf),
}

impl Database {
    /// An SQLite database that ends with the program.
    pub fn in_memory() -> Self {
        Self::Sqlite(PathBuf::from(":memory:"))
    }

    /// Whether the database ends with the program.
    pub fn is_in_memory(&self) -> bool {
        *self == Self::in_memory()
    }
}

/// The address, without the password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(config) => write!(f, "{config}"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err("expected sqlite:PATH".to_owned());
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        for scheme in ["postgres://", "postgresql://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return Ok(Self::Postgres(Box::new(postgres_url::parse(rest)?)));
            }
        }
        Err("expected postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite:PATH".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_their_database() {
        assert_eq!(
            "sqlite:a/b.db".parse(),
            Ok(Database::Sqlite("a/b.db".into()))
        );
        assert_eq!(
            "sqlite:///a.db".parse(),
            Ok(Database::Sqlite("/a.db".into()))
        );
        assert!(matches!(
            "postgres://u:p@h:1/n".parse(),
            Ok(Database::Postgres(_))
        ));
        for wrong in [
            "",
            "sqlite:",
            "mysql://h/n",
            "postgres://h",
            "postgres://h/",
            "h",
        ] {
            assert!(wrong.parse::<Database>().is_err(), "{wrong}");
        }
    }
}
