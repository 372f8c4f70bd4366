//! [`SchemaName`] and [`PipelineTable`]: which tables are the relay's own, and which are the pipeline's.

use std::fmt;
use std::str::FromStr;

/// The longest identifier of PostgreSQL, in bytes.
const MAX_IDENTIFIER: usize = 63;

/// The PostgreSQL schema of the relay's own tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName(String);

impl SchemaName {
    /// The name, which needs no quotes but for its case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("comfy_relay".to_owned())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SchemaName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if text.is_empty()
            || text.len() > MAX_IDENTIFIER
            || !text.chars().all(is_word)
            || text.starts_with(|first: char| first.is_ascii_digit())
        {
            return Err(
                "expected at most 63 of the characters a-z, 0-9 and _, a letter or _ first",
            );
        }
        if text == "public" || text == "information_schema" || text.starts_with("pg_") {
            return Err("expected a schema that only the relay uses");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The pipeline's table of jobs, which mirrors the relay's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineTable {
    /// No table.
    Off,
    /// This table, if it exists.
    Named {
        /// Its schema; without one it is found by the search path.
        schema: Option<String>,
        /// Its name.
        table: String,
    },
}

impl Default for PipelineTable {
    fn default() -> Self {
        Self::Named {
            schema: None,
            table: "jobs".to_owned(),
        }
    }
}

impl fmt::Display for PipelineTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Named {
                schema: Some(schema),
                table,
            } => write!(f, "{schema}.{table}"),
            Self::Named {
                schema: None,
                table,
            } => f.write_str(table),
        }
    }
}

impl FromStr for PipelineTable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" | "false" => return Ok(Self::Off),
            // Where a switch is meant, no table is.
            "on" | "true" => return Err("expected TABLE, SCHEMA.TABLE or off"),
            _ => {}
        }
        let (schema, table) = match text.split_once('.') {
            Some((schema, table)) => (Some(schema.to_owned()), table.to_owned()),
            None => (None, text.to_owned()),
        };
        let is_name = |name: &str| {
            !name.is_empty() && name.len() <= MAX_IDENTIFIER && !name.contains(['.', '"', '\0'])
        };
        if !is_name(&table) || !schema.as_deref().is_none_or(is_name) {
            return Err("expected TABLE, SCHEMA.TABLE or off");
        }
        Ok(Self::Named { schema, table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_an_identifier_of_the_relays_own() {
        for name in ["comfy_relay", "relay2", "_r"] {
            assert!(name.parse::<SchemaName>().is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "", "2r", "Relay", "a.b", "a b", "a\"b", "public", "pg_x", &long,
        ] {
            assert!(name.parse::<SchemaName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_table_may_have_a_schema() {
        for name in ["jobs", "anime.jobs", "off", "Jobs"] {
            let table: PipelineTable = name.parse().unwrap();
            assert_eq!(table.to_string(), name);
        }
        assert_eq!("false".parse(), Ok(PipelineTable::Off));
        for name in ["", ".", "a.", ".b", "a.b.c", "a\"b", "on", "true"] {
            assert!(name.parse::<PipelineTable>().is_err(), "{name}");
        }
    }
}
