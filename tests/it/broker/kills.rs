//! Relays that are killed or frozen in the middle: subscribers at another relay see every job end once, as it did.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use comfy_relay::replay::{PlaybackSpeed, Replay};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::storage::lifecycle::comfyui;
use crate::support::database::TestDatabase;
use crate::support::program::Program;
use crate::support::recordings::{ERROR, TXT2IMG, workflow};
use crate::support::redis_server::RedisServer;
use crate::support::subscriber::{Received, Subscriber};
use crate::support::wait::wait_until;

const JOBS: usize = 50;

/// One of so many jobs fails at its server.
const FAILING: usize = 5;

/// Two servers, a database and a Redis, with relays that share them.
struct Farm {
    servers: Vec<Replay>,
    database: TestDatabase,
    redis: RedisServer,
}

/// Subscribers of all jobs at one relay.
struct Audience {
    watching: Vec<JoinHandle<Value>>,
    /// When they received something.
    heard: Arc<Mutex<Vec<Instant>>>,
}

impl Farm {
    async fn new() -> Option<Self> {
        let redis = RedisServer::start().await?;
        let mut servers = Vec::new();
        for _ in 0..2 {
            let speed = PlaybackSpeed::Real(60.0);
            servers.push(comfyui(&[TXT2IMG, ERROR], speed).await);
        }
        let database = TestDatabase::postgres().await;
        Some(Self {
            servers,
            database,
            redis,
        })
    }

    /// A relay before both servers.
    async fn relay(&self) -> Program {
        let urls: Vec<String> = self.servers.iter().map(Replay::url).collect();
        self.relay_at(&urls.join(",")).await
    }

    /// A relay that can follow neither of them.
    async fn onlooker(&self) -> Program {
        self.relay_at("http://127.0.0.1:1").await
    }

    async fn relay_at(&self, comfyui: &str) -> Program {
        let (database, redis) = (self.database.url(), self.redis.url());
        let variables = [
            ("DATABASE_URL", database.as_str()),
            ("REDIS_URL", &redis),
            ("COMFYUI_URL", comfyui),
            // Several seconds pass before another relay takes over, in which no server is missed.
            ("LOST_AFTER", "60"),
            // On a busy machine, the last job is submitted long after its subscriber has come.
            ("WEBSOCKET_JOB_WAIT", "300"),
        ];
        let relay = Program::start(&[], &variables);
        relay.ready().await;
        relay
    }

    /// Waits until the database has the ends of all jobs.
    async fn all_end(&self) {
        for ended in (JOBS / 5..=JOBS).step_by(5) {
            let what = format!("{ended} jobs have ended");
            wait_until(&what, async || self.count_ended().await >= ended).await;
        }
    }

    async fn count_ended(&self) -> usize {
        let ended =
            "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status IN ('completed', 'failed')";
        self.database.value(ended).await.parse().unwrap()
    }
}

impl Audience {
    /// Subscribers of all jobs, none of which is submitted yet.
    async fn at(relay: &Program) -> Self {
        let heard = Arc::default();
        let mut watching = Vec::new();
        for number in 0..JOBS {
            let url = relay.socket_url(&format!("/ws/job-{number}?close=end"));
            let mut subscriber = Subscriber::connect(url).await;
            let heard: Arc<Mutex<Vec<Instant>>> = Arc::clone(&heard);
            watching.push(tokio::spawn(async move {
                // Checks that nothing goes backwards, and that nothing comes after the end.
                loop {
                    match subscriber.receive().await {
                        Received::Closed(1000) => break,
                        Received::Closed(code) => panic!("closed with {code} before the end"),
                        _ => heard.lock().unwrap().push(Instant::now()),
                    }
                }
                subscriber.last().clone()
            }));
        }
        Self { watching, heard }
    }

    /// The final state of each job, once it has come.
    async fn ends(&mut self) -> BTreeMap<String, String> {
        let mut ends = BTreeMap::new();
        for watching in self.watching.drain(..) {
            let last = watching.await.unwrap();
            let [job, status] = ["job_id", "status"].map(|field| last[field].as_str().unwrap());
            ends.insert(job.to_owned(), status.to_owned());
        }
        ends
    }

