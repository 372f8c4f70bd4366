//! [`PostgresConnector`]: opens connections to a PostgreSQL server, directly or through a pooler such as PgBouncer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::timeout;
use tokio_postgres::config::{self as driver, SslMode as DriverSslMode};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::ConnectError;
use super::open::OpenConnection;
use super::pass_file::{self, PassFileQuery};
use super::session::{IDLE_TIMEOUT, PostgresConnection, STATEMENT_TIMEOUT};
use super::tls;
use crate::config::{ChannelBinding, PostgresConfig, PostgresHost, SslMode};

/// A setting of ours that only the startup of a session makes. A server that has it has read our options: no pooler
/// that drops them stands between.
const MARK: &str = "comfy_relay.direct";

/// Opens connections to one database.
pub(in crate::store) struct PostgresConnector {
    config: PostgresConfig,
    tls: OnceLock<MakeRustlsConnect>,
    /// Whether a pooler has refused our options before, so that the next connection does not try them.
    refuses_options: AtomicBool,
}

impl PostgresConnector {
    pub(in crate::store) fn new(config: &PostgresConfig) -> Self {
        Self {
            config: config.clone(),
            tls: OnceLock::new(),
            refuses_options: AtomicBool::new(false),
        }
    }

    /// Opens a connection for queries.
    pub(in crate::store) async fn connect(&self) -> diesel::ConnectionResult<PostgresConnection> {
        let open = self.open().await?;
        let prepared = timeout(self.config.connect_timeout, PostgresConnection::new(open)).await;
        prepared.unwrap_or_else(|_| Err(ConnectError::Silent.into()))
    }

    /// Whether the database can be connected to: the error says why not.
    pub(in crate::store) async fn check(&self) -> Result<(), ConnectError> {
        self.open().await.map(drop)
    }

