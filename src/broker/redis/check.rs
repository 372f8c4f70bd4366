//! Whether Redis can be used.

use std::io;

use jiff::Timestamp;
use redis::{RedisResult, cmd};

use super::connect::{connect, connect_for_messages, in_time};
use super::messages::MessageConnection;
use super::names::ChannelNames;
use super::topology::TopologyReader;
use crate::config::RedisConfig;
use crate::job::JobId;

/// Connects for commands and for messages, as a relay does, to each master of a Redis Cluster. Answers with the time of the
/// server's clock, which users with few permissions may not ask; fails with the reason why it cannot be used.
pub(in crate::broker) async fn check(config: &RedisConfig) -> Result<Option<Timestamp>, String> {
    if !config.is_cluster {
        let checked = check_server(config).await;
        let checked = checked.map_err(|error| error.to_string())?;
        if checked.is_of_cluster {
            let text = "it is a node of a Redis Cluster; write redis+cluster:// in its address";
            return Err(text.to_owned());
        }
        return Ok(checked.time);
    }
    let topology = TopologyReader::new(config).read().await;
    let topology = topology.map_err(|error| error.to_string())?;
    let mut time = None;
    for (host, _) in topology.masters {
        let config = config.node(host);
        let checked = check_server(&config).await;
        time = (checked.map_err(|error| format!("{error} (at {config})"))?).time;
    }
    Ok(time)
}

/// What a server says of itself, as far as the user may ask.
struct CheckedServer {
    time: Option<Timestamp>,
    /// It takes keys of its own slots alone.
    is_of_cluster: bool,
}

async fn check_server(config: &RedisConfig) -> RedisResult<CheckedServer> {
    let mut connection = connect(config).await?;
    MessageConnection::open(config).await?;
    let channels = ChannelNames::new(&config.prefix, config.has_sharded_channels);
    let mut messages = connect_for_messages(config).await?;
    let any = JobId::parse("any").map_err(io::Error::other)?;
    let signals = [channels.wake().to_owned(), channels.previews(&any)];
    in_time(config, messages.subscribe(&signals)).await?;
    if config.takes_reports {
        in_time(config, messages.psubscribe(channels.reports())).await?;
    }
    let time: RedisResult<(i64, i32)> = cmd("TIME").query_async(&mut connection).await;
    let time = time
        .ok()
        .map(|(seconds, micros)| Timestamp::new(seconds, micros.saturating_mul(1_000)));
    let mut ask = cmd("INFO");
    let info: RedisResult<String> = ask.arg("server").query_async(&mut connection).await;
    Ok(CheckedServer {
        time: time.and_then(Result::ok),
        is_of_cluster: info.is_ok_and(|info| info.contains("redis_mode:cluster")),
    })
}