    /// The longest time, in seconds, in which none of them received anything after one of these moments.
    fn longest_gap(&self, after: &[Instant]) -> f64 {
        let mut heard = self.heard.lock().unwrap().clone();
        heard.sort();
        let gaps = heard.windows(2).filter(|pair| {
            let mut moments = after.iter();
            moments.any(|moment| (pair[0]..pair[1]).contains(moment))
        });
        let gaps = gaps.map(|pair| (pair[1] - pair[0]).as_secs_f64());
        gaps.fold(0.0, f64::max)
    }
}

async fn submit_all(relay: &Program) {
    for number in 0..JOBS {
        let recording = recording_of(number);
        let workflow = workflow(recording).await;
        let body = json!({"job_id": format!("job-{number}"), "workflow": workflow});
        let answer = relay.post("/api/anime/jobs", &body).await;
        assert!(matches!(answer, Some((201 | 202, _))), "{answer:?}");
    }
}

fn recording_of(number: usize) -> &'static str {
    if number.is_multiple_of(FAILING) {
        ERROR
    } else {
        TXT2IMG
    }
}

/// How each job ends at its server.
fn true_ends() -> BTreeMap<String, String> {
    let end = |number| match recording_of(number) {
        ERROR => "failed",
        _ => "completed",
    };
    let ends = (0..JOBS).map(|number| (format!("job-{number}"), end(number).to_owned()));
    ends.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_jobs_end_once_at_another_relay_while_their_owner_is_killed_again_and_again() {
    let Some(farm) = Farm::new().await else {
        return;
    };
    let mut owner = farm.relay().await;
    wait_until("it follows both", async || owner.is("healthy").await).await;
    let mut heir = farm.relay().await;
    heir.logs("standing by").await;
    let onlooker = farm.onlooker().await;
    let mut audience = Audience::at(&onlooker).await;
    submit_all(&owner).await;
    let mut kills = Vec::new();
    for ended in [JOBS / 5, JOBS / 2] {
        wait_until("some have ended", async || {
            farm.count_ended().await >= ended
        })
        .await;
        kills.push(Instant::now());
        owner.kill().await;
        wait_until("another one follows both", async || {
            heir.follows_all().await
        })
        .await;
        owner = heir;
        heir = farm.relay().await;
        heir.logs("standing by").await;
    }
    farm.all_end().await;
    assert_eq!(audience.ends().await, true_ends());
    let gap = audience.longest_gap(&kills);
    eprintln!("{} kills, {JOBS} jobs, longest gap {gap:.1} s", kills.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_frozen_for_longer_than_its_lease_sends_nothing_when_it_goes_on() {
    let Some(farm) = Farm::new().await else {
        return;
    };
    let frozen = farm.relay().await;
    wait_until("it follows both", async || frozen.is("healthy").await).await;
    let heir = farm.relay().await;
    heir.logs("standing by").await;
    let onlooker = farm.onlooker().await;
    let mut audience = Audience::at(&onlooker).await;
    submit_all(&frozen).await;
    wait_until("some have ended", async || {
        farm.count_ended().await >= JOBS / 5
    })
    .await;
    frozen.signal(Signal::SIGSTOP);
    wait_until("the other one follows both", async || {
        heir.follows_all().await
    })
    .await;
    frozen.signal(Signal::SIGCONT);
    frozen.logs("standing by").await;
    farm.all_end().await;
    assert_eq!(audience.ends().await, true_ends());
    for number in 0..JOBS {
        let kept: u64 = {
            let key = format!("anime_state:job-{number}");
            farm.redis.command(&["HGET", &key, "seq"]).await
        };
        let row = format!("SELECT seq AS v FROM comfy_relay.jobs WHERE job_key = 'job-{number}'");
        assert_eq!(farm.database.value(&row).await, kept.to_string());
    }
}
