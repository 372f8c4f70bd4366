//! Whether the database can be used: reached, with the rights and the tables that the relay needs.

use std::path::Path;

use jiff::Timestamp;

use super::finding::Finding;
use super::{clock, folders};
use crate::config::{Database, PipelineTable, StoreConfig};
use crate::store::{Refusal, Store, StoreInspection};

/// `settings` are those that name the database.
pub(super) async fn check(config: &StoreConfig, settings: &str) -> Vec<Finding> {
    let check = "database";
    let database = &config.database;
    if let Database::Sqlite(path) = database
        && !database.is_in_memory()
        && !path.exists()
    {
        // Opening it would make it.
        let folder = path.parent().unwrap_or(Path::new("."));
        return vec![folders::writable("database: folder", folder, settings)];
    }
    if let Some(refusal) = Refusal::find(config).await {
        let text = format!("{database} refuses the relay: {refusal}");
        return vec![Finding::fault(
            check,
            text,
            format!("correct the setting ({settings}), or give the user the right"),
        )];
    }
    let store = Store::open(config);
    let inspection = match store.inspect().await {
        Ok(inspection) => inspection,
        Err(reason) => {
            let text = format!("cannot reach {database}: {reason}");
            let advice =
                format!("start it, or correct its address ({settings}); serve waits for it");
            return vec![Finding::fault(check, text, advice)];
        }
    };
    let here = Timestamp::now();
    let mut findings = vec![tables(database, &inspection)];
    findings.extend(pipeline(config, &inspection));
    if let Database::Postgres(_) = database {
        findings.push(clock::check(
            "clock of the database".to_owned(),
            inspection.clock,
            here,
        ));
    }
    findings
}

/// Whether the relay's tables are those that this program knows.
fn tables(database: &Database, inspection: &StoreInspection) -> Finding {
    let check = "database";
    let StoreInspection { applied, known, .. } = inspection;
    if *applied == 0 {
        Finding::ok(
            check,
            format!("{database} can be used; the tables are made at the start"),
        )
    } else if applied < known {
        let text = format!(
            "the tables in {database} are of an earlier release ({applied} of {known} migrations)"
        );
        Finding::warn(
            check,
            text,
            "make a backup: the start brings them up to date",
        )
    } else if applied > known {
        let text = format!(
            "the tables in {database} are of a later release: it has {applied} migrations, and this program knows {known}"
        );
        Finding::warn(
            check,
            text,
            "run the later release, or restore the backup from before it",
        )
    } else {
        Finding::ok(
            check,
            format!("the tables in {database} are up to date ({applied} migrations)"),
        )
    }
}

/// Whether the pipeline's table can be written. `None` if none is wanted.
fn pipeline(config: &StoreConfig, inspection: &StoreInspection) -> Option<Finding> {
    let check = format!("pipeline table {}", config.pipeline_table);
    let Some(pipeline) = &inspection.pipeline else {
        let is_wanted = config.pipeline_table != PipelineTable::Off;
        let text =
            "there is no such table with a column id: states are in the relay's own tables alone";
        return is_wanted.then(|| Finding::ok(check, text.to_owned()));
    };
    let table = &pipeline.table;
    Some(if !pipeline.is_writable {
        let text = format!("the relay may not read and update {table}: its rows stay as they are");
        Finding::warn(
            check,
            text,
            format!("GRANT SELECT, UPDATE ON {table} TO the user of the relay"),
        )
    } else if pipeline.has_row_security {
        let text =
            format!("policies of {table} apply to the relay: rows that they hide are not mirrored");
        Finding::warn(check, text, "let a policy admit the user of the relay")
    } else {
        Finding::ok(check, format!("jobs are mirrored to {table}"))
    })
}
