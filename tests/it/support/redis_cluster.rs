//! A real Redis Cluster: three masters and a replica of the first.

use comfy_relay::config::RedisConfig;

use super::nginx::free_port;
use super::redis_server::RedisServer;
use super::wait::wait_until;

/// The slots of each master.
const SLOTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

/// How long a node is silent before the others agree that it has failed, in milliseconds.
const NODE_TIMEOUT: &str = "2000";

/// A Redis Cluster, killed on drop.
pub(crate) struct RedisCluster {
    /// The masters in the order of their slots, then the replica.
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster, and waits until it takes commands; `None` on a machine without Redis.
    pub(crate) async fn start() -> Option<Self> {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..=SLOTS.len() {
            let bus = free_port().to_string();
            let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            let limits = ["--cluster-node-timeout", NODE_TIMEOUT];
            // A replica takes over however long it was cut off.
            let replicas = ["--cluster-replica-validity-factor", "0"];
            let delay = ["--repl-diskless-sync-delay", "0"];
            let settings = [&settings[..], &limits, &replicas, &delay].concat();
            nodes.push(RedisServer::with(&settings)?);
            buses.push(bus);
        }
        let cluster = Self { nodes };
        for (index, node) in cluster.nodes.iter().enumerate() {
            node.ready().await;
            let epoch = (index + 1).to_string();
            let _: () = node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            if let Some((first, last)) = SLOTS.get(index) {
                let (first, last) = (first.to_string(), last.to_string());
                let add = ["CLUSTER", "ADDSLOTSRANGE", &first, &last];
                let _: () = node.command(&add).await;
            }
        }
        let first = &cluster.nodes[0];
        for (node, bus) in cluster.nodes.iter().zip(&buses).skip(1) {
            let port = node.port().to_string();
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, bus];
            let _: () = first.command(&meet).await;
        }
        let replica = cluster.nodes.last().unwrap();
        let id: String = first.command(&["CLUSTER", "MYID"]).await;
        wait_until("the replica knows its master", async || {
            let replicate = ["CLUSTER", "REPLICATE", &id];
            replica.try_command::<()>(&replicate).await.is_ok()
        })
        .await;
        wait_until("all nodes are ready", async || {
            for node in &cluster.nodes {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                let is_ready = info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:4")
                    && info.contains("cluster_slots_ok:16384");
                if !is_ready {
                    return false;
                }
            }
            let role: Vec<redis::Value> = replica.command(&["ROLE"]).await;
            let state = role.get(3);
            state.is_some_and(|state| *state == redis::Value::BulkString(b"connected".to_vec()))
        })
        .await;
        Some(cluster)
    }

    pub(crate) fn url(&self) -> String {
        // Nothing answers at the first, and the second names all nodes.
        format!("redis+cluster://127.0.0.1:1,{}", self.nodes[1].address())
    }

    /// The cluster as the relay's settings name it.
    pub(crate) fn config(&self) -> RedisConfig {
        self.url().parse().unwrap()
    }

    /// The same, with sharded channels.
    pub(crate) fn sharded(&self) -> RedisConfig {
        RedisConfig {
            has_sharded_channels: true,
            ..self.config()
        }
    }

    /// The place of the master that holds a key from the start, and the key's slot.
    pub(crate) async fn holder(&self, key: &str) -> (usize, u16) {
        let slot: u16 = self.nodes[1].command(&["CLUSTER", "KEYSLOT", key]).await;
        let holds = |(first, last): &(u16, u16)| (*first..=*last).contains(&slot);
        (SLOTS.iter().position(holds).unwrap(), slot)
    }

    /// A field of a hash, from whichever node holds it.
    pub(crate) async fn field(&self, key: &str, field: &str) -> Option<String> {
        for node in &self.nodes {
            if !node.is_running() {
                continue;
            }
            let read = node.try_command(&["HGET", key, field]).await;
            if let Ok(value) = read {
                return value;
            }
        }
        None
    }

    /// Moves a slot to another master, as `redis-cli --cluster reshard` does; `between` runs while it has half moved.
    pub(crate) async fn move_slot(
        &self,
        slot: u16,
        (from, to): (usize, usize),
        between: impl AsyncFnOnce(),
    ) {
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        let slot = slot.to_string();
        let old: String = from.command(&["CLUSTER", "MYID"]).await;
        let new: String = to.command(&["CLUSTER", "MYID"]).await;
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &old];
        let _: () = to.command(&importing).await;
        let migrating = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &new];
        let _: () = from.command(&migrating).await;
        let count = ["CLUSTER", "GETKEYSINSLOT", &slot, "100"];
        let port = to.port().to_string();
        for key in from.command::<Vec<String>>(&count).await {
            let migrate = ["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"];
            let _: () = from.command(&migrate).await;
        }
        between().await;
        for node in [to, from] {
            let _: () = node
                .command(&["CLUSTER", "SETSLOT", &slot, "NODE", &new])
                .await;
        }
    }
}
