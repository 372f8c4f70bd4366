//! How a connection to Redis is made.

use std::future::Future;
use std::io;
use std::path::Path;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use crate::config::{RedisConfig, RedisHost, Secret};

/// A connection for commands.
pub(super) async fn connect(config: &RedisConfig) -> RedisResult<MultiplexedConnection> {
    let client = client(config, ProtocolVersion::RESP2).await?;
    client
        .get_multiplexed_async_connection_with_config(&limits(config))
        .await
}

/// A connection for messages.
pub(super) async fn connect_for_messages(config: &RedisConfig) -> RedisResult<PubSub> {
    let client = client(config, ProtocolVersion::RESP2).await?;
    let connecting = timeout(config.timeout, client.get_async_pubsub());
    connecting.await.unwrap_or_else(|_| Err(timed_out()))
}

/// A connection for commands that passes what is published to `messages`.
pub(super) async fn connect_with_pushes(
    config: &RedisConfig,
    messages: UnboundedSender<PushInfo>,
) -> RedisResult<MultiplexedConnection> {
    let client = client(config, ProtocolVersion::RESP3).await?;
    let limits = limits(config).set_push_sender(messages);
    client
        .get_multiplexed_async_connection_with_config(&limits)
        .await
}

fn limits(config: &RedisConfig) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.timeout))
        .set_response_timeout(Some(config.timeout))
}

/// The error of a server that does not answer in time.
pub(super) fn timed_out() -> RedisError {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the server does not answer in time",
    )
    .into()
}

/// The error of a server that has ended the connection.
pub(super) fn closed() -> RedisError {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the server has closed the connection",
    )
    .into()
}

/// Waits for an answer on the connection for messages, which has no limit of its own.
pub(super) async fn in_time<T>(
    config: &RedisConfig,
    answer: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let answered = timeout(config.timeout, answer).await;
    answered.unwrap_or_else(|_| Err(timed_out()))
}

/// A client of the server, which sentinels are asked for first where there are some. The file of authorities is read for each
/// connection: it may have been replaced.
async fn client(config: &RedisConfig, protocol: ProtocolVersion) -> RedisResult<Client> {
    let certificates = match &config.ca_file {
        Some(file) => Some(certificates(file).await?),
        None => None,
    };
    if let Some(master) = &config.sentinel_master {
        let asking = client_of_master(config, master, certificates);
        return timeout(config.timeout, asking)
            .await
            .unwrap_or_else(|_| Err(timed_out()));
    }
    let mut login = RedisConnectionInfo::default()
        .set_db(config.database.into())
        .set_protocol(protocol)
        // Users with few permissions may not have this one.
        .set_skip_set_lib_name();
    if let Some(user) = &config.user {
        login = login.set_username(user);
    }
    if let Some(password) = config.password.as_ref().map(Secret::expose) {
        login = login.set_password(password);
    }
    let info = address(config, &config.hosts[0]).into_connection_info()?;
    let info = info
        .set_redis_settings(login)
        .set_tcp_settings(tcp_settings());
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

/// A client of the server that is the master now. The first sentinel that answers says which one that is.
async fn client_of_master(
    config: &RedisConfig,
    master: &str,
    certificates: Option<TlsCertificates>,
) -> RedisResult<Client> {
    let sentinels = config.hosts.iter().map(|host| address(config, host));
    let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
        .set_client_to_redis_db(config.database.into())
        .set_client_to_redis_tcp_settings(tcp_settings());
    if let Some(user) = &config.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = config.password.as_ref().map(Secret::expose) {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(password) = config.sentinel_password.as_ref().map(Secret::expose) {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if config.has_tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build()?.async_get_client().await
}

fn address(config: &RedisConfig, host: &RedisHost) -> ConnectionAddr {
    let (host, port) = (host.name.clone(), host.port);
    if config.has_tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

async fn certificates(file: &Path) -> RedisResult<TlsCertificates> {
    let authorities = tokio::fs::read(file).await.map_err(|error| {
        let text = format!("cannot read {}: {error}", file.display());
        io::Error::new(error.kind(), text)
    })?;
    Ok(TlsCertificates {
        client_tls: None,
        root_cert: Some(authorities),
    })
}
