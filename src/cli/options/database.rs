//! [`DatabaseOptions`]: the flags that name a database, whole or in parts.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::port::{VariablePort, parse_port};
use crate::config::{Database, PostgresConfig, PostgresHost, Secret, SslMode, SslRoots};

/// Where jobs are stored. Deployments from before `DATABASE_URL` set the `DB_*` variables.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub(in crate::cli) struct DatabaseOptions {
    /// postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite:PATH; by default an SQLite file in the
    /// user's data folder
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Database>,

    /// PostgreSQL's host, if no URL is given: a name, an address, the folder of a Unix socket, or
    /// several with commas between them; localhost by default
    #[arg(long, env = "DB_HOST", value_name = "HOST")]
    db_host: Option<String>,

    /// PostgreSQL's port; 5432 by default
    #[arg(long, env = "DB_PORT", value_parser = parse_port, value_name = "PORT")]
    db_port: Option<VariablePort>,

    /// The database's name
    #[arg(long, env = "DB_NAME", value_name = "NAME")]
    db_name: Option<String>,

    /// The database user; postgres by default
    #[arg(long, env = "DB_USER", value_name = "USER")]
    db_user: Option<String>,

    /// The user's password, as it is: nothing in it is decoded
    #[arg(
        long,
        env = "DB_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    db_password: Option<Secret>,

    /// Whether connections to PostgreSQL are encrypted, and whether its certificate is checked, if the
    /// URL does not say so; prefer by default
    #[arg(long, env = "DB_SSLMODE", value_name = "MODE")]
    db_sslmode: Option<SslMode>,

    /// PEM file with the authorities that may sign PostgreSQL's certificate, if the URL names none, or
    /// system for those of the operating system
    #[arg(long, env = "DB_SSLROOTCERT", value_name = "FILE")]
    db_sslrootcert: Option<String>,
}

impl DatabaseOptions {
    /// The settings that name the database, for an error about it.
    pub(in crate::cli) fn settings(&self) -> &'static str {
        if self.database_url.is_none() && self.part().is_some() {
            "--db-host, DB_HOST; --db-port, DB_PORT; --db-name, DB_NAME; --db-user, DB_USER; DB_PASSWORD"
        } else {
            "--database-url, DATABASE_URL"
        }
    }

    /// Whether a database is named.
    pub(in crate::cli) fn is_set(&self) -> bool {
        self.database_url.is_some() || self.part().is_some()
    }

    /// A part of PostgreSQL's address that is set.
    fn part(&self) -> Option<&'static str> {
        [
            ("DB_NAME", self.db_name.is_some()),
            ("DB_HOST", self.db_host.is_some()),
            ("DB_USER", self.db_user.is_some()),
            ("DB_PASSWORD", self.db_password.is_some()),
            ("DB_PORT", self.port().is_some()),
            ("DB_SSLMODE", self.db_sslmode.is_some()),
            ("DB_SSLROOTCERT", self.db_sslrootcert.is_some()),
        ]
        .into_iter()
        .find_map(|(name, is_set)| is_set.then_some(name))
    }

    /// The database that the settings name.
    pub(in crate::cli) fn database(mut self) -> anyhow::Result<Database> {
        match (self.database_url.take(), self.part()) {
            (Some(Database::Postgres(config)), _) => self.complete(*config),
            (Some(database), _) => Ok(database),
            (None, Some(part)) => {
                let config = self.postgres(part)?;
                self.complete(config)
            }
            (None, None) => Ok(Database::Sqlite(default_file()?)),
        }
    }

    /// The database that the `DB_*` settings make up, of which `part` is one.
    fn postgres(&self, part: &str) -> anyhow::Result<PostgresConfig> {
        let Some(name) = &self.db_name else {
            bail!(
                "{part} is given, but not DB_NAME (--db-name), the name of a PostgreSQL database"
            );
        };
        let mut config = PostgresConfig::new(name.clone());
        let hosts = self.db_host.as_deref().unwrap_or("localhost");
        config.hosts = hosts
            .split(',')
            .map(|host| self.host(host.trim()))
            .collect::<anyhow::Result<_>>()?;
        config.user = Some(
            self.db_user
                .clone()
                .unwrap_or_else(|| "postgres".to_owned()),
        );
        config.password.clone_from(&self.db_password);
        Ok(config)
    }

    fn host(&self, name: &str) -> anyhow::Result<PostgresHost> {
        let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let name = bare.unwrap_or(name);
        let has_port = name.contains(':') && name.parse::<Ipv6Addr>().is_err();
        if name.is_empty() || name.contains("//") || (has_port && !name.starts_with('/')) {
            bail!(
                "DB_HOST (--db-host) is not a name or address of a host, nor the folder of a socket; the port is \
                 DB_PORT's (--db-port)"
            );
        }
        let mut host = PostgresHost::new(name.to_owned());
        host.port = self.port().unwrap_or(host.port);
        Ok(host)
    }

    fn port(&self) -> Option<u16> {
        self.db_port.and_then(|port| port.0)
    }

    /// Adds what the address of a database leaves open.
    fn complete(&self, mut config: PostgresConfig) -> anyhow::Result<Database> {
        config.ssl_mode = config.ssl_mode.or(self.db_sslmode);
        let roots = self.db_sslrootcert.as_deref().map(SslRoots::from);
        config.ssl_roots = config.ssl_roots.or(roots);
        let check = config.check().map_err(anyhow::Error::msg);
        check.with_context(|| {
            format!(
                "{}; --db-sslmode, DB_SSLMODE; --db-sslrootcert, DB_SSLROOTCERT",
                self.settings()
            )
        })?;
        let password = || std::env::var("PGPASSWORD").ok().map(Secret::from);
        let given = config.password.or_else(|| self.db_password.clone());
        config.password = given.or_else(password);
        config.pass_file = config.pass_file.or_else(pass_file);
        Ok(Database::Postgres(Box::new(config)))
    }
}

