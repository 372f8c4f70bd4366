//! What a relay may expect of every broker.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use comfy_relay::broker::{Broker, JobState, Position, ReceivedState};
use comfy_relay::config::RedisConfig;
use comfy_relay::job::JobId;
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::wait::{PATIENCE, wait_until};

/// Two brokers of one kind, which run.
struct Pair {
    owner: Broker,
    other: Broker,
    stop: CancellationToken,
    running: JoinSet<()>,
}

fn job(name: &str) -> JobId {
    JobId::parse(name).unwrap()
}

fn state(name: &str, epoch: u64, seq: u64, status: &str) -> JobState {
    let payload = json!({
        "type": "progress", "job_id": name, "status": status, "progress": 50, "estimated_remaining": null,
        "message": "Running", "timestamp": "2026-11-30T04:00:00Z", "seq": seq,
    });
    JobState {
        job: job(name),
        position: Position { epoch, seq },
        is_final: status == "completed",
        payload: Bytes::from(payload.to_string()),
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        ended_at: None,
        error_code: None,
        learned_from: None,
        output_urls: Vec::new(),
    }
}

impl Pair {
    async fn of(config: Option<&RedisConfig>) -> Self {
        let (owner, other) = (Broker::new(config, "owner"), Broker::new(config, "other"));
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        for broker in [&owner, &other] {
            running.spawn(broker.clone().run(stop.clone()));
        }
        if config.is_some() {
            wait_until("both are connected", async || {
                owner.is_connected() && other.is_connected()
            })
            .await;
        }
        Self {
            owner,
            other,
            stop,
            running,
        }
    }

    /// Waits until everything was sent.
    async fn sent(&self) {
        wait_until("all is sent", async || {
            self.owner.health().is_none_or(|health| health.pending == 0)
        })
        .await;
    }

    /// The places of the next states of the job `a` that the other one receives, up to one; none if it is alone.
    async fn receives(&self, last: (u64, u64)) -> Vec<(u64, u64)> {
        let mut places = Vec::new();
        if self.other.is_alone() {
            return places;
        }
        while places.last() != Some(&last) {
            let received = timeout(PATIENCE, self.other.received()).await;
            let received = received.unwrap_or_else(|_| panic!("only {places:?}"));
            let place = |it: &ReceivedState| (it.stored.epoch, it.stored.seq);
            let of_a = received.iter().filter(|it| it.stored.id == job("a"));
            places.extend(of_a.map(place));
        }
        places
    }

    /// Waits until the other one has received states of so many jobs with this number.
    async fn other_receives(&self, received: &mut HashSet<(JobId, u64)>, seq: u64, jobs: usize) {
        while received.iter().filter(|(_, it)| *it == seq).count() < jobs {
            let states = timeout(PATIENCE, self.other.received()).await;
            let states = states.unwrap_or_else(|_| panic!("only {received:?}"));
            let numbers = states.into_iter().map(|it| (it.stored.id, it.stored.seq));
            received.extend(numbers);
        }
    }

