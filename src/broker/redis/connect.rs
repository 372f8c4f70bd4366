//! How a connection to Redis is made.

use std::io;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, TlsCertificates,
};
use tokio::time::timeout;

use super::RedisShared;
use crate::config::{RedisConfig, Secret};

impl RedisShared {
    /// A connection for commands.
    pub(super) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.timeout))
            .set_response_timeout(Some(self.config.timeout));
        let client = client(&self.config).await?;
        client
            .get_multiplexed_async_connection_with_config(&limits)
            .await
    }

    /// A connection for messages.
    pub(super) async fn connect_for_messages(&self) -> RedisResult<PubSub> {
        let client = client(&self.config).await?;
        let connecting = timeout(self.config.timeout, client.get_async_pubsub());
        connecting.await.unwrap_or_else(|_| Err(timed_out()))
    }
}

/// The error of a server that does not answer in time.
pub(super) fn timed_out() -> RedisError {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the server does not answer in time",
    )
    .into()
}

/// The file of authorities is read for each connection: it may have been replaced.
async fn client(config: &RedisConfig) -> RedisResult<Client> {
    let (host, port) = (config.host.clone(), config.port);
    let address = if config.has_tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut login = RedisConnectionInfo::default()
        .set_db(config.database.into())
        // Users with few permissions may not have this one.
        .set_skip_set_lib_name();
    if let Some(user) = &config.user {
        login = login.set_username(user);
    }
    if let Some(password) = config.password.as_ref().map(Secret::expose) {
        login = login.set_password(password);
    }
    let settings = TcpSettings::default().set_nodelay(true);
    let info = address.into_connection_info()?;
    let info = info.set_redis_settings(login).set_tcp_settings(settings);
    let Some(file) = &config.ca_file else {
        return Client::open(info);
    };
    let authorities = tokio::fs::read(file).await.map_err(|error| {
        let text = format!("cannot read {}: {error}", file.display());
        io::Error::new(error.kind(), text)
    })?;
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(authorities),
    };
    Client::build_with_tls(info, certificates)
}
