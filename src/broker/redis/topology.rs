//! [`ClusterTopology`]: the nodes of a Redis Cluster, as they say it themselves.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult, Value, cmd};
use tokio::time::{Instant, sleep_until};

use super::connect::connect;
use crate::config::{RedisConfig, RedisHost};

/// How long other nodes may answer after the first one. A node that is cut off shows what was; a newer answer is preferred.
const GRACE: Duration = Duration::from_millis(200);

/// How many nodes are asked at most. Any one of them knows all.
const MAX_ASKED: usize = 32;

/// Which master holds which slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ClusterTopology {
    /// Grows with every change that the masters have agreed on.
    epoch: u64,
    pub(super) masters: Vec<(RedisHost, Vec<RangeInclusive<u16>>)>,
    replicas: Vec<RedisHost>,
}

/// Asks nodes for the topology, over connections that are kept.
#[derive(Debug)]
pub(super) struct TopologyReader {
    config: RedisConfig,
    connections: HashMap<RedisHost, MultiplexedConnection>,
    /// The nodes that were there last.
    known: Vec<RedisHost>,
}

impl TopologyReader {
    pub(super) fn new(config: &RedisConfig) -> Self {
        Self {
            config: config.clone(),
            connections: HashMap::new(),
            known: Vec::new(),
        }
    }

    /// The newest topology that a node knows which takes commands. Fails with what the last one says that does not.
    pub(super) async fn read(&mut self) -> RedisResult<ClusterTopology> {
        let asking = self.hosts().into_iter().map(|host| {
            let kept = self.connections.remove(&host);
            let config = self.config.node(host);
            async move { ask(config, kept).await }
        });
        let mut asking: FuturesUnordered<_> = asking.collect();
        let mut newest = Err(io::Error::other("the Redis Cluster has no nodes").into());
        let mut deadline = None;
        loop {
            let answer = tokio::select! {
                answer = asking.next() => answer,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => None,
            };
            match answer {
                None => break,
                Some(Ok((host, connection, topology))) => {
                    self.connections.insert(host, connection);
                    deadline.get_or_insert_with(|| Instant::now() + GRACE);
                    let best = newest.as_ref().map_or(0, |it: &ClusterTopology| it.epoch);
                    if newest.is_err() || topology.epoch > best {
                        newest = Ok(topology);
                    }
                }
                Some(Err(error)) => newest = newest.or(Err(error)),
            }
        }
        let newest = newest?;
        let masters = newest.masters.iter().map(|(host, _)| host);
        self.known = masters.chain(&newest.replicas).cloned().collect();
        let known: HashSet<&RedisHost> = self.known.iter().chain(&self.config.hosts).collect();
        (self.connections).retain(|host, _| known.contains(host));
        Ok(newest)
    }

    /// The nodes that are asked. Those of the settings are always among them: every other address may have changed.
    fn hosts(&self) -> Vec<RedisHost> {
        let mut seen = HashSet::new();
        let hosts = self.config.hosts.iter().chain(&self.known);
        let hosts = hosts.filter(|host| seen.insert(*host));
        hosts.take(MAX_ASKED).cloned().collect()
    }
}

/// The topology as one node knows it.
async fn ask(
    config: RedisConfig,
    kept: Option<MultiplexedConnection>,
) -> RedisResult<(RedisHost, MultiplexedConnection, ClusterTopology)> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => connect(&config).await?,
    };
    let mut questions = Pipeline::with_capacity(2);
    for question in ["INFO", "SLOTS"] {
        questions.add_command(cmd("CLUSTER").arg(question).clone());
    }
    let (info, slots): (String, Vec<Value>) = questions.query_async(&mut connection).await?;
    let host = config.hosts[0].clone();
    let topology = ClusterTopology::read(&info, slots, &host)?;
    Ok((host, connection, topology))
}

