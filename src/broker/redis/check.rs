//! Whether a Redis server can be used.

use jiff::Timestamp;
use redis::{RedisResult, cmd};

use super::RedisBroker;
use crate::config::RedisConfig;

/// Connects for commands and for messages, as a relay does. Answers with the time of the server's clock, which users with few
/// permissions may not ask; fails with the reason why it cannot be used.
pub(in crate::broker) async fn check(config: &RedisConfig) -> Result<Option<Timestamp>, String> {
    let shared = RedisBroker::new(config.clone(), "check").0;
    let connection = shared.connect().await;
    let mut connection = connection.map_err(|error| error.to_string())?;
    let messages = shared.connect_for_messages().await;
    messages.map_err(|error| error.to_string())?;
    let time: RedisResult<(i64, i32)> = cmd("TIME").query_async(&mut connection).await;
    let time = time
        .ok()
        .map(|(seconds, micros)| Timestamp::new(seconds, micros.saturating_mul(1_000)));
    Ok(time.and_then(Result::ok))
}