    /// Connects to the first host that accepts. If none does, the error is one that passes, if there is one.
    async fn open(&self) -> Result<OpenConnection, ConnectError> {
        let mut failure: Option<ConnectError> = None;
        for host in &self.config.hosts {
            if let Some(error) = &failure {
                tracing::debug!(%error, "cannot connect to PostgreSQL; trying host {}", host.name);
            }
            let opened = timeout(self.config.connect_timeout, self.open_at(host)).await;
            match opened.unwrap_or(Err(ConnectError::Silent)) {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    failure = Some(match failure {
                        Some(passing) if !passing.is_lasting() => passing,
                        _ => error,
                    });
                }
            }
        }
        Err(failure.unwrap_or(ConnectError::Silent))
    }

    async fn open_at(&self, host: &PostgresHost) -> Result<OpenConnection, ConnectError> {
        let own = self.config.options.as_deref();
        if !self.refuses_options.load(Ordering::Relaxed) {
            let ours = session_options(own);
            match self.dial(host, Some(&ours)).await {
                Err(error) if error.refuses_options() => {
                    self.refuses_options.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
                Ok(mut connection) => {
                    connection.is_pooled = !is_marked(&connection.client).await?;
                    return Ok(connection);
                }
            }
        }
        let mut connection = self.dial(host, own).await?;
        connection.is_pooled = true;
        Ok(connection)
    }

    /// Connects, encrypted or not.
    async fn dial(
        &self,
        host: &PostgresHost,
        options: Option<&str>,
    ) -> Result<OpenConnection, ConnectError> {
        let (mut config, ignored) = self.driver_config(host);
        if let Some(options) = options {
            config.options(options);
        }
        let failed = |error| ConnectError::Server {
            error,
            pass_file: ignored.clone(),
        };
        let mode = self.config.ssl_mode();
        // PostgreSQL encrypts nothing in Unix sockets.
        if mode != SslMode::Disable && !host.is_socket() {
            config.ssl_mode(match mode {
                SslMode::Prefer => DriverSslMode::Prefer,
                _ => DriverSslMode::Require,
            });
            let encrypted = config.connect(self.tls()?).await.map_err(failed);
            match encrypted {
                Err(error) if mode == SslMode::Prefer && error.is_of_encryption() => {}
                result => return result.map(OpenConnection::spawn),
            }
        }
        config.ssl_mode(DriverSslMode::Disable);
        config
            .connect(NoTls)
            .await
            .map(OpenConnection::spawn)
            .map_err(failed)
    }

    /// The settings for one host, and why the password file was not used.
    fn driver_config(&self, host: &PostgresHost) -> (Config, Option<String>) {
        let PostgresConfig {
            user,
            password,
            name,
            application_name,
            keepalives,
            ..
        } = &self.config;
        let mut config = Config::new();
        config
            .host(&host.name)
            .port(host.port)
            .dbname(name)
            .application_name(application_name)
            .connect_timeout(self.config.connect_timeout)
            .keepalives(!keepalives.is_off);
        if let Some(address) = host.address {
            config.hostaddr(address);
        }
        if let Some(user) = user {
            config.user(user);
        }
        if !self.config.tcp_user_timeout.is_zero() {
            config.tcp_user_timeout(self.config.tcp_user_timeout);
        }
        if let Some(idle) = keepalives.idle {
            config.keepalives_idle(idle);
        }
        if let Some(interval) = keepalives.interval {
            config.keepalives_interval(interval);
        }
        if let Some(count) = keepalives.count {
            config.keepalives_retries(count);
        }
        if self.config.needs_writes() {
            config.target_session_attrs(driver::TargetSessionAttrs::ReadWrite);
        }
        config.channel_binding(match self.config.channel_binding {
            ChannelBinding::Disable => driver::ChannelBinding::Disable,
            ChannelBinding::Prefer => driver::ChannelBinding::Prefer,
            ChannelBinding::Require => driver::ChannelBinding::Require,
        });
        let mut ignored = None;
        if let Some(password) = password {
            config.password(password.expose());
        } else if let Some(file) = &self.config.pass_file {
            let system_user = whoami::username().unwrap_or_default();
            let query = PassFileQuery {
                host,
                database: name,
                user: user.as_ref().unwrap_or(&system_user),
            };
            match pass_file::find(file, &query) {
                Ok(Some(password)) => {
                    config.password(password.expose());
                }
                Ok(None) => {}
                Err(reason) => ignored = Some(reason),
            }
        }
        (config, ignored)
    }

    /// Reads the authorities' certificates once.
    fn tls(&self) -> Result<MakeRustlsConnect, ConnectError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let made = MakeRustlsConnect::new(tls::client_config(&self.config)?);
        Ok(self.tls.get_or_init(|| made).clone())
    }
}

/// The options of a session: timestamps are in UTC, and neither a statement nor the pause after one in a transaction takes for
/// ever, unless the operator's own options say so.
fn session_options(own: Option<&str>) -> String {
    let (statement, idle) = (STATEMENT_TIMEOUT.as_millis(), IDLE_TIMEOUT.as_millis());
    let own = own.unwrap_or_default();
    format!(
        "-c statement_timeout={statement} -c idle_in_transaction_session_timeout={idle} {own} -c timezone=UTC -c {MARK}=on"
    )
}

async fn is_marked(client: &Client) -> Result<bool, ConnectError> {
    let query = format!("SELECT current_setting('{MARK}', true)");
    let answer = client.simple_query(&query).await;
    let answer = answer.map_err(|error| ConnectError::Server {
        error,
        pass_file: None,
    })?;
    Ok(answer
        .iter()
        .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("on"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_options_win_but_for_the_time_zone() {
        let options = session_options(Some("-c statement_timeout=1 -c timezone=CET"));
        let at = |text: &str| options.find(text).unwrap();
        assert!(at("statement_timeout=20000") < at("statement_timeout=1 "));
        assert!(at("timezone=CET") < at("timezone=UTC"), "{options}");
    }
}