/// Creates the folder of an SQLite file.
pub(in crate::cli) fn create_folder(database: &Database) -> anyhow::Result<()> {
    if let Database::Sqlite(path) = database
        && let Some(folder) = path.parent()
    {
        std::fs::create_dir_all(folder).with_context(|| {
            format!(
                "cannot create the folder {} for the database (--database-url, DATABASE_URL)",
                folder.display()
            )
        })?;
    }
    Ok(())
}

/// The file where users of libpq keep passwords.
fn pass_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PGPASSFILE").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    if cfg!(windows) {
        Some(dirs::data_dir()?.join("postgresql").join("pgpass.conf"))
    } else {
        Some(dirs::home_dir()?.join(".pgpass"))
    }
}

/// The folder where this user's relay keeps its data.
pub(in crate::cli) fn data_folder() -> Option<PathBuf> {
    Some(dirs::data_local_dir()?.join(env!("CARGO_PKG_NAME")))
}

/// `relay.db` in the folder where the user's programs keep their data.
fn default_file() -> anyhow::Result<PathBuf> {
    let folder = data_folder().context(
        "this user has no data folder; name a database with --database-url (DATABASE_URL)",
    )?;
    Ok(folder.join("relay.db"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(host: &str) -> DatabaseOptions {
        DatabaseOptions {
            database_url: None,
            db_host: Some(host.into()),
            db_port: Some(VariablePort(Some(5433))),
            db_name: Some("anime production".into()),
            db_user: Some("u@x".into()),
            db_password: Some("p/w:d?%41".to_owned().into()),
            db_sslmode: None,
            db_sslrootcert: None,
        }
    }

    #[test]
    fn database_parts_are_taken_as_they_are() {
        let options = parts("db");
        assert!(!format!("{options:?}").contains("p/w"));
        let database = options.database().unwrap();
        let Database::Postgres(config) = &database else {
            panic!("not PostgreSQL");
        };
        let password = config.password.as_ref().map(Secret::expose);
        assert_eq!(password, Some("p/w:d?%41"));
        assert_eq!(
            database.to_string(),
            "postgres://u%40x:***@db:5433/anime%20production"
        );
        for (host, names) in [
            ("::1", &["::1"][..]),
            ("[::1]", &["::1"]),
            ("/run/postgresql", &["/run/postgresql"]),
            ("a, b", &["a", "b"]),
        ] {
            let Database::Postgres(config) = parts(host).database().unwrap() else {
                panic!("not PostgreSQL");
            };
            let found: Vec<&str> = config.hosts.iter().map(|host| host.name.as_str()).collect();
            assert_eq!(found, names);
            assert!(config.hosts.iter().all(|host| host.port == 5433));
        }
        for host in ["db:5432", "a,", "http://db"] {
            assert!(parts(host).database().is_err(), "{host}");
        }
    }

    #[test]
    fn a_url_without_a_password_is_completed() {
        for (url, password) in [
            ("postgres://relay@db/jobs", "p/w:d?%41"),
            ("postgres://relay:own@db/jobs", "own"),
        ] {
            let mut options = parts("elsewhere");
            options.database_url = Some(url.parse().unwrap());
            let Database::Postgres(config) = options.database().unwrap() else {
                panic!("not PostgreSQL");
            };
            assert_eq!(config.password.as_ref().map(Secret::expose), Some(password));
            assert_eq!(config.hosts[0].name, "db");
        }
    }

    #[test]
    fn a_port_of_kubernetes_is_no_part_of_an_address() {
        let options = DatabaseOptions {
            db_port: Some(parse_port("tcp://10.0.0.1:5432").unwrap()),
            db_host: None,
            db_name: None,
            db_user: None,
            db_password: None,
            ..parts("")
        };
        assert!(!options.is_set());
    }
}