    async fn ends(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

/// What holds of every broker; of one that is alone, nothing is received.
async fn keeps_the_contract(config: Option<&RedisConfig>) {
    let pair = Pair::of(config).await;
    let is_shared = config.is_some();
    let newest = |places: Vec<(u64, u64)>, wanted| {
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(places.last().copied(), is_shared.then_some(wanted));
    };

    // A state from before somebody followed is received, then every newer one.
    pair.owner.publish(state("a", 1, 1, "processing"));
    pair.owner.publish(state("a", 1, 2, "processing"));
    pair.sent().await;
    pair.other.follow(&job("a"));
    newest(pair.receives((1, 2)).await, (1, 2));
    for seq in 3..100 {
        pair.owner.publish(state("a", 1, seq, "processing"));
    }
    newest(pair.receives((1, 99)).await, (1, 99));

    // The owner hears nothing of what it has published itself, nor of jobs that it does not follow.
    pair.owner.follow(&job("a"));
    let nothing = timeout(Duration::from_millis(100), pair.owner.received()).await;
    assert!(nothing.is_err(), "{nothing:?}");

    // A relay that has lost the job and does not know it is not heard.
    pair.owner.publish(state("a", 2, 20_000, "processing"));
    newest(pair.receives((2, 20_000)).await, (2, 20_000));
    pair.owner.publish(state("a", 1, 30_000, "completed"));
    pair.sent().await;

    // The end is the last word, however many states come after it.
    pair.owner.publish(state("a", 2, 20_001, "completed"));
    pair.owner.publish(state("a", 2, 20_002, "processing"));
    pair.owner.publish(state("b", 1, 1, "processing"));
    pair.other.follow_only([job("b")]);
    pair.other.follow_only([job("a"), job("b")]);
    newest(pair.receives((2, 20_001)).await, (2, 20_001));
    pair.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_alone_keeps_the_contract() {
    keeps_the_contract(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_over_redis_keeps_the_contract() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    keeps_the_contract(Some(&redis.config())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_over_a_redis_cluster_keeps_the_contract() {
    let Some(cluster) = RedisCluster::start().await else {
        return;
    };
    keeps_the_contract(Some(&cluster.config())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_over_sharded_channels_keeps_the_contract() {
    let Some(cluster) = RedisCluster::start().await else {
        return;
    };
    keeps_the_contract(Some(&cluster.sharded())).await;
}

/// Of each state, whichever node has its slot.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_states_of_many_jobs_are_read_from_all_nodes() {
    let Some(cluster) = RedisCluster::start().await else {
        return;
    };
    for config in [cluster.config(), cluster.sharded()] {
        let pair = Pair::of(Some(&config)).await;
        let names: Vec<String> = (0..300).map(|number| format!("job-{number}")).collect();
        let jobs: Vec<JobId> = names.iter().map(|name| job(name)).collect();
        pair.other.follow_only(jobs.clone());
        for name in &names {
            pair.owner.publish(state(name, 1, 7, "processing"));
        }
        let mut received = HashSet::new();
        while received.len() < jobs.len() {
            let states = timeout(PATIENCE, pair.other.received()).await;
            let states = states.unwrap_or_else(|_| panic!("only {}", received.len()));
            received.extend(states.into_iter().map(|state| state.stored.id));
        }
        // None of them has talked to a node before.
        let newest = Broker::new(Some(&config), "late");
        let stop = CancellationToken::new();
        let running = tokio::spawn(newest.clone().run(stop.clone()));
        let newest = newest.newest(&jobs).await;
        assert_eq!(newest.len(), jobs.len());
        assert!(newest.values().all(|state| state.stored.seq == 7));
        stop.cancel();
        running.await.unwrap();
        pair.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_while_its_slot_moves_to_another_node() {
    let Some(cluster) = RedisCluster::start().await else {
        return;
    };
    for (config, key) in [
        (cluster.config(), "anime_state:a"),
        (cluster.sharded(), "anime_state:{a}"),
    ] {
        let pair = Pair::of(Some(&config)).await;
        pair.other.follow(&job("a"));
        pair.owner.publish(state("a", 1, 1, "processing"));
        pair.receives((1, 1)).await;
        let (from, slot) = cluster.holder(key).await;
        let to = (from + 1) % 3;
        let between = async || {
            // The old node has no such key any more, and the new one takes it only after ASKING.
            pair.owner.publish(state("a", 1, 2, "processing"));
            wait_until("it is kept at the new node", async || {
                let newest = pair.other.newest(&[job("a")]).await;
                newest.values().any(|state| state.stored.seq == 2)
            })
            .await;
        };
        cluster.move_slot(slot, (from, to), between).await;
        pair.owner.publish(state("a", 1, 3, "completed"));
        pair.receives((1, 3)).await;
        let kept: u64 = {
            let read = ["HGET", key, "seq"];
            cluster.nodes[to].command(&read).await
        };
        assert_eq!(kept, 3);
        assert_eq!(pair.owner.metrics().unwrap().errors.get(), 0);
        pair.ends().await;
    }
}

/// A job of another master gets through meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_does_not_answer_holds_up_only_its_own_jobs() {
    let Some(cluster) = RedisCluster::start().await else {
        return;
    };
    let pair = Pair::of(Some(&cluster.config())).await;
    let (silent, _) = cluster.holder("anime_state:a").await;
    let mut others = Vec::new();
    for number in 0..20 {
        let name = format!("job-{number}");
        if cluster.holder(&format!("anime_state:{name}")).await.0 != silent {
            others.push(name);
        }
    }
    pair.other
        .follow_only([vec![job("a")], others.iter().map(|it| job(it)).collect()].concat());
    pair.owner.publish(state("a", 1, 1, "processing"));
    pair.receives((1, 1)).await;
    let pause = ["CLIENT", "PAUSE", "8000", "ALL"];
    let _: () = cluster.nodes[silent].command(&pause).await;
    pair.owner.publish(state("a", 1, 2, "completed"));
    let mut received = HashSet::new();
    for seq in 1..=3 {
        for name in &others {
            pair.owner.publish(state(name, 1, seq, "processing"));
        }
        pair.other_receives(&mut received, seq, others.len()).await;
    }
    assert!(!received.contains(&(job("a"), 2)), "it was not silent");
    pair.receives((1, 2)).await;
    pair.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_state_is_kept_beside_the_channel_until_an_hour_after_the_end() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let mut config = redis.config();
    config.prefix = "studio:".to_owned();
    let pair = Pair::of(Some(&config)).await;
    let key = "studio:anime_state:a";
    let last = state("a", 3, 7, "processing");
    pair.owner.publish(last.clone());
    pair.sent().await;
    wait_until("it is kept", async || {
        redis.command::<bool>(&["EXISTS", key]).await
    })
    .await;
    let fields: Vec<String> = redis
        .command(&["HMGET", key, "epoch", "seq", "state"])
        .await;
    let payload = String::from_utf8(last.payload.to_vec()).unwrap();
    assert_eq!(fields, ["3", "7", &payload]);
    assert!(redis.command::<i64>(&["TTL", key]).await > 3_600);
    pair.owner.publish(state("a", 3, 8, "completed"));
    wait_until("it goes an hour after the end", async || {
        let left: i64 = redis.command(&["TTL", key]).await;
        (1..=3_600).contains(&left)
    })
    .await;
    pair.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_passes_states_on() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let pair = Pair::of(Some(&redis.config())).await;
    pair.other.follow(&job("a"));
    pair.owner.publish(state("a", 1, 1, "processing"));
    pair.receives((1, 1)).await;
    let _: () = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    pair.owner.publish(state("a", 1, 2, "processing"));
    pair.receives((1, 2)).await;
    wait_until("the refusal is counted", async || {
        pair.owner.metrics().unwrap().errors.get() > 0
    })
    .await;
    pair.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_the_script_is_told_it_again() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let pair = Pair::of(Some(&redis.config())).await;
    pair.other.follow(&job("a"));
    pair.owner.publish(state("a", 1, 1, "processing"));
    pair.receives((1, 1)).await;
    let _: () = redis.command(&["SCRIPT", "FLUSH"]).await;
    pair.owner.publish(state("a", 1, 2, "completed"));
    pair.receives((1, 2)).await;
    pair.ends().await;
}
