//! [`DatabaseOptions`]: the flags that name a database, whole or in parts.

use std::path::PathBuf;

use anyhow::{Context, bail};
use url::Url;

use crate::config::{Database, Secret};

/// Where jobs are stored. Deployments from before `DATABASE_URL` set the `DB_*` variables.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub(in crate::cli) struct DatabaseOptions {
    /// postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite:PATH; by default an SQLite file in the
    /// user's data folder
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Database>,

    /// PostgreSQL's host, if no URL is given
    #[arg(long, env = "DB_HOST", value_name = "HOST")]
    db_host: Option<String>,

    /// PostgreSQL's port
    #[arg(long, env = "DB_PORT", default_value = "5432", value_name = "PORT")]
    db_port: u16,

    /// The database's name
    #[arg(long, env = "DB_NAME", value_name = "NAME")]
    db_name: Option<String>,

    /// The database user
    #[arg(long, env = "DB_USER", value_name = "USER")]
    db_user: Option<String>,

    /// The user's password
    #[arg(
        long,
        env = "DB_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    db_password: Option<Secret>,
}

impl DatabaseOptions {
    /// The settings that name the database, for an error about it.
    pub(in crate::cli) fn settings(&self) -> &'static str {
        if self.database_url.is_none() && self.db_name.is_some() {
            "--db-host, DB_HOST; --db-port, DB_PORT; --db-name, DB_NAME; --db-user, DB_USER; DB_PASSWORD"
        } else {
            "--database-url, DATABASE_URL"
        }
    }

    /// The database that the settings name. Creates the folder of an SQLite file.
    pub(in crate::cli) fn database(self) -> anyhow::Result<Database> {
        let database =
            if self.database_url.is_none() && (self.db_host.is_some() || self.db_name.is_some()) {
                self.postgres()?
            } else if let Some(database) = self.database_url {
                database
            } else {
                Database::Sqlite(default_file()?)
            };
        if let Database::Sqlite(path) = &database
            && let Some(folder) = path.parent()
        {
            std::fs::create_dir_all(folder).with_context(|| {
                format!(
                    "cannot create the folder {} for the database (--database-url, DATABASE_URL)",
                    folder.display()
                )
            })?;
        }
        Ok(database)
    }

    /// The address that the `DB_*` settings make up.
    fn postgres(&self) -> anyhow::Result<Database> {
        let host = self.db_host.as_deref().unwrap_or("localhost");
        let wrong = |name: &str| format!("{name} does not fit into an address");
        let mut url = Url::parse("postgres://localhost/")?;
        url.set_host(Some(host)).with_context(|| wrong("DB_HOST"))?;
        let set = url.set_port(Some(self.db_port)).and_then(|()| {
            url.set_username(self.db_user.as_deref().unwrap_or("postgres"))?;
            url.set_password(self.db_password.as_ref().map(Secret::expose))
        });
        if set.is_err() {
            bail!(wrong("one of DB_PORT, DB_USER and DB_PASSWORD"));
        }
        let Some(name) = &self.db_name else {
            bail!("DB_HOST is given, but not DB_NAME (--db-name)");
        };
        url.path_segments_mut()
            .ok()
            .with_context(|| wrong("DB_NAME"))?
            .clear()
            .push(name);
        Ok(Database::Postgres(url))
    }
}

/// `relay.db` in the folder where the user's programs keep their data.
fn default_file() -> anyhow::Result<PathBuf> {
    let folder = dirs::data_local_dir().context(
        "this user has no data folder; name a database with --database-url (DATABASE_URL)",
    )?;
    Ok(folder.join(env!("CARGO_PKG_NAME")).join("relay.db"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_parts_make_an_address_that_hides_the_password() {
        let options = DatabaseOptions {
            database_url: None,
            db_host: Some("db".into()),
            db_port: 5433,
            db_name: Some("anime production".into()),
            db_user: Some("u@x".into()),
            db_password: Some("p/w:d?".to_owned().into()),
        };
        assert!(!format!("{options:?}").contains("p/w"));
        let Database::Postgres(url) = options.postgres().unwrap() else {
            panic!("not PostgreSQL");
        };
        assert_eq!(
            url.as_str(),
            "postgres://u%40x:p%2Fw%3Ad%3F@db:5433/anime%20production"
        );
        assert!(!Database::Postgres(url).to_string().contains("p%2F"));
    }
}