impl ClusterTopology {
    /// Reads the answers of `asked` to `CLUSTER INFO` and `CLUSTER SLOTS`.
    fn read(info: &str, slots: Vec<Value>, asked: &RedisHost) -> RedisResult<Self> {
        let field = |name: &str| {
            let mut fields = info.lines().filter_map(|line| line.trim().split_once(':'));
            fields.find_map(|(found, value)| (found == name).then_some(value))
        };
        match field("cluster_state") {
            Some("ok") => {}
            state => return Err(unusable(state, asked)),
        }
        let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok());
        let mut masters: Vec<(RedisHost, Vec<RangeInclusive<u16>>)> = Vec::new();
        let mut replicas: Vec<RedisHost> = Vec::new();
        for range in slots {
            let Value::Array(range) = range else { continue };
            let [Value::Int(first), Value::Int(last), nodes @ ..] = range.as_slice() else {
                continue;
            };
            let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last)) else {
                continue;
            };
            let mut hosts = nodes.iter().map(|node| host(node, asked));
            let Some(Some(master)) = hosts.next() else {
                continue;
            };
            // Each range of slots names them again.
            for replica in hosts.flatten() {
                if !replicas.contains(&replica) {
                    replicas.push(replica);
                }
            }
            match masters.iter_mut().find(|(host, _)| *host == master) {
                Some((_, slots)) => slots.push(first..=last),
                None => masters.push((master, vec![first..=last])),
            }
        }
        if masters.is_empty() {
            return Err(unusable(Some("no slots"), asked));
        }
        Ok(Self {
            epoch: epoch.unwrap_or(0),
            masters,
            replicas,
        })
    }
}

/// Where a node says that another one listens. One that does not know its own address is where it was asked.
fn host(node: &Value, asked: &RedisHost) -> Option<RedisHost> {
    let Value::Array(node) = node else {
        return None;
    };
    let [name, Value::Int(port), ..] = node.as_slice() else {
        return None;
    };
    let name = match name {
        Value::BulkString(name) => String::from_utf8(name.clone()).ok()?,
        Value::Nil => String::new(),
        _ => return None,
    };
    let name = match name.as_str() {
        "?" => return None,
        "" => asked.name.clone(),
        _ => name,
    };
    let port = u16::try_from(*port).ok()?;
    Some(RedisHost { name, port })
}

fn unusable(state: Option<&str>, asked: &RedisHost) -> RedisError {
    let state = state.unwrap_or("unknown");
    let (name, port) = (&asked.name, asked.port);
    let text = format!("the Redis Cluster is not usable: its state at {name}:{port} is {state}");
    io::Error::other(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, port: i64) -> Value {
        let id = Value::BulkString(b"id".to_vec());
        Value::Array(vec![
            Value::BulkString(name.into()),
            Value::Int(port),
            id,
            Value::Array(Vec::new()),
        ])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        let slots = [Value::Int(first), Value::Int(last)];
        Value::Array(slots.into_iter().chain(nodes).collect())
    }

    fn at(name: &str, port: u16) -> RedisHost {
        let name = name.to_owned();
        RedisHost { name, port }
    }

    const INFO: &str = "cluster_state:ok\r\ncluster_current_epoch:6\r\n";

    #[test]
    fn the_slots_of_each_master_are_read() {
        let slots = vec![
            range(0, 99, vec![node("", 7000), node("two", 7001)]),
            range(200, 299, vec![node("three", 7002)]),
            range(300, 399, vec![node("", 7000), node("two", 7001)]),
            range(400, 500, vec![node("?", 7004)]),
            Value::Nil,
            range(-1, 70_000, vec![node("four", 7003)]),
        ];
        let topology = ClusterTopology::read(INFO, slots, &at("one", 1)).unwrap();
        let expected = ClusterTopology {
            epoch: 6,
            masters: vec![
                (at("one", 7000), vec![0..=99, 300..=399]),
                (at("three", 7002), vec![200..=299]),
            ],
            replicas: vec![at("two", 7001)],
        };
        assert_eq!(topology, expected);
    }

    #[test]
    fn the_nodes_of_the_settings_are_asked_however_many_others_are_known() {
        let mut reader = TopologyReader::new(&RedisConfig::new("named".to_owned()));
        let named = reader.config.hosts[0].clone();
        let ports = 7000..7100;
        reader.known = ports.map(|port| at("old", port)).collect();
        reader.known.insert(50, named.clone());
        let asked = reader.hosts();
        assert_eq!(asked.len(), MAX_ASKED);
        assert_eq!(asked.iter().filter(|host| **host == named).count(), 1);
        assert_eq!(asked[1..4], reader.known[..3]);
    }

    #[test]
    fn a_node_that_takes_no_commands_is_not_believed() {
        let slots = vec![range(0, 16_383, vec![node("one", 7000)])];
        for info in ["cluster_state:fail\r\ncluster_current_epoch:9\r\n", ""] {
            let read = ClusterTopology::read(info, slots.clone(), &at("one", 7000));
            assert!(read.unwrap_err().to_string().contains("one:7000"));
        }
        assert!(ClusterTopology::read(INFO, Vec::new(), &at("one", 1)).is_err());
    }
}
