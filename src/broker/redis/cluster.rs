//! The task that knows the masters of a Redis Cluster, and runs what publishes and receives at each.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::RedisShared;
use super::node::RedisNode;
use super::nodes::NodeMap;
use super::topology::{ClusterTopology, TopologyReader};
use crate::broker::JobState;

impl RedisShared {
    /// Publishes to a server and receives from it until the relay stops or the node leaves. What it has not sent goes to the
    /// nodes that hold the jobs now.
    pub(super) async fn run_node(&self, node: Arc<RedisNode>, stop: &CancellationToken) {
        tokio::join!(
            self.keep_publishing(&node, stop),
            self.keep_receiving(&node)
        );
        if !stop.is_cancelled() {
            self.publish_all(node.outbox.take_now(usize::MAX));
        }
    }

    /// A server, once one is known: with each attempt another one.
    pub(super) async fn any_node(&self, attempt: usize) -> Arc<RedisNode> {
        let mut nodes = self.nodes.subscribe();
        loop {
            {
                let nodes = nodes.borrow_and_update();
                let all = nodes.all();
                if !all.is_empty() {
                    return all[attempt % all.len()].clone();
                }
            }
            if nodes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn publish_all(&self, states: Vec<JobState>) {
        for state in states {
            self.publish(state);
        }
    }

    /// Runs the masters of the cluster, whichever they are, until `stop`.
    pub(super) async fn run_cluster(self: &Arc<Self>, stop: &CancellationToken) {
        let mut running = JoinSet::new();
        let mut reader = TopologyReader::new(&self.config);
        let following = async {
            loop {
                while running.try_join_next().is_some() {}
                match reader.read().await {
                    Ok(topology) => {
                        self.place(topology, &mut running, stop);
                        self.finding.up();
                        tokio::select! {
                            () = sleep(self.config.ping_interval) => {}
                            () = self.topology_changed.notified() => {
                                // Several nodes notice a change at the same moment, before it is over.
                                sleep(self.config.min_backoff).await;
                            }
                        }
                    }
                    Err(error) => self.finding.down(&error).await,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = following => {}
        }
        for node in self.nodes().all() {
            node.left.cancel();
        }
        while running.join_next().await.is_some() {}
    }

    /// Gives the slots to their masters: those that stay keep their connections.
    fn place(
        self: &Arc<Self>,
        topology: ClusterTopology,
        running: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let before: Vec<Arc<RedisNode>> = self.nodes().all().to_vec();
        let mut added = Vec::new();
        let masters = topology.masters.into_iter().map(|(host, slots)| {
            let is_it = |node: &&Arc<RedisNode>| node.config.hosts[0] == host;
            let node = before.iter().find(is_it).cloned().unwrap_or_else(|| {
                let config = self.config.node(host);
                let node = Arc::new(RedisNode::new(config, &self.metrics));
                added.push(node.clone());
                node
            });
            (node, slots)
        });
        let map = NodeMap::new(masters.collect());
        if self.nodes().is_as(&map) {
            return;
        }
        let after = map.all().to_vec();
        self.nodes.send_replace(map);
        for node in &before {
            if !after.iter().any(|it| Arc::ptr_eq(it, node)) {
                tracing::debug!(node = %node.config, "no master of the Redis Cluster any more");
                node.left.cancel();
            }
            // Of the jobs that have moved, the new holder has to be sent what waits at the old one.
            self.publish_all(node.outbox.take_now(usize::MAX));
        }
        self.publish_all(self.unplaced.take_now(usize::MAX));
        for node in added {
            tracing::debug!(node = %node.config, "a master of the Redis Cluster");
            let (shared, stop) = (self.clone(), stop.clone());
            running.spawn(async move { shared.run_node(node, &stop).await });
        }
        for node in after {
            node.followed_changed.notify_one();
        }
    }
}
