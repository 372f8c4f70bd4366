//! [`MessageConnection`]: subscriptions to channels of one server, sharded or not.

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{
    ErrorKind, Msg, Pipeline, PushInfo, PushKind, RedisError, RedisResult, ServerErrorKind, Value,
    cmd, from_redis_value,
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::connect::{connect_for_messages, connect_with_pushes, in_time};
use crate::config::RedisConfig;

/// A connection over which messages come.
pub(super) enum MessageConnection {
    /// Any version of Redis, and any server of a Redis Cluster for all channels.
    Plain {
        sink: PubSubSink,
        messages: PubSubStream,
        config: RedisConfig,
    },
    /// Messages of sharded channels come only in RESP3, which commands use too.
    Sharded {
        connection: MultiplexedConnection,
        pushes: UnboundedReceiver<PushInfo>,
    },
}

/// What has come.
#[derive(Debug)]
pub(super) enum Pushed {
    /// A message.
    Message(Msg),
    /// This channel is left: its slot may have moved to another node.
    Left(String),
}

/// The command that begins a subscription, and the one that ends it.
#[derive(Debug, Clone, Copy)]
enum SubscriptionCommand {
    Subscribe,
    Unsubscribe,
}

impl MessageConnection {
    pub(super) async fn open(config: &RedisConfig) -> RedisResult<Self> {
        if config.has_sharded_channels {
            let (sender, pushes) = mpsc::unbounded_channel();
            let connection = connect_with_pushes(config, sender).await?;
            return Ok(Self::Sharded { connection, pushes });
        }
        let (sink, messages) = connect_for_messages(config).await?.split();
        let config = config.clone();
        Ok(Self::Plain {
            sink,
            messages,
            config,
        })
    }

    /// Waits for the next one; `None` after the connection is lost. May be cancelled at any moment.
    pub(super) async fn next(&mut self) -> Option<Pushed> {
        match self {
            Self::Plain { messages, .. } => messages.next().await.map(Pushed::Message),
            Self::Sharded { pushes, .. } => loop {
                let push = pushes.recv().await?;
                match push.kind {
                    PushKind::Disconnection => return None,
                    PushKind::SUnsubscribe => {
                        let channel = push.data.into_iter().next()?;
                        if let Ok(channel) = from_redis_value(channel) {
                            return Some(Pushed::Left(channel));
                        }
                    }
                    _ => {
                        if let Some(message) = Msg::from_push_info(push) {
                            return Some(Pushed::Message(message));
                        }
                    }
                }
            },
        }
    }

    /// Subscribes to channels. Returns, for each, whether this server takes it.
    pub(super) async fn subscribe(&mut self, channels: Vec<String>) -> RedisResult<Vec<bool>> {
        match self {
            Self::Plain { sink, config, .. } => {
                let all_taken = vec![true; channels.len()];
                in_time(config, sink.subscribe(channels)).await?;
                Ok(all_taken)
            }
            Self::Sharded { connection, .. } => {
                change(connection, SubscriptionCommand::Subscribe, channels).await
            }
        }
    }

    pub(super) async fn unsubscribe(&mut self, channels: Vec<String>) -> RedisResult<()> {
        match self {
            Self::Plain { sink, config, .. } => in_time(config, sink.unsubscribe(channels)).await,
            Self::Sharded { connection, .. } => {
                change(connection, SubscriptionCommand::Unsubscribe, channels).await?;
                Ok(())
            }
        }
    }

    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        match self {
            Self::Plain { sink, config, .. } => {
                in_time(config, sink.ping::<Value>()).await?;
                Ok(())
            }
            Self::Sharded { connection, .. } => cmd("PING").exec_async(connection).await,
        }
    }
}

/// Changes subscriptions to sharded channels, with one command for each: those of one command have to be in one slot. Returns,
/// for each, whether this server has its slot.
async fn change(
    connection: &mut MultiplexedConnection,
    command: SubscriptionCommand,
    channels: Vec<String>,
) -> RedisResult<Vec<bool>> {
    let mut pipeline = Pipeline::with_capacity(channels.len());
    pipeline.ignore_errors();
    for channel in channels {
        pipeline.cmd(command.name()).arg(channel);
    }
    let answers: Vec<Value> = pipeline.query_async(connection).await?;
    let taken = answers.into_iter().map(|answer| match answer {
        Value::ServerError(error) => match RedisError::from(error) {
            error if is_elsewhere(&error) => Ok(false),
            error => Err(error),
        },
        _ => Ok(true),
    });
    taken.collect()
}

fn is_elsewhere(error: &RedisError) -> bool {
    let ErrorKind::Server(kind) = error.kind() else {
        return false;
    };
    matches!(kind, ServerErrorKind::Moved | ServerErrorKind::Ask)
}

impl SubscriptionCommand {
    fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "SSUBSCRIBE",
            Self::Unsubscribe => "SUNSUBSCRIBE",
        }
    }
}
