//! Commands that a node of a Redis Cluster sends to another one, which has the slot of the key or is about to get it.

use std::collections::HashMap;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, cmd};

use super::RedisShared;
use super::connect::connect;
use super::node::RedisNode;
use crate::config::{RedisConfig, RedisHost};

/// Where a command is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Redirection {
    host: RedisHost,
    /// The node is getting the slot, and takes commands for it only after `ASKING`.
    is_asking: bool,
}

impl RedisShared {
    /// The answers to commands, in their order; an answer may be an error of the server. `first` is sent once to each node
    /// before all others.
    pub(super) async fn query(
        &self,
        node: &RedisNode,
        connection: &mut MultiplexedConnection,
        commands: Vec<Cmd>,
        first: Option<&Cmd>,
    ) -> RedisResult<Vec<Value>> {
        if !self.config.is_cluster {
            return send(connection, commands).await;
        }
        let mut answers = send(connection, commands.iter().cloned()).await?;
        let mut redirected: HashMap<Redirection, Vec<usize>> = HashMap::new();
        for (index, answer) in answers.iter().enumerate() {
            if let Some(target) = Redirection::of(answer, &node.config) {
                redirected.entry(target).or_default().push(index);
            }
        }
        if redirected.keys().any(|target| !target.is_asking) {
            self.topology_changed.notify_one();
        }
        let commands = &commands;
        let sending = redirected.into_iter().map(|(target, indexes)| async move {
            let answers = self.send_to(&target, &indexes, commands, first).await;
            // What cannot be sent on keeps the answer of the node that has sent it away.
            answers.map(|answers| indexes.into_iter().zip(answers))
        });
        for (index, answer) in join_all(sending).await.into_iter().flatten().flatten() {
            answers[index] = answer;
        }
        Ok(answers)
    }

    async fn send_to(
        &self,
        target: &Redirection,
        indexes: &[usize],
        commands: &[Cmd],
        first: Option<&Cmd>,
    ) -> RedisResult<Vec<Value>> {
        let mut connection = connect(&self.config.node(target.host.clone())).await?;
        if let Some(first) = first {
            first.exec_async(&mut connection).await?;
        }
        let commands = indexes.iter().map(|&index| commands[index].clone());
        if !target.is_asking {
            return send(&mut connection, commands).await;
        }
        let commands = commands.flat_map(|command| [cmd("ASKING"), command]);
        let answers = send(&mut connection, commands).await?;
        Ok(answers.into_iter().skip(1).step_by(2).collect())
    }
}

impl Redirection {
    /// Where the sender of an answer sends to; `None` if it has answered itself.
    fn of(answer: &Value, sender: &RedisConfig) -> Option<Self> {
        let Value::ServerError(error) = answer else {
            return None;
        };
        let error = RedisError::from(error.clone());
        let (address, _) = error.redirect_node()?;
        let (name, port) = address.rsplit_once(':')?;
        let name = match name.trim_matches(['[', ']']) {
            // It does not know its address: the other one has the same, with another port.
            "" => sender.hosts[0].name.as_str(),
            name => name,
        };
        Some(Self {
            host: RedisHost {
                name: name.to_owned(),
                port: port.parse().ok()?,
            },
            is_asking: error.kind() == ErrorKind::Server(ServerErrorKind::Ask),
        })
    }
}

async fn send(
    connection: &mut MultiplexedConnection,
    commands: impl IntoIterator<Item = Cmd>,
) -> RedisResult<Vec<Value>> {
    let mut pipeline = Pipeline::new();
    pipeline.ignore_errors();
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline.query_async(connection).await
}
