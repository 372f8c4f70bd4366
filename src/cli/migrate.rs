//! `comfy-relay migrate`: brings the tables up to date, or prints the SQL that does.

use std::process::ExitCode;

use anyhow::anyhow;

use super::exit_code::WrongSetting;
use super::options::database::{DatabaseOptions, create_folder};
use crate::cli::output::{print_line, print_text};
use crate::config::{Database, SchemaName, StoreConfig};
use crate::store::{Refusal, Store};

/// The role for which SQL is printed where no database is named.
const ROLE: &str = "relay";

/// Create the tables in the database, or bring them up to date
///
/// serve does so at its start. Run this with another role where the role of serve may not create
/// tables: then serve runs as soon as they are up to date.
#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {
    /// Print the SQL instead: what the PostgreSQL database lacks, with the rights that its user needs;
    /// everything where no database is named
    #[arg(long)]
    print: bool,

    /// The PostgreSQL schema of the tables
    #[arg(
        long = "db-schema",
        env = "DB_SCHEMA",
        default_value_t,
        value_name = "NAME"
    )]
    schema: SchemaName,

    #[command(flatten)]
    database: DatabaseOptions,
}

pub(super) async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let settings = args.database.settings();
    if args.print && !args.database.is_set() {
        print_text(Store::schema_sql(&args.schema, ROLE));
        return Ok(ExitCode::SUCCESS);
    }
    let config = StoreConfig {
        database: args.database.database().map_err(WrongSetting)?,
        schema: args.schema,
        ..StoreConfig::default()
    };
    create_folder(&config.database).map_err(WrongSetting)?;
    let wrong = |reason: &dyn std::fmt::Display| {
        let database = &config.database;
        WrongSetting(anyhow!(
            "cannot use the database {database}: {reason} ({settings})"
        ))
    };
    let store = Store::open(&config);
    if args.print {
        let Database::Postgres(postgres) = &config.database else {
            return Err(
                wrong(&"--print is for PostgreSQL; migrate creates the tables of SQLite").into(),
            );
        };
        if let Some(refusal) = Refusal::of_connection(&config.database).await {
            return Err(wrong(&refusal).into());
        }
        let role = postgres.user.as_deref().unwrap_or(ROLE);
        match store.pending_sql(role).await? {
            Some(sql) => print_text(sql),
            None => print_line(format_args!("-- Nothing to do: the tables are up to date.")),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(refusal) = Refusal::find(&config).await {
        return Err(wrong(&refusal).into());
    }
    store.migrate().await?;
    print_line(format_args!(
        "The tables in {} are up to date.",
        config.database
    ));
    Ok(ExitCode::SUCCESS)
}
