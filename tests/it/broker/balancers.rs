//! Relays behind a balancer, as `docs/scaling.md` sets it up, that are restarted one after another.

use std::sync::Arc;
use std::time::Duration;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::storage::lifecycle::comfyui;
use crate::support::database::TestDatabase;
use crate::support::nginx::free_port;
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::redis_server::RedisServer;
use crate::support::site::{Site, SiteFiles, documented};
use crate::support::wait::wait_until;

const DOCUMENT: &str = "docs/scaling.md";

/// The pause of a page that was not let in.
const PAUSE: Duration = Duration::from_millis(50);

/// How many pages follow the job.
const SUBSCRIBERS: usize = 20;

/// What the relays have in common.
struct Farm {
    db: TestDatabase,
    redis: RedisServer,
    comfyui: String,
    site: String,
}

impl Farm {
    /// Starts a relay, and waits until it takes jobs.
    async fn relay(&self, port: u16) -> Program {
        let address = format!("127.0.0.1:{port}");
        let relay = Program::start(
            &["--listen", &address, "--comfyui-url", &self.comfyui],
            &[
                ("DATABASE_URL", &self.db.url()),
                ("REDIS_URL", &self.redis.url()),
                ("PUBLIC_URL", &self.site),
                ("TRUSTED_PROXIES", "127.0.0.1"),
                // All pages have one address here.
                ("RATE_LIMIT_CONNECTIONS", "0"),
            ],
        );
        relay.ready().await;
        wait_until("it takes jobs", async || {
            relay.get("/readyz").await.is_some_and(|it| it.0 == 200)
        })
        .await;
        relay
    }

    /// Stops a relay in order, and starts it again.
    async fn restart(&self, mut relay: Program, port: u16) -> Program {
        relay.terminate();
        assert!(relay.exit_status().await.success());
        self.relay(port).await
    }
}

/// A page that follows the job to its end, and connects again whenever its socket is closed. Returns how often it was closed
/// with 1001.
async fn follow(site: Arc<Site>, url: String) -> usize {
    let (mut departures, mut progress) = (0, 0);
    loop {
        let Some(mut socket) = site.open(&url).await else {
            // The balancer has not noticed yet that the relay is away. A page, too, pauses before it connects again.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while let Some(message) = socket.next().await {
            match message {
                Ok(state) if state["type"] == "progress" => {
                    let reached = state["progress"].as_u64().unwrap();
                    assert!(reached >= progress, "{reached} after {progress}: {state}");
                    progress = reached;
                    if state["status"] == "completed" {
                        return departures;
                    }
                }
                Ok(_) => {}
                Err(code) => departures += usize::from(code == CloseCode::Away),
            }
        }
    }
}

/// Runs a job while each of two relays is restarted.
async fn survives(start: impl AsyncFn(SiteFiles, [u16; 2]) -> Option<Site>) {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(0.05)).await;
    let ports = [free_port(), free_port()];
    let files = SiteFiles::new(free_port());
    let farm = Farm {
        db: TestDatabase::postgres().await,
        redis,
        comfyui: comfyui.url(),
        site: format!("https://localhost:{}/", files.port),
    };
    let mut one = farm.relay(ports[0]).await;
    let mut two = farm.relay(ports[1]).await;
    let Some(site) = start(files, ports).await else {
        return;
    };
    let site = Arc::new(site);
    let client = site.client();
    wait_until("the balancer knows the relays", async || {
        let answer = client.get(format!("{}/readyz", site.url())).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let body = json!({"job_id": "shot", "workflow": workflow(TXT2IMG).await});
    let jobs = format!("{}/api/anime/jobs", site.url());
    let answer = client.post(jobs).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let url = site.url().replace("https:", "wss:") + "/ws/shot";
    let mut pages = JoinSet::new();
    for _ in 0..SUBSCRIBERS {
        pages.spawn(follow(site.clone(), url.clone()));
    }
    let connections = async |relay: &Program| {
        // Those of this relay alone.
        let url = format!("http://{}/metrics", relay.address());
        let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix("comfy_relay_subscribers "));
        count.unwrap().parse::<usize>().unwrap()
    };
    let all_follow = async |one: &Program, two: &Program| {
        wait_until("all pages follow the job", async || {
            connections(one).await + connections(two).await == SUBSCRIBERS
        })
        .await;
    };
    all_follow(&one, &two).await;
    one = farm.restart(one, ports[0]).await;
    all_follow(&one, &two).await;
    two = farm.restart(two, ports[1]).await;
    all_follow(&one, &two).await;
    comfyui.set_speed(PlaybackSpeed::Fastest);
    let departures: usize = pages.join_all().await.into_iter().sum();
    // All were at the relay that was restarted last, at the latest after the first restart.
    assert!(departures >= SUBSCRIBERS, "{departures}");
    drop((one, two));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_behind_haproxy_survive_a_rolling_restart() {
    survives(async |files, [one, two]| {
        let config = documented(DOCUMENT, "haproxy")
            .replace("bind :443", &format!("bind 127.0.0.1:{}", files.port))
            .replace("/etc/haproxy/studio.example.pem", &files.both)
            .replace("10.0.0.1:8328", &format!("127.0.0.1:{one}"))
            .replace("10.0.0.2:8328", &format!("127.0.0.1:{two}"));
        files.haproxy(&config).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_behind_nginx_survive_a_rolling_restart() {
    survives(async |files, [one, two]| {
        let letsencrypt = "/etc/letsencrypt/live/studio.example";
        let listen = format!("listen 127.0.0.1:{} ssl;", files.port);
        let config = documented(DOCUMENT, "nginx")
            .replace("listen 443 ssl;", &listen)
            .replace("studio.example;", "localhost;")
            .replace(&format!("{letsencrypt}/fullchain.pem"), &files.certificate)
            .replace(&format!("{letsencrypt}/privkey.pem"), &files.key)
            .replace("10.0.0.1:8328", &format!("127.0.0.1:{one}"))
            .replace("10.0.0.2:8328", &format!("127.0.0.1:{two}"));
        files.nginx(&config).await
    })
    .await;
}
